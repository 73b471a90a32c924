"""A section is one module: its content is computed once and shown as HTML and as Markdown."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import HOSTILE, config, write_study

import launch.report.sections
from launch.config.loading import parse_study
from launch.config.plugins import SECTION, builtins
from launch.config.sections import find_sections
from launch.config.study import StudyConfig
from launch.errors import ConfigError
from launch.report.build import build
from launch.report.sections.base import Part, SectionError
from launch.storage.documents import write_json

TODAY = [
    "Controls",
    "Answer",
    "Verdicts",
    "Arms",
    "By world",
    "What shaping costs",
    "Subjects",
    "Figures",
    "Attrition",
    "Transcripts",
    "Methods",
]
NEW = '''
"""Wall seconds."""

from launch.report.markdown import table
from launch.report.sections.base import Section


class Seconds(Section):
    """How long runs took."""

    title = "Wall time & more"
    position = 75
    template = """{{% for arm, text in content %}}<p>{{{{ arm.title }}}}: {{{{ text }}}}</p>{{% endfor %}}{extra}"""

    def compute(self, results):
        return [(arm, {text!r}) for arm in results.shown]

    def markdown(self, content):
        return table(("arm", "text"), [(arm.title, text) for arm, text in content])
'''


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("sections") / "study", config(seeds=2), updates=3, episodes=False)


def of(path: Path, out: Path, sections: list[str]) -> tuple[str, str]:
    """(HTML, Markdown) of the study with other sections listed."""
    changed = config(seeds=2, report={"sections": sections})
    write_json(
        path / "study.json", {"format": "shaping-study", "version": 1, "config": changed.model_dump(mode="json")}
    )
    page = build(path, out)
    return page.read_text(encoding="utf-8"), (out / "report.md").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r'<section class="[^"]*" aria-label="([^"]+)">\s*<h[23]>\1</h[23]>', page)


def test_by_default_the_page_has_all_sections_in_the_order_of_their_positions(study: Path, tmp_path: Path) -> None:
    page, text = of(study, tmp_path, [])
    assert headings(page) == TODAY  # no languages and eras: no world was evaluated in more than one
    assert re.findall("^## (.+)$", text, re.MULTILINE) == TODAY
    assert page.count("<section") == page.count("</section>") == len(TODAY)


def test_a_study_lists_the_sections_that_it_wants(study: Path, tmp_path: Path) -> None:
    page, text = of(study, tmp_path, ["Methods", "Answer"])
    assert headings(page) == ["Methods", "Answer"]
    assert re.findall("^## (.+)$", text, re.MULTILINE) == ["Methods", "Answer"]
    assert len(page) < 60_000  # without figures plotly is not in the page


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Atrition", r"report\.sections\.1: unknown section 'Atrition' \(did you mean 'Attrition'\?\)"),
        ("json:JSONDecoder", r"report\.sections\.1: section 'json:JSONDecoder': it is not a subclass of"),
        ("no_such_module:X", r"report\.sections\.1: section .* does not import"),
    ],
)
def test_a_section_that_is_none_is_refused_before_anything_runs(name: str, message: str) -> None:
    document = config(seeds=2).model_dump(mode="json") | {"report": {"sections": ["Answer", name]}}
    with pytest.raises(ConfigError, match=message):
        parse_study(document, "study.yaml")


def added(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, extra: str = "") -> None:
    """One new file in the package of the sections."""
    folder.mkdir()
    (folder / f"seconds_{folder.name}.py").write_text(NEW.format(text=text, extra=extra))
    monkeypatch.setattr(launch.report.sections, "__path__", [*launch.report.sections.__path__, str(folder)])


def test_a_new_file_is_a_new_section(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, tmp_path / "added", "3 s")
    page, text = of(study, tmp_path / "out", [])
    place = TODAY.index("Transcripts")
    expected = [*TODAY[:place], "Wall time &amp; more", *TODAY[place:]]
    assert headings(page) == expected
    assert "<p>Unshaped: 3 s</p>" in page
    assert "## Wall time & more" in text and "| Unshaped            | 3 s  |" in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_section_needs_to_think_of_escaping(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    added(monkeypatch, tmp_path / "hostile", hostile)
    page, text = of(study, tmp_path / "out", ["Seconds"])
    body = page.split("<script>")[0]
    assert body.count("<p>Unshaped: ") == 1
    assert not re.search("<(script|img|!--)|[\u202a-\u202e\x1b\x07]", body)
    assert not re.search(r"<(script|img|!--)|[\u202a-\u202e\x1b\x07]|(?<!\\)\]\(", text)


def test_the_policy_of_the_page_lets_no_script_of_a_section_run(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(monkeypatch, tmp_path / "script", "", extra="<script>steal()</script>")
    page, _ = of(study, tmp_path / "out", ["Figures", "Seconds"])
    policy = html.unescape(re.findall('script-src ([^"]+?); style', page)[0])
    scripts = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert scripts[0] == "steal()" and f"'sha256-{digests[0]}'" not in policy
    assert policy == " ".join(f"'sha256-{digest}'" for digest in digests[1:])


def test_a_section_of_ones_own_is_named_by_module_and_class(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_section.py").write_text(NEW.format(text="4 s", extra=""))
    monkeypatch.syspath_prepend(str(tmp_path))
    page, _ = of(study, tmp_path / "out", ["Attrition", "their_section:Seconds"])
    assert headings(page) == ["Attrition", "Wall time &amp; more"]


def test_attrition_shows_what_became_of_every_episode_and_which_runs_ended_early(tmp_path: Path) -> None:
    counts = {
        "episodes": 30,
        "trained": 7,
        "screened": 2,
        "filtered": 6,
        "stale": 5,
        "uninformative": 4,
        "unused": 3,
        "failed": 3,
    }
    study = config(seeds=2, report={"sections": ["Attrition"]})
    found = {"attrition": {**counts, "stopped_after": 2, "status": {"completed": 30}}}
    path = write_study(tmp_path / "study", study, updates=3, episodes=False, result=found)
    build(path, tmp_path / "out")
    row = next(
        line for line in (tmp_path / "out" / "report.md").read_text().splitlines() if line.startswith("| Inoculation")
    )
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
        "2 of 2, 2 of them stopped early",
        *(str(2 * n) for n in counts.values()),
        "completed 60",
    ]


def test_installed_sections_take_their_place_among_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[shaping.sections]\nwall_time = installed_section:Seconds\n")
    (tmp_path / "installed_section.py").write_text(NEW.format(text="5 s", extra=""))
    monkeypatch.syspath_prepend(str(tmp_path))
    titles = [section.title for section in find_sections(config(seeds=1))]
    assert titles.index("Wall time & more") == titles.index("Attrition") + 1


@pytest.mark.parametrize("extra", ["{{ content.nothing }}", "{{ 1 / 0 }}"])
def test_a_section_that_fails_is_named_with_a_remedy(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    added(monkeypatch, tmp_path / "broken", "", extra=extra)
    with pytest.raises(SectionError, match=r"the section Seconds \(.*seconds_broken\) failed: .* report\.sections"):
        of(study, tmp_path / "out", [])


def test_every_section_says_what_it_is_and_has_a_place_of_its_own() -> None:
    sections = [section() for section in builtins(SECTION).values()]
    assert len({section.position for section in sections}) == len(sections)
    assert all(section.__doc__ and section.title for section in sections)


def spent(tmp_path: Path, arms: dict[str, list[str]]) -> tuple[str, str]:
    """A report in which all arms have readings of two monitors, and `arms` were trained against some."""
    readings = {"monitor.claim_check.deception.recall": 0.7, "monitor.overt_action.harm.recall": 0.9}
    path = write_study(tmp_path / "study", config(seeds=1), updates=2, episodes=False, summary=readings)
    for arm, monitors in arms.items():
        remark(path / "runs" / arm / "seed-0", {"spent_monitors": monitors})
    page = build(path)
    return page.read_text(encoding="utf-8"), (page.parent / "report.md").read_text(encoding="utf-8")


def remark(run: Path, changes: dict[str, Any]) -> None:
    """Finish a run again with other facts in its result."""
    from launch.storage.rundir import RunDirectory

    directory = RunDirectory(run)
    result = dict(directory.result() or {})
    for key in ("checksum", "files", "format", "version"):
        result.pop(key, None)
    (run / "result.json").unlink()
    directory.finish(result | changes)


def test_the_spent_badge_stands_at_the_readings_of_the_monitor_an_arm_was_trained_against(tmp_path: Path) -> None:
    page, text = spent(tmp_path, {"overseer_penalty": ["claim_check"]})
    assert page.count('<span class="bounds">spent</span>') == 1
    table = page.split("<caption>Readings of monitors.</caption>")[1].split("</table>")[0]
    rows = {re.findall("<bdi>([^<]+)</bdi>", row)[0]: row for row in table.split("<tr>")[2:]}
    penalty = next(row for title, row in rows.items() if title.startswith("Overseer penalty"))
    first, second = penalty.split('<td class="num">')[1:]
    assert "0.70" in first and "spent" in first  # claim check deception recall
    assert "0.90" in second and "spent" not in second
    line = next(line for line in text.splitlines() if "Overseer penalty" in line and "spent" in line)
    assert re.search(r"\| 0\.70 \(spent\) +\| 0\.90 +\|$", line)
    assert text.count("(spent)") == 1


def test_what_monitors_miss_has_a_table_of_its_own_with_the_spent_marked(tmp_path: Path) -> None:
    kinds = ("monitor.claim_check.deception", "monitor.overt_action.harm")
    readings = {f"{kind}.recall": 0.7 for kind in kinds} | {f"{kinds[0]}.catches_missed": 0.25}
    readings |= {f"{kinds[1]}.recall_without_reasoning": 0.625}
    path = write_study(tmp_path / "study", config(seeds=1), updates=2, episodes=False, summary=readings)
    remark(path / "runs" / "overseer_penalty" / "seed-0", {"spent_monitors": ["overt_action"]})
    page = build(path)
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    own = text.split("## What monitors miss")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in own.splitlines() if line.startswith("|")]
    assert lines[0] == ["arm", "monitor", "without reasoning", "catches"]
    penalty = [line[1:] for line in lines if line[0].startswith("Overseer penalty")]
    assert penalty == [["claim check, deception", "–", "0.25"], ["overt action, harm (spent)", "0.62", "–"]]
    assert "catches missed" not in text.split("Readings of monitors.")[1].split("## ")[0]
    assert "What monitors miss" in page.read_text(encoding="utf-8")


def test_no_arm_is_marked_for_a_monitor_that_only_measures(tmp_path: Path) -> None:
    page, text = spent(tmp_path, {})
    assert "0.70" in page and "spent</span>" not in page and "(spent)" not in text


def test_content_is_computed_once_for_both_forms(study: Path) -> None:
    calls = []

    class Counted(launch.report.sections.base.Section):
        title = "Counted"
        template = "<p>{{ content }}</p>"

        def compute(self, results: Any) -> int:
            calls.append(results)
            return len(calls)

        def markdown(self, content: int) -> str:
            return str(content)

    (part,) = launch.report.sections.base.compute([Counted()], results=None)  # type: ignore[arg-type]
    assert (part.html(), part.markdown(), len(calls)) == ("<p>1</p>", "1", 1)
    assert isinstance(part, Part)


def test_what_a_report_shows_is_no_part_of_what_a_run_is() -> None:
    plain, other = config(seeds=1), config(seeds=1, report={"sections": ["Answer"]})
    assert isinstance(plain, StudyConfig)
    assert [run.digest for run in plain.runs()] == [run.digest for run in other.runs()]


def test_the_order_that_credit_keeps_stands_beside_the_family_of_each_arm(study: Path, tmp_path: Path) -> None:
    page, text = of(study, tmp_path, ["Arms"])
    assert re.search(
        r"^- .*overseer.*: action constraint, not reward-order preserving: inverts \d+ % of pairs$", text, re.M | re.I
    )
    assert re.search(
        r"^- .*inoculation.*: motivation shaping, reward-order preserving$", text, re.MULTILINE | re.IGNORECASE
    )
    assert not re.search(r"^- unshaped", text, re.MULTILINE | re.IGNORECASE), "the reference has no credit of its own"
    assert re.search(r'class="family order">not reward-order preserving: inverts \d+ % of pairs</small>', page)


def test_interventions_stand_one_by_one_and_labels_name_their_source(tmp_path: Path) -> None:
    measured = {"order_violations/GradientRouting": 0.0, "credit_share/OverseerPenalty": 0.25,
                "blocked/GradientRouting": 0.0, "pressure/OverseerPenalty": 0.16}  # fmt: skip
    told = "GradientRouting: the world's own list of overt shortcuts (oracle), recall 0.5"
    path = write_study(
        tmp_path / "s", config(seeds=1), updates=2, summary=measured, result={"labels": [told]}, episodes=False
    )
    build(path, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    part = text.partition("Interventions one by one")[2].partition("\n## ")[0]
    (row, *_) = [line for line in part.splitlines() if "OverseerPenalty" in line]
    assert "share of the credit" in part and "0.25" in row and "0.16" in row
    assert f"labels of {told}" in text
    page = html.unescape((tmp_path / "out" / "index.html").read_text())
    assert told in page and "Interventions one by one" in page
