"""Saving the training state of a run, and going back to it after a kill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from launch.config.study import RunConfig
from launch.errors import RunDirectoryError
from launch.storage.checkpoint import Checkpoints, State
from launch.storage.rundir import RunDirectory
from launch.storage.versions import differences, versions

if TYPE_CHECKING:
    from torch import Tensor


class Stateful(Protocol):
    """What is saved: the trainer of a run."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None: ...


def say(text: str) -> None:
    """To the run's log, or to the terminal where the run has none."""
    print(text, file=sys.stderr, flush=True)


def save(trainer: Stateful, directory: RunDirectory, run: RunConfig, update: int, notes: Mapping[str, Any]) -> None:
    """Save all that the run needs to go on after `update` updates; `notes` come back with it."""
    tensors, values = trainer.state_dict()
    document = {"trainer": values, "written": directory.mark(), "notes": notes}
    Checkpoints.of(directory, run).save(State(update, tensors, document, versions()))


def resume(
    trainer: Stateful, directory: RunDirectory, run: RunConfig, tell: Callable[[str], None] = say
) -> tuple[int, dict[str, Any]] | None:
    """Take the trainer and an unfinished run back to the newest usable state: (updates done, notes).

    None: there is no such state, and the directory is as it was. `tell` hears what is used, what is not, and why.
    """
    if directory.status() != "partial":
        return None
    checkpoints = Checkpoints.of(directory, run)
    for state in checkpoints.states(tell):
        if lost := directory.rewind(state.values["written"]):
            tell(f"the state after update {state.update} cannot be used: {lost}")
            continue
        try:
            trainer.load_state_dict(state.tensors, state.values["trainer"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunDirectoryError(
                f"{checkpoints.path} holds a state that this run cannot take: {error!r}; undo what has changed since, "
                "or delete it to start the run afresh"
            ) from error
        tell(f"{directory.path} goes on after update {state.update} of {run.train.updates}")
        if changed := differences(state.versions, versions()):
            tell(f"not all is as it was then, so results may differ in the last digits: {'; '.join(changed)}")
        return state.update, dict(state.values["notes"])
    if checkpoints.present():
        changed = differences(directory.config(), run.model_dump(mode="json"))
        why = f" (changed since: {'; '.join(changed)})" if changed else ""
        tell(f"{directory.path} has no state that can be used{why}: it starts afresh")
    return None
