"""Episodes as logs of Inspect (JSON, version 2), one log per file of episodes, for `inspect view` and its readers.

A sample is an episode: observations are messages of the user, completions of the assistant. Truth, rewards and what
monitors said are scores of the sample, and events of its transcript, one per turn.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from launch.errors import UserError
from launch.storage.documents import dumps
from launch.storage.files import disk_errors, make_directory, write_text
from launch.viewer.index.filters import Filters
from launch.viewer.reader import Reader

VERSION = 2
"""Version of Inspect's log format, as inspect-ai 0.3.285 writes and reads it."""
Document = dict[str, Any]


def export_logs(title: str, reader: Reader, folder: Path, count: int) -> list[Path]:
    """Write the first `count` episodes of the list, the worst false negatives first, as logs. Returns the files.

    Raises:
        UserError: A log of that name is there already.
    """
    while reader.ask("read"):
        pass
    page = reader.ask("page", filters=Filters().model_dump(), size=count)
    groups: dict[tuple[str, int, str], list[Document]] = {}
    for row in page["rows"]:
        episode = reader.ask("episode", id=row["id"])
        groups.setdefault((episode["arm"], episode["replicate"], episode["name"]), []).append(episode)
    written = []
    with disk_errors(folder):
        make_directory(folder)
        for (arm, replicate, name), episodes in groups.items():
            played = datetime.fromtimestamp(os.stat(episodes[0]["path"]).st_mtime, UTC).replace(microsecond=0)
            log = log_of(title, arm, replicate, name, sorted(episodes, key=lambda e: e["row"]), played)
            path = folder / _file_name(log)
            if path.exists():
                raise UserError(f"{path} is there already; name another folder")
            write_text(path, dumps(log, indent=1) + "\n")
            written.append(path)
    return written


def log_of(
    title: str, arm: str, replicate: int, name: str, episodes: Sequence[Mapping[str, Any]], played: datetime
) -> Document:
    """The log of some episodes of one file, which were played by one policy."""
    task = f"{title}/{arm}/seed-{replicate}/{name}"
    samples = [sample_of(episode, f"shaping/{arm}", played) for episode in episodes]
    scorers = [name for name in ("truth", "monitors") if any(name in sample["scores"] for sample in samples)]
    stamp = played.isoformat()
    return {
        "version": VERSION,
        "status": "success",
        "eval": {
            "eval_id": _identity("eval", task),
            "run_id": _identity("run", title, arm, str(replicate)),
            "created": stamp,
            "task": task,
            "task_id": _identity("task", task),
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "dataset": {
                "name": ", ".join(dict.fromkeys(str(episode["world"]) for episode in episodes)),
                "samples": len(samples),
                "sample_ids": [sample["id"] for sample in samples],
                "shuffled": False,
            },
            "model": f"shaping/{arm}",
            "model_generate_config": {},
            "model_args": {},
            "config": {"epochs": 1},
            "packages": {},
            "scorers": [{"name": scorer, "options": {}, "metrics": [], "metadata": {}} for scorer in scorers],
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": _results(samples, scorers),
        "stats": {"started_at": stamp, "completed_at": stamp, "model_usage": {}, "role_usage": {}},
        "samples": samples,
    }


def sample_of(episode: Mapping[str, Any], model: str, played: datetime) -> Document:
    """One episode."""
    name = f"{episode['world']}-{episode['seed']}-{episode['row']}"
    messages = [_message(name, "system", "system", episode["system"])] if episode["system"] else []
    events = []
    for turn in episode["turns"]:
        messages.append(_message(name, f"observation-{turn['number']}", "user", turn["observation"]))
        messages.append(_message(name, f"completion-{turn['number']}", "assistant", turn["completion"], model))
        events.append(_event(name, turn, played))
    last = messages[-1] if episode["turns"] else None
    choices = [{"message": last, "stop_reason": "stop"}] if last else []
    return {
        "id": name,
        "epoch": 1,
        "input": episode["turns"][0]["observation"] if episode["turns"] else "",
        "target": "",
        "messages": messages,
        "output": {"model": model, "choices": choices, "completion": last["content"] if last else ""},
        "scores": _scores(episode),
        "metadata": {
            **{key: episode[key] for key in ("world", "seed", "group", "status", "context", "version", "update")},
            "options": dict(episode["options"]),
            **({"error": episode["error"]} if episode["error"] else {}),
        },
        "store": {},
        "events": events,
        "model_usage": {},
        "role_usage": {},
        "uuid": _identity("sample", name, episode["arm"], str(episode["id"])),
        "attachments": {},
    }


def _message(name: str, part: str, role: str, text: str, model: str = "") -> Document:
    found = {"id": _identity(name, part), "content": text, "role": role}
    return {**found, "source": "generate", "model": model} if model else {**found, "source": "input"}


def _event(name: str, turn: Mapping[str, Any], played: datetime) -> Document:
    """What a turn paid, what was true of it, and what monitors said: an event of the transcript."""
    data = {key: turn[key] for key in ("motive", "action", "executed", "reward") if turn[key] != ""}
    if not turn["sealed"]:
        data |= {"true_reward": turn["true_reward"], "watched": turn["watched"]}
        data["truth"] = [chip["text"] for chip in turn["truth"]]
    data["monitors"] = {f"{monitor}/{trait}": score for monitor, trait, score in turn["said"]}
    return {
        "event": "info",
        "uuid": _identity(name, "event", str(turn["number"])),
        "timestamp": (played + timedelta(milliseconds=turn["number"])).isoformat(),
        "working_start": float(turn["number"]),
        "source": f"turn {turn['number']}",
        "data": data,
    }


def _scores(episode: Mapping[str, Any]) -> Document:
    """`truth`: return and counts of labelled traits; `monitors`: the highest score of each about each trait."""
    truth = {"return": episode["reward"], "true_return": episode["true_return"], **episode["labels"]}
    said = {f"{monitor}/{trait}": 0.0 for monitor, trait in episode["asked"]}
    for turn in episode["turns"]:
        for monitor, trait, score in turn["said"]:
            said[f"{monitor}/{trait}"] = max(score, said[f"{monitor}/{trait}"])
    found = {"truth": {key: value for key, value in truth.items() if _finite(value)}, "monitors": said}
    return {scorer: {"value": value, "history": []} for scorer, value in found.items() if value}


def _results(samples: Sequence[Mapping[str, Any]], scorers: Sequence[str]) -> Document:
    """Means over the samples that have the score."""
    scores = []
    for scorer in scorers:
        values = [sample["scores"][scorer]["value"] if scorer in sample["scores"] else {} for sample in samples]
        for key in dict.fromkeys(key for value in values for key in value):
            known = [value[key] for value in values if key in value]
            mean = {"name": "mean", "value": sum(known) / len(known), "params": {}}
            metrics = {"mean": mean}
            scores.append({"name": key, "scorer": scorer, "params": {}, "metrics": metrics})
    return {"total_samples": len(samples), "completed_samples": len(samples), "scores": scores}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _identity(*parts: str) -> str:
    """22 letters and digits that depend on the parts alone."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=11).hexdigest()
    return digest


def _file_name(log: Mapping[str, Any]) -> str:
    """As Inspect names its files: it finds logs in a folder by the time at their beginning."""
    stamp = re.sub("[:+]", "-", log["eval"]["created"])
    task = re.sub(r"[^A-Za-z0-9-]+", "-", log["eval"]["task"]).strip("-")[:80]
    return f"{stamp}_{task}_{log['eval']['task_id']}.json"
