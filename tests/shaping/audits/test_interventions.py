"""The parts of several interventions in one arm are told apart, by name."""

from __future__ import annotations

import numpy as np
import pytest
import scripted_episodes

from envs.episode import Episode
from shaping.arm import compose
from shaping.audits.training.update import audit_update
from shaping.constraints import LiePenalty, OverseerPenalty
from shaping.hooks import Credit, Group
from shaping.intervention import Intervention, Shaper
from shaping.labels import LabelSource
from shaping.labels.describe import described, labels_in_words
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.credit.credit_parts import names_of
from shaping.sampling.text.render import Renderer
from shaping.shapers import Identity


class Bonus(Shaper):
    """The same addition to every token of the first episodes of a group."""

    amount: float = 1.0

    def credit(self, group: Group) -> Credit:
        amounts = [self.amount * (i == 0) for i in range(len(group.episodes))]
        return Credit(
            "bonus",
            tuple(np.full(len(e.tokens), a, np.float32) for e, a in zip(group.episodes, amounts, strict=True)),
        )


class Half(Shaper):
    """Half the weight on everything."""

    def credit(self, group: Group) -> Credit:
        return Credit("half", weight=tuple(np.full(len(e.tokens), 0.5, np.float32) for e in group.episodes))


class Labelled(Shaper):
    labels: LabelSource = LabelSource(source="overt", recall=0.5)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [episode for members in scripted_episodes.groups("clerk", "steward") for episode in members]


def credited(episodes: list[Episode], *interventions: Intervention) -> Credited:
    from shaping.contract.groups import small_policy

    paid = [np.array([turn.reward for turn in episode.turns]) for episode in episodes]
    return assign_credit(episodes, paid, compose("a", interventions), Renderer(small_policy().tokenizer))


def test_parts_add_up_to_the_whole_credit(episodes: list[Episode]) -> None:
    found = credited(episodes, LiePenalty(), Bonus(), Half(), Identity(), LiePenalty(penalty=2.0))
    assert [part.name for part in found.parts] == ["LiePenalty", "Bonus", "Half", "Identity", "LiePenalty-2"]
    whole = found.advantages + sum(part.added for part in found.parts)
    assert np.allclose(whole, found.credit, atol=1e-6)
    one, two = found.parts[0], found.parts[4]
    assert one.added.any() and np.allclose(2 * one.added, two.added)
    assert found.parts[3].share == 0 and not found.parts[3].added.any()


def test_the_share_is_that_of_the_rewards_advantage(episodes: list[Episode]) -> None:
    halved = credited(episodes, Half()).parts[0]
    assert halved.share == pytest.approx(0.5)
    bonus = credited(episodes, Bonus(amount=2.0)).parts[0]
    inside = [e.loss_mask for e in episodes]
    first = {e.group: i for i, e in reversed(list(enumerate(episodes)))}
    advantages = credited(episodes).advantages
    size = sum(float(abs(a)) * m.sum() for a, m in zip(advantages, inside, strict=True))
    assert bonus.share == pytest.approx(2.0 * sum(inside[i].sum() for i in first.values()) / size)


def test_each_has_its_own_audits(episodes: list[Episode]) -> None:
    found = credited(episodes, LiePenalty(penalty=100.0), Identity(), OverseerPenalty(weight=0))
    row = audit_update(
        episodes, found.returns, found.advantages, found.credit, found.groups, parts=found.parts
    )  # fmt: skip
    assert row["order_violations/LiePenalty"] > 0 == row["order_violations/Identity"]
    assert row["selection_added/LiePenalty"] < 0 == row["selection_added/Identity"]
    assert row["credit_share/LiePenalty"] > row["credit_share/OverseerPenalty"] == 0
    assert row["order_violations/LiePenalty"] == row["order_violations"]  # nothing else adds anything


def test_names_are_unique() -> None:
    assert names_of([Half(), Bonus(), Half(), Half()]) == ["Half", "Bonus", "Half-2", "Half-3"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"recall": 0.5}, "the world's own list of overt shortcuts (oracle), recall 0.5"),
        (
            {"source": "oracle", "traits": ["harm"], "precision": 0.9},
            "sealed labels (oracle), traits harm, precision 0.9",
        ),
        (
            {"source": "monitor", "monitor": {"use": "OvertAction"}, "false_positives": 0.1},
            "monitor overt_action, threshold 0.5, false positives 0.1",
        ),
        ({"source": "off"}, "none"),
        ({"placebo": True}, "as many random turns as by the world's own list of overt shortcuts (oracle) (placebo)"),
    ],
)
def test_label_sources_are_told_in_words(source: dict, words: str) -> None:  # type: ignore[type-arg]
    assert described(LabelSource(**source)) == words


def test_reports_name_the_method_of_the_labels() -> None:
    told = labels_in_words([Half(), Labelled(), Labelled(labels=LabelSource(source="off"))])
    assert told == ["Labelled: the world's own list of overt shortcuts (oracle), recall 0.5", "Labelled-2: none"]
