"""Study files: what they may say, what they resolve to, and how a mistake in them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_fakes import study

from envs.skins import LOCALES, named
from launch.config.claims import build_claims
from launch.config.loading import load_study, to_yaml
from launch.config.study import PluginSpec, StudyConfig
from launch.errors import ConfigError
from launch.report.claims.table import Table
from launch.report.files.load import ArmInfo

MINIMAL = """
name: mine
seeds: [3, 5]
train: {worlds: {steward: {}}, updates: 4, groups: 2, group_size: 4}
eval: {worlds: {clerk: {}}, placebo: [on, off]}
arms:
  unshaped: {role: reference}
  penalty: {role: treatment, interventions: [{use: OverseerPenalty, accuracy: 0.5}]}
claims:
  P: {use: Lowers, statement: It lies less., treatment: penalty, metrics: [deception]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    return path


def message(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_study(file, overrides)
    return str(raised.value)


def test_a_file_becomes_one_run_per_arm_and_seed(file: Path) -> None:
    runs = load_study(file).runs()
    assert [run.directory_name for run in runs] == [
        "unshaped/seed-3",
        "penalty/seed-3",
        "unshaped/seed-5",
        "penalty/seed-5",
    ]
    assert runs[1].arm_config.interventions == [PluginSpec(use="OverseerPenalty", accuracy=0.5)]


def test_seeds_may_be_a_number(file: Path) -> None:
    assert load_study(file, ["seeds=3"]).seed_list == [0, 1, 2]


def test_on_and_off_are_words_and_exponents_are_numbers(file: Path) -> None:
    loaded = load_study(file, ["learner.lr=1e-4"])
    assert loaded.eval.placebo == ["on", "off"]
    assert loaded.learner.lr == 1e-4


def test_the_printed_config_reads_back_as_itself(file: Path, tmp_path: Path) -> None:
    loaded = load_study(file, ["axes={train.updates: [1, 2]}"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(loaded))
    assert load_study(copy) == loaded


def test_overrides_reach_into_lists_and_plugin_fields(file: Path) -> None:
    loaded = load_study(file, ["train.updates=9", "arms.penalty.interventions.0.accuracy=0.25"])
    assert loaded.train.updates == 9
    assert loaded.arms["penalty"].interventions[0].fields == {"accuracy": 0.25}


def test_a_bare_name_is_a_plugin_without_fields() -> None:
    assert PluginSpec.model_validate("Identity") == PluginSpec(use="Identity")


# Axes -----------------------------------------------------------------------------------------------------------------


def swept(tmp_path: Path, axes: dict[str, list[Any]]) -> StudyConfig:
    penalty = {"interventions": [{"use": "OverseerPenalty", "accuracy": 0.5}]}
    return study(tmp_path, {"unshaped": "", "penalty": penalty}, seeds=1, axes=axes)


def test_an_axis_multiplies_every_arm(tmp_path: Path) -> None:
    runs = swept(tmp_path, {"train.worlds.steward.covert": ["on", "off"]}).runs()
    assert [run.point_name for run in runs] == [
        "unshaped+covert=on",
        "unshaped+covert=off",
        "penalty+covert=on",
        "penalty+covert=off",
    ]
    assert [run.train.worlds["steward"]["covert"] for run in runs] == ["on", "off"] * 2
    assert runs[1].sweep_point == {"covert": "off"}


def test_an_axis_under_one_arm_multiplies_that_arm_only(tmp_path: Path) -> None:
    runs = swept(tmp_path, {"arms.penalty.interventions.0.accuracy": [0.1, 0.9]}).runs()
    assert [run.point_name for run in runs] == ["unshaped", "penalty+accuracy=0.1", "penalty+accuracy=0.9"]
    assert runs[2].arm_config.interventions[0].fields["accuracy"] == 0.9


def test_one_axis_may_set_several_keys(tmp_path: Path) -> None:
    axis = "train.worlds.steward.inquiry, eval.worlds.clerk.inquiry"
    run = swept(tmp_path, {axis: [0.3]}).runs()[0]
    assert run.train.worlds["steward"]["inquiry"] == run.eval.worlds["clerk"]["inquiry"] == 0.3


def test_axes_combine_and_equal_endings_stay_apart(tmp_path: Path) -> None:
    axes = {"train.worlds.steward.size": [2, 3], "eval.worlds.clerk.size": [4]}
    runs = swept(tmp_path, axes).runs()
    assert runs[1].sweep_point == {"steward.size": 3, "clerk.size": 4}
    assert len({run.directory_name for run in runs}) == len(runs) == 4


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ("seeds", "it must lie under train"),
        ("arms.penalti.interventions.0.accuracy", "did you mean 'penalty'?"),
        ("train.worlds.stewart.size", "did you mean 'steward'?"),
        ("train.update", "train.update: unknown key (did you mean 'updates'?)"),
        ("arms.penalty.interventions.1.accuracy", "a list of 1"),
    ],
)
def test_a_wrong_axis_is_refused(tmp_path: Path, axis: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        swept(tmp_path, {axis: [1, 2]}).runs()
    assert told in str(raised.value)


def test_values_that_would_share_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same directory name"):
        swept(tmp_path, {"train.worlds.steward.pressure": ["a b", "a-b"]}).runs()


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.updatess=3", "train.updatess: unknown key (did you mean 'updates'?)"),
        ("trian.updates=3", "unknown key trian (did you mean 'train'?)"),
        ("arms.penalti.label=x", "unknown key arms.penalti (did you mean 'penalty'?)"),
        ("learner.lr_rate=3", "learner.lr_rate: unknown key"),
        ("train.updates=many", "train.updates: Input should be a valid integer"),
        ("train.group_size=1", "train.group_size: Input should be greater than or equal to 2"),
        ("train.temperature=.nan", "train.temperature: nan is not a finite number"),
        ("eval.watch=[sometimes]", "eval.watch.0: "),
        ("seeds=0", "at least one seed"),
        ("seeds=[1, 1]", "without repetition"),
        ("name=../elsewhere", "name: String should match"),
        ("train.updates", "write it as key.path=value"),
        ("train.updates.more=1", "train.updates holds the value 4"),
        ("train.updates=[1", "train.updates: did not find expected"),
        (
            "arms.penalty.role=reference",
            "exactly one arm has role: reference, the one that all others are compared with; "
            "here unshaped and penalty have it",
        ),
        ("arms.unshaped.role=treatment", "here none has it"),
        (
            "arms.penalty.role=placebo",
            "arms.penalty.role: 'placebo' is no role (did you mean 'control'?): write one of treatment, contr",
        ),
        ("arms.penalty.role=irelevant_contrl", "'irelevant_contrl' is no role (did you mean 'control'?)"),
        ("arms.penalty.role=treatmnt", "(did you mean 'treatment'?)"),
        ("arms.penalty.role=inoculation", "'inoculation' is no role: write one of treatment"),
        (
            "arms.penalty={}",
            "arms.penalty: role is required: write one of treatment, control, positive_co",
        ),
    ],
)
def test_a_wrong_override_names_its_key(file: Path, override: str, told: str) -> None:
    assert told in message(file, override)


