"""The global random generators of this process: seeded once per run, saved and restored with its state.

The framework's own draws (worlds, contexts, sampling, rewards) come from generators seeded by what they are for, and
need none of these. Dropout, a new adapter's weights and plug-ins that call `random` or `numpy.random` do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from launch.run.seeds import derive


def seed_all(seed: int) -> None:
    """Seed torch (CPU and every GPU), numpy and Python, each with its own stream."""
    torch.manual_seed(derive(seed, "torch"))
    np.random.seed(derive(seed, "numpy"))
    random.seed(derive(seed, "python"))


def rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(uint8 states of torch's generators by device, JSON-serialisable states of Python's and numpy's)."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    _, keys, position, has_gauss, gauss = np.random.get_state()
    numpy = {"keys": np.asarray(keys).tolist(), "position": position, "has_gauss": has_gauss, "gauss": gauss}
    return tensors, {"python": random.getstate(), "numpy": numpy}


def set_rng_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore the result of `rng_state`. States of GPUs that this machine lacks are ignored."""
    for name, state in tensors.items():
        if name == "torch":
            torch.set_rng_state(state)
        elif torch.cuda.is_available() and int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, name)
    numpy = values["numpy"]
    keys = np.array(numpy["keys"], np.uint32)
    np.random.set_state(("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
