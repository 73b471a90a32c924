"""Settings of isolated plug-ins: what they must not read, and how long they may take."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Isolation(BaseModel):
    """Rewards and interventions that are not this project's own run in processes of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: str
    """The directory of all studies, as an absolute path: out of reach."""
    step_seconds: float
    """Seconds for a decision about one action (`train.step_timeout`)."""
    reward_seconds: float
    """Seconds for the reward of one group (`train.reward_timeout`)."""
    stage_seconds: float
    """Seconds for any other call (`rollout.stage_timeout`)."""
    start_seconds: float = 120.0
    """Seconds to start the process and build the plug-in."""

    def seconds(self, hook: str) -> float:
        """The limit of one call."""
        if hook == "allow":
            return self.step_seconds
        return self.reward_seconds if hook in ("score", "score_group") else self.stage_seconds


def hidden_by(output: str, name: str) -> str:
    """The directory to hide: the output of all studies, or of this one alone if modules may lie beside it."""
    root, here = Path(output).expanduser().absolute(), Path.cwd()
    return str(root / name if root == here or root in here.parents else root)