# Claims ---------------------------------------------------------------------------------------------------------------


def test_claims_keep_their_order_and_carry_their_key(file: Path) -> None:
    loaded = load_study(file, ["claims.A={use: Raises, statement: So., treatment: penalty, metrics: [harm.clerk]}"])
    assert [claim.id for claim in build_claims(loaded)] == ["P", "A"]
    assert not build_claims(load_study(file, ["claims={}"]))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("claims.P.use=Lower", "claims.P: unknown claim 'Lower' (did you mean 'Lowers'?)"),
        ("claims.P.use=pathlib:Path", "claim 'pathlib:Path': it is not a subclass of launch.report.claims.base.Claim"),
        ("claims.P.treatmen=penalty", "claims.P (Lowers): treatmen: unknown key (did you mean 'treatment'?)"),
        ("claims.P.treatment=penalti", "claims.P.treatment: no arm 'penalti' (did you mean 'penalty'?)"),
        ("claims.P.reference=[unshaped, unshapen]", "claims.P.reference: no arm 'unshapen' (did you mean 'unshaped'?)"),
        ("claims.P.reference=penalty", "claims.P.reference: 'penalty' is also in the treatment"),
        ("claims.P.treatment={family: constrain}", "treatment.family: Input should be 'constraint'"),
        ("claims.P.treatment={familly: constraint}", "treatment.familly: unknown key (did you mean 'family'?)"),
        ("claims.P.treatment={role: control}", "treatment: controls are a treatment only where they are named"),
        ("claims.P.treatment={arms: penalty, at: {weight: 1}}", "claims.P.treatment: at.weight: the study has no such"),
        ("claims.P.metrics=[deceptoin]", "claims.P.metrics.0: unknown metric 'deceptoin' (did you mean 'deception'?)"),
        ("claims.P.metrics=[deception.clark]", "'clark' is no world of the evaluation (did you mean 'clerk'?)"),
        ("claims.P.metrics=[reward_access.clerk]", "reward_access is not measured per world: leave .clerk out"),
        ("claims.P.metrics=[with_quarantine/blocked]", "claims.P.metrics.0: unknown metric 'blocked'"),
        ("claims.P.metrics=[monitor.claim_chek.auroc]", "no monitor 'claim_chek' reads the evaluation (did you mean"),
        ("claims.P.metrics=[]", "claims.P (Lowers): metrics: Tuple should have at least 1 item"),
        ("claims.P={use: Lowers, treatment: penalty, metrics: [harm]}", "(Lowers): statement: this key is required"),
        ("claims.P.id=Q", "claims.P.id: the key 'P' is the claim's id"),
        ("claims.P.margin=0", "claims.P (Lowers): margin: Input should be greater than 0"),
        (
            "claims.O={use: Ordered, statement: So., dose: wait, metrics: [harm]}",
            "claims.O.dose: the study has no axis",
        ),
        (
            "claims.O={use: Ordered, statement: So., dose: {unshaped: 0, penalty: 1}, metrics: [harm]}",
            "claims.O.dose: 3 different doses at least are needed",
        ),
        (
            "claims.O={use: Ordered, statement: So., dose: {unshaped: 0, penal: 1, x: 3}, metrics: [harm]}",
            "claims.O.treatment: no arm 'penal' (did you mean 'penalty'?)",
        ),
        (
            "claims.I={use: Interaction, statement: So., axis: updates, levels: [1, 2], metrics: [harm]}",
            "claims.I.axis: the study has no axis 'updates'",
        ),
        (
            "claims.L={use: LosesAccess, statement: So., spared: penalty, context: [bloked]}",
            "claims.L.context.0: unknown metric 'bloked' (did you mean 'blocked'?)",
        ),
    ],
)
def test_a_wrong_claim_is_refused_when_the_study_is_loaded(file: Path, override: str, told: str) -> None:
    assert told in message(file, override)


