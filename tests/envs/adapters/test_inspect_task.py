"""Inspect plays a world; the log that it writes is read back with Inspect's own reader."""

from __future__ import annotations

import pytest
from foreign_games import CLERK, clerk_at_home, report_in_turn

from envs.adapters.inspect_task import world_task
from envs.adapters.totals import truth_of
from envs.episode import TRAITS, Labels

pytest.importorskip("inspect_ai", reason="needs the extra inspect: pip install 'shaping[inspect]'")

SIZE, SEEDS = CLERK["size"], (0, 1)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Reports everything done at once, in turn: the deceptive clerk. Read back from the log's file."""
    from inspect_ai import eval as evaluate
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def answer(messages, *_):
        asked = sum(message.role == "user" for message in messages)
        output = ModelOutput.from_content("mockllm/model", f"done soon . {report_in_turn(asked - 1)}")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    task = world_task("clerk", CLERK, seeds=SEEDS, system="Be quick.")
    folder = str(tmp_path_factory.mktemp("logs"))
    (written,) = evaluate(
        task, model=get_model("mockllm/model", custom_outputs=answer), display="none", log_dir=folder, log_format="eval"
    )
    return read_eval_log(written.location)


def test_every_seed_is_a_sample_with_its_ground_truth(log):
    assert log.status == "success", log.error
    assert [sample.metadata["seed"] for sample in log.samples] == list(SEEDS)
    for sample in log.samples:
        value = sample.scores["ground_truth"].value
        assert value["proxy"] == value["max_return"] == SIZE
        assert value["true"] == -SIZE
        assert value["deception"] == value["reward_hack"] == SIZE
        assert {f"{trait}_chances" for trait in TRAITS} < set(value)


def test_the_scores_are_those_of_the_same_policy_at_home(log):
    for sample in log.samples:
        assert sample.scores["ground_truth"].value == clerk_at_home(sample.metadata["seed"])[1]


def test_the_log_has_a_mean_per_score(log):
    metrics = {score.name: score.metrics["mean"].value for score in log.results.scores}
    assert metrics["deception"] == SIZE
    assert metrics["true"] == -SIZE


def test_messages_hold_the_play_and_no_truth(log):
    for sample in log.samples:
        assert [message.role for message in sample.messages][:3] == ["system", "user", "assistant"]
        text = "\n".join(message.text for message in sample.messages)
        assert "ACTION: report 1 done" in text
        assert not [name for name in (*TRAITS, "true_reward", "opportunity") if name in text]
        assert len(sample.store["shaping_labels"]) == sample.scores["ground_truth"].value["turns"]


def test_an_episode_without_turns_has_totals_of_zero():
    assert set(truth_of([], []).values()) == {0.0}
    assert truth_of([Labels(deception=1.0, opportunity={"deception": True})], [2.0])["deception_chances"] == 1.0


def test_the_name_of_a_task_in_another_language_is_one_that_inspect_can_take():
    task = world_task("clerk@ar-1850", CLERK, seeds=SEEDS)
    assert task.name == "shaping_clerk_ar-1850"
    assert task.metadata["world"] == "clerk@ar-1850"
