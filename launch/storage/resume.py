"""Save the training state of a run, and resume from it after a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launch.config.study import RunConfig
from launch.errors import RunDirectoryError
from launch.storage.checkpoint import Checkpoints, State
from launch.storage.rundir import RunDirectory
from launch.storage.versions import differences, versions
from launch.terminal import say

if TYPE_CHECKING:
    from torch import Tensor


class Stateful(Protocol):
    """An object whose state is saved: the trainer of a run."""

    def state_in(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its tensors, and its JSON-serialisable values; what other processes hold, they write into the folder."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], folder: Path) -> None:
        """Restore what `state_in` returned and wrote."""


def log_to_stderr(text: str) -> None:
    """Write a line to the run's log, or to the terminal if the run has no log."""
    say(text, err=True)


def save(trainer: Stateful, directory: RunDirectory, run: RunConfig, update: int, notes: Mapping[str, Any]) -> None:
    """Save the state of a run after `update` updates. `resume` returns the `notes`."""

    def collected(folder: Path) -> State:
        tensors, values = trainer.state_in(folder)
        document = {"trainer": values, "written": directory.mark(update), "notes": notes}
        return State(update, tensors, document, versions())

    Checkpoints.of(directory, run).collect(update, collected)


def resume(
    trainer: Stateful, directory: RunDirectory, run: RunConfig, log: Callable[[str], None] = log_to_stderr
) -> tuple[int, dict[str, Any]] | None:
    """Return the trainer and the directory of an unfinished run to the newest usable state.

    Args:
        trainer: Its state is replaced.
        directory: Rows and episodes that were written after the state are removed.
        run: The run's config; states of another config are not used.
        log: Receives which state is used, which are not, and why.

    Returns:
        The number of finished updates and the notes, or None if there is no usable state. Then nothing has changed.

    Raises:
        RunDirectoryError: The state is intact, but this trainer cannot load it.
    """
    status = directory.status()
    if status == "changed":
        log(directory.set_aside(directory.damage()))
    if status != "partial":
        return None
    checkpoints = Checkpoints.of(directory, run)
    for state in checkpoints.states(log):
        if lost := directory.rewind(state.values["written"]):
            log(f"the state after update {state.update} cannot be used: {lost}")
            continue
        try:
            assert state.folder is not None, "it was read"
            trainer.restore(state.tensors, state.values["trainer"], state.folder)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunDirectoryError(
                f"{checkpoints.path} holds a state that this run cannot load: {error!r}; undo what has changed since "
                "it was saved, or delete it to restart the run from the beginning"
            ) from error
        log(f"{directory.path} resumes after update {state.update} of {run.train.updates}")
        if changed := differences(state.versions, versions()):
            log(f"the software has changed since, so results may differ in the last digits: {'; '.join(changed)}")
        return state.update, dict(state.values["notes"])
    if checkpoints.present():
        changed = differences(directory.config(), run.recorded)
        reason = f" (changed since: {'; '.join(changed)})" if changed else ""
        log(f"{directory.path} has no usable state{reason}: it restarts from the beginning")
    return None
