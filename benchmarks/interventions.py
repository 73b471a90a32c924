"""Interventions: one update under each built-in one, beside the same update under the identity shaper.

`python -m benchmarks.interventions`. The episodes are scripted, the same for all, but for the prompts that an
intervention puts before them. Where the learner reads more tokens, what it reads more is stated, and times are compared
per token; one that is read without its gradient counts a third. An intervention with adapters is compared with the
identity on as many kept adapters of the same sizes as it trains. What samples is not measured here. Seconds are those
of the processor, so that other work on the machine changes them less.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.table import Row, interleaved, main
from envs.discovery import subclasses
from envs.episode import Contexts, Episode
from shaping.arm import Arm, compose
from shaping.contract.groups import GroupKey, group_keys, play_groups, small_policy
from shaping.hooks import AdapterSpec, InterventionError
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.models.lora.subspace import WRITERS
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build
from shaping.sampling.text.render import Renderer
from shaping.shapers import Identity

LIGHT, HEAVY = "ratio >= 0.97", "ratio >= 0.87"
"""Below 3 % more time for contexts, credit and prices; below 15 % for adapters, edits, losses and added samples."""
FORWARD = 1 / 3
"""Share of a forward pass in the operations of a forward and a backward pass."""
CONFIG = LearnerConfig(max_mismatch_kl=1e9)
"""Scripted episodes have no log-probs of a sampler, so that any mismatch is allowed."""


@dataclass
class Updates:
    """One arm, its episodes and its learner."""

    arm: Arm
    episodes: list[Episode]
    learner: Learner
    renderer: Renderer
    read: list[float] = field(default_factory=list)
    """Tokens of each pass so far, those without a gradient times `FORWARD`."""

    @classmethod
    def of(cls, arm: Arm, keys: Sequence[GroupKey], model: Policy, adapters: Sequence[AdapterSpec] = ()) -> Updates:
        renderer = Renderer(model.tokenizer)
        drawn = [Contexts(*arm.contexts(key.info, np.random.default_rng(key.number))) for key in keys]
        policy = Policy(copy.deepcopy(model.model), model.tokenizer, adapters=adapters or arm.adapters())
        learner = Learner(policy, CONFIG, interventions=arm.interventions, edits=lambda: arm.edits("training"))
        learner.refresh()  # directions are found in the policy
        updates = cls(arm, play_groups(keys, drawn, renderer), learner, renderer)
        policy.model.get_input_embeddings().register_forward_pre_hook(updates._reads)
        return updates

    def once(self) -> None:
        """Credit, and one update of the policy."""
        rewards = [np.array([turn.reward for turn in episode.turns]) for episode in self.episodes]
        self.learner.update(assign_credit(self.episodes, rewards, self.arm, self.renderer).samples)

    def _reads(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """A pass begins: with the embeddings of its tokens."""
        self.read.append(arguments[0].numel() * (1 if torch.is_grad_enabled() else FORWARD))


def built_in() -> dict[str, type[Intervention]]:
    """Name -> class of every shaper and constraint that ships, but for the identity."""
    found = {**subclasses("shaping.shapers", Shaper), **subclasses("shaping.constraints", Constraint)}
    return {name: kind for name, kind in sorted(found.items()) if kind is not Identity}


def heavy(arm: Arm) -> bool:
    """Does it change parameters or activations, or add a loss or samples?"""
    kinds = [type(each) for each in arm.interventions]
    losses = any(kind.auxiliary_loss is not Intervention.auxiliary_loss for kind in kinds)
    samples = any(kind.rehearse is not Intervention.rehearse for kind in kinds)
    return bool(losses or samples or arm.adapters() or arm.edits("training"))


def adapted(spec: AdapterSpec, model: Policy) -> tuple[str, ...]:
    """The modules that an adapter has, as its `targets`."""
    if spec.targets or spec.subspace is None:
        return spec.targets
    return tuple(sorted({name.rpartition(".")[2] for name, _ in model.model.named_modules()} & set(WRITERS)))


@dataclass(frozen=True)
class Setting:
    """What all interventions are measured with."""

    keys: Sequence[GroupKey]
    model: Policy
    saved: Path
    """Directory of the model, from which interventions make their traits."""
    repetitions: int

    @classmethod
    def of(cls, keys: Sequence[GroupKey], model: Policy, folder: Path, repetitions: int) -> Setting:
        """Save the model in the folder, once for all interventions."""
        model.save(folder)
        return cls(keys, model, folder, repetitions)


def measured(name: str, kind: type[Intervention], setting: Setting) -> Row:
    """The row of one intervention."""
    keys, model = setting.keys, setting.model
    arm = compose(name, [kind.example()])
    arm.interventions[0].prepare(setting.saved)
    trained = [spec for spec in arm.adapters() if spec.role != "frozen" and "training" in spec.phases]
    kept = [AdapterSpec(s.name, "kept", rank=s.rank, alpha=s.alpha, targets=adapted(s, model)) for s in trained]
    ours = Updates.of(arm, keys, model)
    peer = Updates.of(compose("identity", [Identity()]), keys, model, kept)
    taken = interleaved([ours.once, peer.once], setting.repetitions, clock=time.process_time)
    own, other = map(median, taken)
    quicker = median(theirs / mine for mine, theirs in zip(*taken, strict=True))
    share = sum(ours.read) / sum(peer.read)
    more = round(100 * (share - 1), 1)
    said = f"{name}, {more} % more tokens, per token" if more > 0 else name
    target = HEAVY if heavy(arm) else LIGHT
    return Row(said, own, other, "s", quicker * (share if more > 0 else 1), target)


def large_model() -> Policy:
    """An untrained organism of the default size, with the small one's words."""
    texts = [token for token in small_policy().tokenizer.get_vocab() if token.strip()]
    return build(OrganismConfig(), [" ".join(texts)] * 2)


def benchmark(quick: bool) -> Iterator[Row]:
    """Every built-in intervention: processor seconds of one update, and of the identity's."""
    keys = group_keys(1, ("clerk",)) if quick else group_keys(2)
    repetitions = 1 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        small = Setting.of(keys, small_policy(), Path(folder, "small"), repetitions)
        usual = small if quick else Setting.of(keys, large_model(), Path(folder, "usual"), repetitions)
        for name, kind in built_in().items():
            try:
                yield measured(name, kind, usual)
            except InterventionError as error:
                if usual is small:
                    raise
                print(f"{name}: its example is for a model of 32 dimensions, which is measured instead ({error})")
                yield measured(f"{name} on the small model", kind, small)


if __name__ == "__main__":
    main(benchmark)
