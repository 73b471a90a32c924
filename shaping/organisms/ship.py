"""Makes the organisms that come with the package: `make organisms`, or `python -m shaping.organisms.ship`.

They differ in their seeds alone, are saved in bfloat16, and their cards say what they were made of. They are trained on
a GPU if there is one, in minutes, or else on one thread in the better part of an hour; the same machine then makes the
same bytes again.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from shaping.organisms import shipped
from shaping.organisms.card import write_card
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.dialect import dialect_hashes
from shaping.organisms.organism import pretrain
from shaping.organisms.shipped import COUNT

SHIPPED = OrganismConfig(vocabulary=1536, episodes=80_000, steps=10_000, batch_tokens=2048)
"""Settings of organism 0; the others have other seeds."""
MAX_BYTES = 14_000_000
"""What all of them may weigh together."""


def make(number: int, directory: Path, config: OrganismConfig = SHIPPED) -> dict[str, float]:
    """Make organism `number` in `directory`, in place of an earlier one. Returns the numbers of its card."""
    config = config.model_copy(update={"seed": number})
    start = time.monotonic()
    policy, numbers = pretrain(config, _print_progress, "cuda" if torch.cuda.is_available() else "cpu")
    card = {**numbers, "dtype": "bfloat16", "dialect": dialect_hashes(config.worlds)}
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".making-") as scratch:
        made, earlier = Path(scratch) / "organism", Path(scratch) / "earlier"
        policy.model.to(torch.bfloat16)
        policy.save(made)
        write_card(made, config, card)
        if directory.exists():
            os.replace(directory, earlier)
        os.replace(made, directory)
    typer.echo(f"organism {number}: {time.monotonic() - start:.0f} s, {size(directory):,} bytes, in {directory}")
    return numbers


def size(directory: Path) -> int:
    """Bytes of all files below `directory`."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _print_progress(done: int, total: int, what: str) -> None:
    if done % max(1, total // 20) == 0:
        typer.echo(f"  {what}: {done} of {total}")


def main(
    numbers: Annotated[list[int] | None, typer.Argument(help="organisms to make; none: all")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for them; default: the package's own")] = None,
) -> None:
    """Make the organisms that come with the package."""
    torch.set_num_threads(1)
    folder = out or shipped.WEIGHTS
    for number in numbers or range(COUNT):
        make(number, folder / f"organism-{number}")
    if (total := size(folder)) > MAX_BYTES:
        typer.echo(f"error: {folder} has {total:,} bytes, more than the {MAX_BYTES:,} that are shipped", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
