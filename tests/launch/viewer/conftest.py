"""One small study, and the process that reads it, for all tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import viewed_study
from starlette.testclient import TestClient

from launch.viewer.reader import Reader
from launch.viewer.server import Viewer
from launch.viewer.sources import find_sources

TOKEN = "right-token"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewed_study.write(tmp_path_factory.mktemp("viewed") / "study")


@pytest.fixture(scope="session")
def reader(study: Path) -> Iterator[Reader]:
    with Reader(find_sources(study).files) as found:
        while found.ask("read"):
            pass
        yield found


@pytest.fixture(scope="session")
def client(reader: Reader) -> TestClient:
    return TestClient(Viewer("study", reader).app(TOKEN), base_url="http://127.0.0.1:1234", follow_redirects=False)
