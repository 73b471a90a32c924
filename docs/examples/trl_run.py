"""An arm of this project in TRL's GRPOTrainer: python docs/examples/trl_run.py MODEL_DIRECTORY OUT."""

import sys
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from envs import make_world
from shaping.arm import compose
from shaping.constraints import OverseerPenalty
from shaping.sampling.play import Limits
from shaping.shapers import Inoculation
from shaping.trl.grpo import ShapedGRPOTrainer


def train(model: str, out: str, **settings: Any) -> ShapedGRPOTrainer:
    trainer = ShapedGRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        compose("inoculated", [Inoculation(at="both"), OverseerPenalty(accuracy=0.5, weight=0.5)]),
        worlds={"clerk": lambda: make_world("clerk", {"size": 5})},
        seeds=range(64),
        args=GRPOConfig(out, num_generations=4, per_device_train_batch_size=8, report_to=[], **settings),
        processing_class=AutoTokenizer.from_pretrained(model),
        limits=Limits(max_tokens=24, max_turns=8),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], max_steps=20).save_model()
