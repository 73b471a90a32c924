"""Static pages: what they link to is there, and only their own style and script may run. In Chromium, too."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from viewed_study import Elements

from launch.errors import UserError
from launch.viewer.export import export_pages
from launch.viewer.gate import new_token
from launch.viewer.reader import Reader
from launch.viewer.server import Viewer, listen

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def folder(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pages") / "out"
    assert export_pages("study", reader, found, 6) == 6
    return found


def test_links_lead_to_files_that_are_there(folder: Path) -> None:
    pages = {path.name: path.read_text() for path in folder.iterdir()}
    assert {"index.html", "episode-1.html", "pair-1-0.html"} <= set(pages)
    assert len(re.findall('class="row"', pages["index.html"])) == 6
    for text in pages.values():
        assert {a for a in Elements(text).addresses if not a.startswith("#")} <= set(pages)


def test_the_policy_names_the_hashes_of_the_style_and_the_script_alone(folder: Path) -> None:
    for path in folder.iterdir():
        text = path.read_text()
        (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]+)"', text)
        for tag, inline in re.findall(r"<(style|script)[^>]*>(.*?)</\1>", text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy
        assert "default-src &#39;none&#39;" in policy and "unsafe" not in policy
        assert Elements(text).handlers == []


def test_a_folder_with_files_is_not_written_to(reader: Reader, folder: Path) -> None:
    with pytest.raises(UserError, match="not empty"):
        export_pages("study", reader, folder, 1)


def test_a_taken_port_is_told(unused_tcp_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", unused_tcp_port))
        taken.listen()
        with pytest.raises(UserError, match=f"--port {unused_tcp_port}"):
            listen(unused_tcp_port)


@pytest.fixture
def address(reader: Reader) -> Iterator[str]:
    import uvicorn

    token, bound = new_token(), listen(0)
    server = uvicorn.Server(uvicorn.Config(Viewer("study", reader).app(token), log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/{token}/"
    server.should_exit = True
    thread.join(10)


def dom(page: str, folder: Path) -> str:
    """A page as Chromium has it after its scripts ran."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", f"--user-data-dir={folder}"]
    done = subprocess.run([CHROMIUM, *flags, "--dump-dom", page], capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_in_chromium_our_script_runs_and_no_text_of_an_episode_does(address: str, folder: Path, tmp_path: Path) -> None:
    for page in (address, f"{address}episode?id=1", f"{address}pair?left=1&right=6", (folder / "index.html").as_uri()):
        found = dom(page, tmp_path)
        assert "episode" in found
        assert not Elements(found).tags & {"img", "iframe", "svg", "object"}
        assert Elements(found).handlers == []
        assert "alert(1)" in found, "it is there to read"
        if "pair" not in page and "episode?" not in page:
            assert re.search(r'<label class="only-js">', found), "our script has shown its search field"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_in_chromium_the_policy_stops_what_escaping_would_have_let_through(folder: Path, tmp_path: Path) -> None:
    """Markup planted behind the escaping, as if that had a hole, changes nothing under the policy."""
    text = (folder / "episode-1.html").read_text()
    planted = '<b id="x">a</b><script>x.textContent="ran"</script><img src="x:" onerror="x.textContent=\'ran\'">'
    page = tmp_path / "planted.html"
    page.write_text(text.replace("<h1>", f"{planted}<h1>"))
    assert '<b id="x">a</b>' in dom(page.as_uri(), tmp_path / "chrome")
    page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text()))
    assert '<b id="x">ran</b>' in dom(page.as_uri(), tmp_path / "chrome"), "without the policy it runs"


@pytest.mark.slow
def test_the_verb_prints_a_link_that_opens(study: Path) -> None:
    import httpx

    command = [sys.executable, "-c", "from launch.cli import main; main()", "view", str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("8 episodes in 3 files.")
        assert "8 episodes" in httpx.get(lines[1].strip()).text
        process.terminate()
        process.wait(20)