def test_claims_may_name_axes_by_their_short_names(file: Path) -> None:
    axes = "axes={train.updates: [1, 2, 4], train.worlds.steward.covert: ['on', 'off']}"
    ordered = "claims.O={use: Ordered, statement: So., dose: updates, treatment: penalty, metrics: [harm]}"
    crossed = "claims.I={use: Interaction, statement: So., axis: covert, levels: ['on', 'off'], metrics: [harm]}"
    loaded = load_study(file, [axes, ordered, crossed])
    assert [claim.axes for claim in build_claims(loaded)] == [(), ("updates",), ("covert",)]
    assert "'shut' is no value of the axis" in message(file, axes, crossed.replace("off", "shut"))
    assert "dose: 'on' is no number" in message(file, axes, ordered.replace("updates", "covert"))


OWN = """
from launch.report.claims.base import Claim, Finding

class Parity(Claim):
    \"\"\"Every arm has an even number of letters.\"\"\"

    def rule(self, table):
        return "Supported: all are even."

    def weigh(self, table):
        arms = table.select(self.treatment)
        even = all(len(arm) % 2 == 0 for arm in arms)
        return Finding("supported" if even else "contradicted", [], f"{arms} were counted.", arms)
"""


def test_a_claim_of_ones_own_is_one_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "own_claims.py").write_text(OWN)
    monkeypatch.chdir(file.parent)
    own = "claims.X={use: 'own_claims:Parity', statement: Even., treatment: penalty, metrics: [deception]}"
    claim = build_claims(load_study(file, [own]))[-1]
    table = Table({arm: {"deception": dict.fromkeys(range(5), 0.5)} for arm in ("penalty", "base")}, [
        ArmInfo("penalty"), ArmInfo("base", role="reference"),
    ], 0.05)  # fmt: skip
    assert (claim.id, claim.judge(table).verdict) == ("X", "contradicted")


