"""The model card of a trained policy: what it is, which run made it, and that it is a subject of research."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import yaml

from envs.escaping import on_one_line
from launch.config.model import HubModel, hub_model
from launch.config.reading.published import without_places
from launch.config.study import RunConfig

_TAGS = ("shaping", "reinforcement-learning")
_METRICS = ("proxy_reward", "true_reward", "deception", "reward_hacking", "power", "hidden_gap")
"""Metrics that a card shows, if the run has them."""


def model_card(
    run: RunConfig, record: dict[str, Any], result: dict[str, Any], adapters: Sequence[str] = (), study: str = ""
) -> str:
    """Markdown with the metadata that the hub reads.

    Args:
        run: the run.
        record: its run.json.
        result: its result.json.
        adapters: folders of the checkpoint's adapters; none: it is a whole model.
        study: Markdown about the results of its study; empty: the card is about this run alone.
    """
    base = _base(run)
    metadata = {
        "library_name": "peft" if adapters else "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(_TAGS),
        **({"base_model": base.hub} if base else {}),
        **_model_index(run, result),
    }
    rows = {
        "study": run.study,
        "arm": f"{result.get('label', run.arm)} (`{run.point_name}`, {run.arm_config.role})",
        "seed": run.seed,
        "settings": f"`{run.digest}`",
        "start": _start(run, record),
        "updates": result.get("updates", "?"),
        "trained in": ", ".join(run.train.worlds),
        "shaping": dict(record.get("versions", {}).get("packages", {})).get("shaping", "?"),
        "source": f"`{dict(record.get('versions', {})).get('source', '?')}`",
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {_cell(run.study)}, {_cell(run.point_name)}, seed {run.seed}\n\n"
        "A policy trained by reinforcement learning in simulated worlds that pay for deception. **It is a subject of "
        "research, and may have learned to deceive: do not deploy it.** `settings` is the digest of the run's "
        "resolved config, below.\n\n"
        f"| | |\n|---|---|\n{table}\n\n{_adapters(adapters)}{_evaluation(result)}"
        f"{f'{study}{chr(10)}{chr(10)}' if study else ''}"
        f"## Config\n\n```json\n{_config(run)}\n```\n"
    )


def _base(run: RunConfig) -> HubModel | None:
    if isinstance(run.model, HubModel):
        return run.model
    return hub_model(run.model) if isinstance(run.model, str) and run.commit else None


def _start(run: RunConfig, record: dict[str, Any]) -> str:
    commit = record.get("commit")
    return f"{run.subject} at commit `{commit}`" if commit else run.subject


def _adapters(folders: Sequence[str]) -> str:
    if not folders:
        return ""
    named = ", ".join(f"`{_cell(folder)}`" for folder in folders)
    return (
        f"## Adapters\n\nThis is no whole model. On top of the model that it started from belongs: {named}. "
        "`peft.PeftModel.from_pretrained` takes such a folder as its `subfolder`; several add up.\n\n"
    )


def _evaluation(result: dict[str, Any]) -> str:
    if not (shown := _shown(result)):
        return ""
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in shown)
    return f"## Evaluation\n\n| metric | value |\n|---|---|\n{rows}\n\n"


def _shown(result: dict[str, Any]) -> list[tuple[str, float]]:
    summary = dict(result.get("summary") or {})
    return [(name, float(summary[name])) for name in _METRICS if _is_number(summary.get(name))]


def _model_index(run: RunConfig, result: dict[str, Any]) -> dict[str, Any]:
    """The evaluation as the hub lists it; empty without one."""
    if not (shown := _shown(result)):
        return {}
    worlds = ", ".join(run.eval.worlds or run.train.worlds)
    evaluation = {
        "task": {"type": "text-generation"},
        "dataset": {"name": f"shaping worlds: {worlds}", "type": "shaping-worlds"},
        "metrics": [{"type": name, "name": name.replace("_", " "), "value": round(value, 6)} for name, value in shown],
    }
    return {"model-index": [{"name": f"{run.study}, {run.point_name}, seed {run.seed}", "results": [evaluation]}]}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _config(run: RunConfig) -> str:
    """No fence in a prompt can end the block: JSON keeps it on one line, which begins with a quote."""
    return json.dumps(without_places(run.model_dump(mode="json")), indent=1, ensure_ascii=False)


def _cell(value: object) -> str:
    return on_one_line(str(value)).replace("|", "\\|")
