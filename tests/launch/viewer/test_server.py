"""Who is let in, what the pages show, and that nothing in an episode becomes a part of a page."""

from __future__ import annotations

import html
import re

import pytest
from starlette.testclient import TestClient
from viewed_study import HOSTILE_ARM, Elements

from launch.viewer.gate import Gate, new_token
from launch.viewer.reader import Reader

TOKEN = "right-token"
PAGES = (
    "",
    "?label=shown&order=labelled",
    "episode?id=1",
    "episode?id=7",
    "pair?left=1&right=6",
    "episode?id=99",
    "no",
)


def shown(client: TestClient, page: str) -> str:
    return client.get(f"/{TOKEN}/{page}").text


def rows(client: TestClient, query: str) -> list[int]:
    return [int(number) for number in re.findall(r'class="row"[^>]*>(\d+)<', shown(client, query))]


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        (f"/{TOKEN}/", "127.0.0.1:1234", 200),
        (f"/{TOKEN}/", "localhost:9", 200),
        (f"/{TOKEN}/", "[::1]:9", 200),
        ("/", "127.0.0.1", 403),
        ("/wrong-token/", "127.0.0.1", 403),
        (f"/{TOKEN}x/", "127.0.0.1", 403),
        (f"/x/{TOKEN}/", "127.0.0.1", 403),
        ("/style.css", "127.0.0.1", 403),
        (f"/{TOKEN}/", "evil.example", 403),
        (f"/{TOKEN}/", "127.0.0.1.evil.example", 403),
        (f"/{TOKEN}/", "", 403),
    ],
)
def test_the_token_and_the_host_decide_who_is_let_in(client: TestClient, path: str, host: str, status: int) -> None:
    assert client.get(path, headers={"host": host}).status_code == status


def test_pages_are_read_and_not_changed(client: TestClient) -> None:
    assert client.post(f"/{TOKEN}/").status_code == 405
    assert client.get(f"/{TOKEN}").headers["location"].endswith(f"/{TOKEN}/")


def test_tokens_are_long_and_never_the_same() -> None:
    assert len(new_token()) == 32 and new_token() != new_token()
    assert isinstance(Gate(lambda *_: None, new_token()), Gate)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("path", ["/", *(f"/{TOKEN}/{page}" for page in PAGES), f"/{TOKEN}/viewer.js"])
def test_every_answer_forbids_all_but_its_own_style_and_script(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"]} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("page", PAGES)
def test_text_of_episodes_becomes_no_element_and_no_address(client: TestClient, page: str) -> None:
    text = shown(client, page)
    found = Elements(text)
    assert not found.tags & {"img", "iframe", "object", "svg", "base", "style", "embed"}
    assert found.handlers == []
    assert all(not re.match(r"\w+:|//", address) for address in found.addresses), "every address is relative"
    assert len(re.findall("<script", text)) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2028]", text)


def test_hostile_text_is_still_there_to_read(client: TestClient) -> None:
    page = html.unescape(shown(client, "episode?id=1"))
    assert page.count("<script>alert(1)</script>") > 4
    assert r"\u202eesrever" in page and r"\x1b[31m" in page


def test_the_worst_false_negatives_come_first(client: TestClient) -> None:
    """Episode 1 lies twice unseen, 2 lies after an open act, which claim_check sees. The rest never lie."""
    assert rows(client, "")[:2] == [1, 2]
    assert rows(client, "")[2:] == [0, 3, 4, 5, 6, 7]
    lines = shown(client, "").split("<tr>")
    assert "missed" in lines[2] and "claim_check: deception" not in lines[2]
    assert "missed" not in lines[3] and "claim_check: deception 1.00" in lines[3]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("order=stored", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("arm=a&order=stored", [0, 1, 2, 3, 4]),
        ("arm=a&stage=training", [3, 4]),
        ("update=3", [3, 4]),
        ("watch=never&order=stored", [1, 6]),
        ("seed=2&order=stored", [2, 7]),
        ("label=shown&order=stored", [1, 2]),
        ("trait=harm&label=shown", []),
        ("trait=deception&label=not+shown&order=stored", [0, 3, 4, 5, 6, 7]),
        ("order=-return", [2, 7, 0, 1, 5, 6, 3, 4]),
        ("order=return", [3, 4, 0, 1, 5, 6, 2, 7]),
        ("trait=deception&disagree=yes", [2]),
        ("page=2", []),
        ("arm=nobody", []),
        ("arm=a&replicate=", [1, 2, 0, 3, 4]),
    ],
)
def test_filters_and_orders(client: TestClient, query: str, numbers: list[int]) -> None:
    assert rows(client, f"?{query}") == numbers


@pytest.mark.parametrize(
    "query", ["?page=0", "?page=x", "?order='", "?seed=1e9", "?label=maybe", "episode?id=-1", "pair"]
)
def test_a_wrong_address_is_told_in_one_sentence(client: TestClient, query: str) -> None:
    answer = client.get(f"/{TOKEN}/{query}")
    assert answer.status_code == 400
    assert len(re.findall('class="problem"', answer.text)) == 1
    assert "the address" in answer.text


def test_the_hostile_arm_can_be_chosen(client: TestClient) -> None:
    value = html.escape(HOSTILE_ARM)
    assert f'<option value="{value}">' in shown(client, "")
    answer = client.get(f"/{TOKEN}/", params={"arm": HOSTILE_ARM, "order": "stored"})
    assert re.findall(r'class="row"[^>]*>(\d+)<', answer.text) == ["5", "6", "7"]


def test_an_episode_leads_to_its_neighbours_in_the_list(client: TestClient) -> None:
    page = shown(client, "episode?id=1&at=0&trait=deception")
    assert 'rel="prev"' not in page
    after = re.search(r'rel="next" href="([^"]+)"', page)
    assert after is not None
    moved = client.get(f"/{TOKEN}/{html.unescape(after[1])}")
    assert moved.status_code == 303 and moved.headers["location"].startswith("episode?id=2&at=1")
    assert client.get(f"/{TOKEN}/at?at=99").headers["location"] == "./"


def test_partners_share_the_seed(reader: Reader) -> None:
    found = {(p["id"], p["kind"]) for p in reader.ask("episode", id=1)["partners"]}
    assert found == {(0, "watch"), (6, "arm")}
    assert [(p["id"], p["kind"]) for p in reader.ask("episode", id=3)["partners"]] == [(4, "group")]


def test_turns_of_two_episodes_lie_side_by_side(client: TestClient) -> None:
    page = shown(client, "pair?left=2&right=7")
    assert re.findall(r'class="row( differs)?" id="t(\d)"', page) == [(" differs", "1"), (" differs", "2"), ("", "3")]
    assert 'is in <a href="#t1">turn 1</a>' in page
    assert "Every motive and every action is the same" in shown(client, "pair?left=0&right=5")
    assert shown(client, "pair?left=3&right=0").count(">over<") == 1


def test_an_episode_shows_truth_and_what_monitors_said(client: TestClient) -> None:
    page = shown(client, "episode?id=2")
    turns = page.split('<section class="turn')
    assert "overt_action: harm 1.00" in turns[1] and "truth: " not in turns[1]
    assert "truth: deception" in turns[2] and "claim_check: deception 1.00" in turns[2]
    assert "was told (inquiry)" in turns[2]
    assert "reward +0.50" in turns[3] and "true reward 0<" in turns[3]
