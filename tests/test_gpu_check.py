"""The GPU kit runs without a GPU, says what it could not look at, and does not hide what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks are run from the repository, not installed

from benchmarks.gpu import equality, kernels
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.report import PARTS
from benchmarks.gpu.shapes import TINY


def test_a_dry_run_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "a" / "gpu.json", tmp_path / "b" / "gpu.md"
    parts = ["equality", "kernels", "sampler", "learner"]
    assert main(["--device", "cpu", "--quick", "--only", *parts, "--json", str(files[0]), "--page", str(files[1])]) == 0
    found = json.loads(files[0].read_text())
    assert [part["name"] for part in found["parts"]] == parts and set(parts) <= set(PARTS)
    assert found["machine"]["gpus"] == [] and found["machine"]["device"] == "cpu"
    checks = {check["name"]: check for part in found["parts"] for check in part["checks"]}
    assert checks["tiny: gradient, float32"]["ok"] is True
    assert checks["plain, float32: kernel"]["ok"] is None  # only a GPU can tell
    assert all(row["ours"] > 0 and row["ratio"] for part in found["parts"] for row in part["rows"])
    page, printed = files[1].read_text(), capsys.readouterr().out
    assert "dry run: the figures mean nothing" in page
    assert all(name in page and name in printed for name in checks)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--device cpu --quick" in capsys.readouterr().err


def test_wrong_gradients_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    exact = equality._read
    calls = []

    def read(*arguments: object) -> equality.Read:
        calls.append(arguments)
        logprobs, gradient = exact(*arguments)  # type: ignore[arg-type]
        return logprobs, gradient * (1.001 if len(calls) == 2 else 1.0)

    monkeypatch.setattr(equality, "_read", read)
    monkeypatch.setattr(equality, "_sampled", lambda *_: [])
    assert main(["--device", "cpu", "--quick", "--only", "equality"]) == 1
    assert f"{TINY.name}: gradient, float32" in capsys.readouterr().err


def test_attention_that_holds_all_scores_is_told() -> None:
    cuda = torch.device("cuda")
    assert kernels._fused("a", {"aten::_flash_attention_forward"}, cuda).ok
    assert not kernels._fused("a", {"aten::_scaled_dot_product_attention_math", "aten::bmm"}, cuda).ok
    assert not kernels._fused("a", {"aten::_flash_attention_forward", "aten::_softmax"}, cuda).ok
    assert not kernels._fused("a", {"aten::mm"}, cuda).ok


def test_a_part_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory is left")

    monkeypatch.setattr(kernels, "kernels", fails)
    monkeypatch.setattr(equality, "FAMILIES", ())
    assert main(["--device", "cpu", "--quick", "--only", "kernels", "equality"]) == 1
    said = capsys.readouterr()
    assert "no memory is left" in said.out and "equality" in said.out and "kernels: it runs" in said.err
