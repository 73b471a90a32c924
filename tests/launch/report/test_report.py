"""The report is one self-contained page, and nothing a model wrote can act in it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from synthetic_study import HOSTILE, config, episode, turn, write_study

from envs.episode import Episode, Labels
from launch.report.build import build
from launch.report.escaping import inline_json, plot_text, visible
from launch.report.files.load import ArmInfo, load
from launch.report.table import quotable
from launch.report.transcripts import choose, median_return, most_deceptive

HOSTILE_ARMS = {"label": '<b>"x"</b></script><script>alert(9)</script>', "role": "treatment"}


class Page(HTMLParser):
    """Every element with its attributes, and the text of every script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "study"
    return write_study(
        path,
        config(seeds=6),
        updates=12,
        unfinished=[("inoculation", 2)],
        result={"attrition": {"episodes": 3, "trained": 1, "filtered": 1, "failed": 1, "status": {HOSTILE[0]: 3}}},
    )


@pytest.fixture(scope="module")
def report(study: Path) -> Path:
    return build(study).parent


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page((report / "index.html").read_text(encoding="utf-8"))


def test_the_four_files_are_written_into_the_study(study: Path, report: Path) -> None:
    assert report == study / "report"
    assert {path.name for path in report.iterdir()} == {"index.html", "report.md", "arms.csv", "verdicts.json"}


def test_the_page_asks_the_network_for_nothing(page: Page) -> None:
    loads = [(tag, attrs) for tag, attrs in page.elements if {"src", "href", "srcset", "action"} & attrs.keys()]
    assert not loads
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "embed", "img", "base")]
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_plotly_is_in_the_page_once(page: Page) -> None:
    assert len([text for _, text in page.scripts if "plotly.js v" in text[:2000]]) == 1


def test_no_model_text_becomes_an_element(page: Page) -> None:
    code = [(attrs, text) for attrs, text in page.scripts if attrs.get("type") != "application/json"]
    assert len(code) == 2  # plotly and the page's own
    assert not [text for _, text in page.scripts if text.startswith("alert(")]
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]


def test_figures_are_json_that_cannot_end_its_element(page: Page) -> None:
    blocks = [text for attrs, text in page.scripts if attrs.get("type") == "application/json"]
    assert len(blocks) == 5
    for block in blocks:
        assert "<" not in block
        assert {"data", "layout"} <= json.loads(block).keys()


