"""Numbers per sampled token, to colour a completion by: the sampler's log-probs, and what lies beside the episodes.

`episodes/tokens/<name>.parquet` holds further values of the episodes in `episodes/<name>.parquet`: columns `row` (that
of the episode in its file), `channel` (e.g. `advantage`, `policy_logprob`, `probe/deception`) and `values`, one number
per sampled token, turn after turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from envs.episode import Episode

FOLDER = "tokens"
"""Folder in that of the episodes."""
FORMAT = b"shaping-token-values"
SCHEMA = pa.schema(
    [("row", pa.int64()), ("channel", pa.string()), ("values", pa.list_(pa.float32()))], metadata={b"format": FORMAT}
)
POLICY = "policy_logprob"
"""Channel of the log-probs under the policy that learns: shown as their gap to the sampler's."""
LEVELS = 9
"""Shades of a scale, from 0. Scales with two sides have their middle at the middle shade."""
MAX_CHANNELS = 8
SURPRISING = 6.0
"""Log-prob, negated, of the last shade: a token that had a chance of 1 in 400."""
Values = NDArray[np.float64]


class Channel(NamedTuple):
    """One way to colour the tokens of an episode."""

    name: str
    label: str
    low: str
    """What the first shade stands for."""
    high: str
    """What the last shade stands for."""
    two_sided: bool
    levels: list[int]
    """Shade of every sampled token; -1: there is no number."""
    shown: list[str]
    """The numbers, as text."""


def write_token_values(path: Path, rows: Iterable[tuple[int, str, Sequence[float] | Values]]) -> None:
    """Write (row of the episode, channel, one number per sampled token) beside a file of episodes."""
    found = [{"row": row, "channel": name, "values": [float(v) for v in values]} for row, name, values in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(found, SCHEMA), path, compression="zstd")


def read_token_values(path: Path, row: int, tokens: int) -> dict[str, Values]:
    """Channel -> one number per token, of one episode. Empty without the file.

    Raises `ValueError` if the file is another's, or has a number of values that is not `tokens`.
    """
    if not path.is_file():
        return {}
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA) or (file.schema_arrow.metadata or {}).get(b"format") != FORMAT:
                raise ValueError(f"{FOLDER}/{path.name} holds no values of tokens (docs/viewer.md has the columns)")
        found = pq.read_table(path, filters=[("row", "=", row)], partitioning=None).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{FOLDER}/{path.name} cannot be read ({str(error)[:200]})") from error
    for line in found:
        if len(line["values"] or ()) != tokens:
            raise ValueError(
                f"{FOLDER}/{path.name}, row {row}: {len(line['values'] or ())} values of {line['channel']!s:.80}, "
                f"and {tokens} sampled tokens"
            )
    return {line["channel"]: np.array(line["values"], np.float64) for line in found[:MAX_CHANNELS]}


def channels(episode: Episode, stored: Mapping[str, Values], monitors: Values | None) -> list[Channel]:
    """All ways to colour an episode's sampled tokens. `monitors`: the highest score about each token, or None."""
    logprobs = _joined(episode, "logprobs")
    versions = _joined(episode, "policy_versions")
    found = [_one_sided("logprob", "log-prob of the sampler", logprobs, "sure (0)", f"−{SURPRISING:g}", -SURPRISING)]
    for name, values in sorted(stored.items()):
        if name == POLICY:
            found.append(_two_sided("gap", "log-prob, policy − sampler", values - logprobs))
        elif name.startswith("probe"):
            found.append(_one_sided(name, f"{name} (score)", values, "0", "1", 1.0))
        else:
            found.append(_two_sided(name, name, values))
    if monitors is not None:
        found.append(_one_sided("monitors", "highest score of a monitor", monitors, "0", "1", 1.0))
    if len(set(versions.tolist())) > 1:
        first, span = versions.min(), versions.max() - versions.min()
        scale = _one_sided("version", "version of the policy", versions - first, "", "", float(span))
        shown = [f"{value:.0f}" for value in versions]
        found.append(scale._replace(low=f"{first:.0f}", high=f"{versions.max():.0f}", shown=shown))
    return found[:MAX_CHANNELS]


def _joined(episode: Episode, name: str) -> Values:
    parts = [np.asarray(getattr(turn, name), np.float64) for turn in episode.turns]
    return np.concatenate(parts) if parts else np.zeros(0)


def _one_sided(name: str, label: str, values: Values, low: str, high: str, end: float) -> Channel:
    share = values / end if end else np.zeros(len(values))
    return Channel(name, label, low, high, False, _shades(share), _texts(values))


def _two_sided(name: str, label: str, values: Values) -> Channel:
    """The ends are at the largest size of a number in the episode."""
    finite = np.abs(values[np.isfinite(values)])
    end = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    return Channel(name, label, f"−{end:.2g}", f"+{end:.2g}", True, _shades((values / end + 1) / 2), _texts(values))


def _shades(share: Values) -> list[int]:
    """Shade of shares in [0, 1]; -1 for what is no number."""
    levels = np.clip(np.floor(np.nan_to_num(share) * LEVELS), 0, LEVELS - 1).astype(int)
    return [int(level) if known else -1 for level, known in zip(levels, np.isfinite(share), strict=True)]


def _texts(values: Values) -> list[str]:
    return [f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else "–" for value in values]


def pieces(turn: Any, tokenizer: Any) -> list[str]:
    """The text of each sampled token of a turn; its number where no tokenizer can say it."""
    ids = [int(token) for token in turn.tokens]
    if tokenizer is None:
        return [f"#{token} " for token in ids]
    text = turn.completion[turn.forced.length :]
    read = tokenizer.encode(text, add_special_tokens=False)
    if ids[: len(read.ids)] == read.ids:
        ends = [*(start for start, _ in read.offsets[1:]), len(text)]
        starts = [0, *ends[:-1]]
        said = [text[start:end] for start, end in zip(starts, ends, strict=True)] if read.ids else []
        rest = ids[len(said) :]
    else:
        said, rest = [], ids
    return said + [_alone(tokenizer, token) for token in rest]


def _alone(tokenizer: Any, token: int) -> str:
    piece = tokenizer.id_to_token(token)
    return f"#{token} " if piece is None else str(piece).replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")