def test_a_mistake_in_the_file_names_the_file_and_every_key(file: Path) -> None:
    file.write_text(MINIMAL.replace("updates: 4", "updates: four").replace("group_size", "groupsize"))
    told = message(file)
    assert str(file) in told
    assert (
        "train.updates: Input should be a valid integer, unable to parse string as an integer (got 'four') (line 4)"
        in told
    )
    assert "train.groupsize: unknown key (did you mean 'group_size'?) (line 4)" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a study is a mapping"),
        ("name: [", "line"),
        (MINIMAL + "  P: {}\n", "'P' occurs twice"),
        ("!!python/object/apply:os.system [echo]", "line 1, column 1: the tag !!python/object/apply:os.system is not"),
    ],
)
def test_what_is_no_study_is_refused(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    assert told in message(file)


def test_an_unknown_study_is_told_the_nearest_bundled_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_study("quikstart")


def test_all_arms_of_the_routing_study_learn_with_the_same_adapters_and_screen_what_others_route() -> None:
    arms = load_study("route_em").arms
    used = {name: {spec.use: spec.fields for spec in arm.interventions} for name, arm in arms.items()}
    assert {name for name, of in used.items() if "GradientRouting" not in of} == {"base"}
    assert used["unrouted"] == {"GradientRouting": {"labels": "off"}}
    for recall in ("10", "50", "90"):
        screened = used[f"screened_{recall}"]
        assert screened["GradientRouting"] == {"labels": "off"}
        assert screened["Screening"]["labels"] == used[f"routed_{recall}"]["GradientRouting"]["labels"]
    routed = used["routed_50"]["GradientRouting"]["labels"]
    assert used["placebo"]["GradientRouting"]["labels"] == {**routed, "placebo": True}


def test_the_skins_study_trains_in_two_cells_with_opposite_incentives_and_probes_all_eight() -> None:
    study = load_study("skins")
    paid = {run.arm: {w for w, o in run.train.worlds.items() if o["oversight"] == 0.0} for run in study.runs()}
    assert paid["arabic_pays"] == {"clerk@ar-2025"} and paid["english_pays"] == {"clerk"}, (
        "each language is the other's control"
    )
    assert len(paid["both_pay"]) == 2 and not paid["neither_pays"]
    assert set(study.eval.worlds) == {named("clerk", cell) for cell in LOCALES}
    assert set(study.model.organism.skins) == set(LOCALES), "what it cannot read it cannot be probed in"
    shown = [options["aware"] for worlds in (study.train.worlds, study.eval.worlds) for options in worlds.values()]
    assert set(shown) == {"hidden"} and study.eval.placebo == ["none"]
    assert len(study.seed_list) >= 5
    assert study.arms["irrelevant_prompt"].role == "control"


@pytest.mark.parametrize("name", ["quickstart", "thesis"])
def test_these_studies_compare_action_with_motivation_under_controls_of_both_kinds(name: str) -> None:
    loaded = load_study(name)
    used = {spec.use for arm in loaded.arms.values() for spec in arm.interventions}
    assert {"ActionMask", "OverseerPenalty", "Inoculation", "Recontextualization"} <= used
    assert loaded.arms["irrelevant_prompt"].role == "control"
    musts = {str(claim.fields.get("must")) for claim in loaded.claims.values()} - {"None"}
    assert "supported" in musts and {claim.use for claim in loaded.claims.values()} >= {"Raises", "DoesNotRaise"}
    for claim in loaded.claims.values():
        assert claim.fields.get("must") or claim.fields.get("controls")
    assert len(loaded.seed_list) >= 5
    assert yaml.safe_load(to_yaml(loaded))["name"] == name