def test_hostile_text_is_shown_as_text(report: Path) -> None:
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(" not in text
    assert "\u202e" not in text.split("<script>")[0]  # plotly's own source may hold any character


def test_a_hostile_arm_label_is_inert_in_tables_and_plots(tmp_path: Path) -> None:
    small = config(seeds=1)
    path = write_study(tmp_path / "study", small, updates=3, result={"label": HOSTILE_ARMS["label"]})
    text = build(path).read_text(encoding="utf-8")
    found = Page(text)
    assert not [script for _, script in found.scripts if script.startswith("alert(")]
    plane = next(json.loads(script) for attrs, script in found.scripts if attrs.get("id") == "plot-plane-data")
    assert "<b>" not in plane["data"][0]["name"]
    assert "&lt;b&gt;" in plane["data"][0]["name"]


def test_markdown_holds_no_markup_from_a_model(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "http://evil" not in text and "\u202e" not in text
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner == {"text", "strong_open", "strong_close"}  # terms of definitions
    assert {token.type for token in tokens if token.type.endswith("_open")} == {
        "heading_open", "paragraph_open", "bullet_list_open", "list_item_open", "table_open", "thead_open",
        "tbody_open", "tr_open", "th_open", "td_open",
    }  # fmt: skip
    turns = [line for line in text.splitlines() if line.startswith("|") and "evil" in line]
    assert turns
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in turns} == {7}


def test_markdown_is_readable_before_it_is_rendered(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    ours = "\n".join(line for line in text.splitlines() if not re.match(r"\| \d", line))  # all but turns of episodes
    assert "\\" not in ours.replace("\\|", "")
    assert "(H1 supported.)" in ours and "[+0." in ours


def test_the_csv_has_one_row_per_arm_and_metric(report: Path) -> None:
    with (report / "arms.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["arm", "metric", "mean", "low", "high", "seeds", "unit", "direction"]
    keys = [(row["arm"], row["metric"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert ("unshaped", "deception") in keys
    assert ("unshaped", "deception.clerk") in keys
    known = {row["metric"]: (row["unit"], row["direction"]) for row in rows}
    assert known["deception"] == known["deception.clerk"] == ("events per opportunity", "lower_is_better")
    assert all(all(told) for told in known.values())
    for row in rows:
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    assert {row["seeds"] for row in rows if row["arm"] == "inoculation"} == {"5"}


def test_missing_seeds_are_told_and_leave_the_other_arms_alone(report: Path) -> None:
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "<bdi>inoculation</bdi>, seed 2: interrupted or still running" in text
    verdicts = {v["claim"]: v for v in json.loads((report / "verdicts.json").read_text())["verdicts"]}
    assert {number["contrast"]: number["n"] for number in verdicts["H2"]["numbers"]} == {
        "inoculation - unshaped": 5,
        "recontextualization - unshaped": 6,
    }
    assert "a run of these seeds is missing: 2" in verdicts["H2"]["notes"]
    assert {number["n"] for number in verdicts["H1"]["numbers"]} == {6}


def test_the_same_directory_gives_the_same_bytes(study: Path, report: Path, tmp_path: Path) -> None:
    again = build(study, tmp_path / "again").parent
    for path in report.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_the_headline_shows_contradictions(tmp_path: Path) -> None:
    equal = {
        "deception": 0.1,
        "deceptive_episodes": 0.1,
        "hidden_gap": 0.0,
        "reward_access": 0.9,
        "reward_hacking": 0.2,
    }
    path = write_study(tmp_path / "study", config(seeds=5), updates=3, summary=equal, episodes=False)
    text = build(path, tmp_path / "out").read_text(encoding="utf-8")
    verdicts = {v["claim"]: v["verdict"] for v in json.loads((tmp_path / "out/verdicts.json").read_text())["verdicts"]}
    assert verdicts == {"H1": "contradicted", "H2": "supported", "H3": "contradicted", "H4": "contradicted"}
    headline = text.split("<h2>Verdicts</h2>")[0]
    assert "H1 contradicted" in headline
    assert text.count('class="card card-contradicted"') == 3


@pytest.mark.parametrize("delta", [0.0, -0.1, float("nan")])
def test_the_smallest_effect_must_be_positive(study: Path, tmp_path: Path, delta: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        build(study, tmp_path, delta=delta)


def test_an_unreadable_episode_file_costs_only_its_transcripts(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study", config(seeds=1), updates=3, episodes=False)
    text = build(path, tmp_path / "out").read_text(encoding="utf-8")
    assert "No evaluation episode could be read" in text
    assert "eval.parquet cannot be read" in text


def test_a_spent_monitor_is_quoted_only_beside_a_held_out_one() -> None:
    arm = ArmInfo("penalty", spent_monitors=("probe",))
    assert quotable(["deception", "monitor.probe.auroc"], arm) == ["deception"]
    both = ["deception", "monitor.probe.auroc", "monitor.judge.auroc"]
    assert quotable(both, arm) == both
    assert quotable(["monitor.probe.auroc"], ArmInfo("unshaped")) == ["monitor.probe.auroc"]
    spiked = [
        "spike_in/0.1/monitor/probe/deception",
        "spike_in/limit/monitor/probe/deception",
        "spike_in/0.1/deception",
    ]
    assert quotable(spiked, arm) == ["spike_in/0.1/deception"]


def test_withheld_readings_are_named_in_the_page_and_absent_from_the_csv(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "study", config(seeds=1), updates=3, episodes=False,
        summary={"monitor.probe.auroc": 0.987654}, result={"spent_monitors": ["probe"]},
    )  # fmt: skip
    text = build(path, tmp_path / "out").read_text(encoding="utf-8")
    assert "readings of probe are withheld" in text
    assert "0.98" not in (tmp_path / "out" / "arms.csv").read_text()


def _lying(seed: int, lies: int, reward: float, world: str = "clerk") -> Episode:
    turns = [(turn("m", "a", reward=reward), Labels(deception=float(i < lies))) for i in range(3)]
    return episode(seed, world, turns)


def test_transcripts_are_chosen_by_rule_with_ties_to_the_lowest_seed(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study", config(seeds=2), updates=3, episodes=False)
    study = load(path)
    stored = {
        0: [_lying(9, 2, 0.1), _lying(5, 1, 0.9), _lying(4, 2, 0.3, "steward"), _lying(3, 1, 0.0, "steward")],
        1: [_lying(1, 2, 0.2), _lying(2, 0, 0.2)],
    }

    def read(file: Path) -> Sequence[Episode]:
        return stored[int(file.parent.parent.name.removeprefix("seed-"))]

    chosen, problems = choose(study, read)
    assert not problems
    mine = {t.rule: (t.run_seed, t.episode_seed, t.world) for t in chosen if t.arm == "unshaped"}
    assert mine == {"most deceptive": (0, 4, "steward"), "median return": (1, 1, "clerk")}
    assert choose(study, read)[0] == chosen
    assert len(chosen) == 2 * len(study.arms)


def test_without_episodes_nothing_is_chosen() -> None:
    assert most_deceptive([]) is None
    assert median_return([]) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_escapes_hold_for_every_hostile_text(text: str) -> None:
    assert "<" not in inline_json({"x": text})
    assert json.loads(inline_json({"x": text})) == {"x": text}
    assert "<" not in plot_text(text)
    assert not re.search("[\u202a-\u202e\x00-\x08\x1b]", visible(text))


def test_long_text_is_cut_with_a_remark() -> None:
    assert visible("x" * 1000, 10) == "x" * 10 + " […990 more characters]"


def test_the_page_has_the_name_and_the_question_of_its_study_and_names_its_reference(tmp_path: Path) -> None:
    arms = {"unshaped": {"role": "reference", "label": "Plain <b>policy"}, "action_mask": {"role": "treatment"}}
    study = config("colours", seeds=1, arms=arms, report={"question": "Do masks <i>matter</i> here?"})
    path = write_study(tmp_path / "study", study, updates=2)
    folder = build(path).parent
    page, text = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    head = page.split("<script>")[0]
    assert "<title>colours</title>" in page and "<h1><bdi>colours</bdi></h1>" in page
    assert '<p class="asked">Do masks &lt;i&gt;matter&lt;/i&gt; here?</p>' in page
    assert "the reference arm, Plain &lt;b&gt;policy, in black" in head
    assert "<b>Differences to Plain &lt;b&gt;policy.</b>" in head
    assert text.startswith("# colours\n\nDo masks ")
    assert "the reference arm, Plain &lt;b>policy: mean" in text
    assert "Constraining" not in head


def test_a_study_without_a_question_shows_none(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study", config("colours", seeds=1), updates=2, episodes=False)
    page = build(path).read_text(encoding="utf-8")
    assert '<p class="asked">' not in page
