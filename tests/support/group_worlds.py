"""A shaper for tests of learner groups, named in configs as `group_worlds:Fragile`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch.distributed as dist

from shaping.hooks import Knob, LossTerm
from shaping.intervention import Shaper


class Fragile(Shaper):
    """In the middle of an update, the last rank does what the file `fuse` says, once: die, raise or hang."""

    owns: ClassVar[frozenset[Knob]] = frozenset()
    fuse: str

    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> LossTerm | None:
        fuse = Path(self.fuse)
        last = dist.is_initialized() and dist.get_rank() == dist.get_world_size() - 1
        if last and fuse.exists():
            what = fuse.read_text()
            fuse.unlink()
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                time.sleep(600)
            raise ArithmeticError("the probe has no direction")
        return None
