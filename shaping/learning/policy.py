"""The trained policy: a causal language model with its tokenizer, adapters and critic, on packed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from shaping.hooks import ActivationEdit, AdapterSpec, Phase
from shaping.learning.captures import States, Wanted
from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.ranks.parallel import SINGLE, Ranks
from shaping.learning.ranks.sharding import Run, parts, run_here
from shaping.learning.samples.packing import Batch
from shaping.models.dtypes import stored_dtype
from shaping.models.edits import applied
from shaping.models.forward import adopt, layer_states, layout_of
from shaping.models.lora.adapter_checkpoint import save_adapters, stored_adapters
from shaping.models.lora.adapters import Adapters
from shaping.models.lora.base_reference import BaseReference
from shaping.models.model_files import damaged_weights
from shaping.models.saving import mend_generation_config
from shaping.models.value_head import ValueHead

T = TypeVar("T")

MOST_LOST = 0.01
"""Largest share of the adapters' update that a merge may lose by rounding."""


class PolicyError(ValueError):
    """A model directory cannot be used as a policy."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The policy's results for the m loss tokens of a batch."""

    logprobs: Tensor
    """Log-probs of the loss tokens [m]."""
    entropy: Tensor
    """Entropies of the distributions they were drawn from [m]."""
    values: Tensor | None = None
    """Values [m, heads] from the hidden state that predicts each token; None without a critic."""
    states: tuple[Tensor, ...] = ()
    """Hidden states [tokens, layers, hidden] of each `Wanted`."""


class Policy:
    """A model in training.

    Args:
        model: the causal language model.
        tokenizer: its tokenizer.
        temperature: temperature of sampling; log-probs use it, too.
        adapters: LoRA adapters to inject. Without a `kept` adapter the base weights are trained.
        critics: outputs of a value head on the final hidden state; 0: no head.
        source: the directory that the model was loaded from, which saved adapters refer to.
        name: what saved adapters call the model; empty: its directory.
        sharded_dtype: type that the base gets when it is sharded; none: it keeps its own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float = 1.0,
        adapters: Sequence[AdapterSpec] = (),
        critics: int = 0,
        source: Path | None = None,
        name: str = "",
        sharded_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = adopt(model)
        self.tokenizer = tokenizer
        self.temperature = temperature
        base = list(model.parameters())
        self.adapters = Adapters(model, adapters, source)
        self.player = next((spec.player for spec in adapters if spec.player is not None), "")
        """Whose adapters a phase activates, where players have their own."""
        self._source, self._name, self._sharded_dtype = source, name, sharded_dtype
        self._base = base
        self.ranks = SINGLE
        self.captured: Mapping[str, States] = {}
        """While an auxiliary loss is computed: the micro-batch's states of every capture, by its name."""
        self.edits: tuple[ActivationEdit, ...] = ()
        """Edits of the learner's pass, which the further passes of an auxiliary loss need, too: the backward pass of
        layers whose activations are recomputed has them."""
        self._run: Run = run_here
        if self.adapters.names("kept"):
            for parameter in base:
                parameter.requires_grad_(False)
        hidden = model.config.get_text_config().hidden_size
        self.value_head = ValueHead(hidden, critics, self.device) if critics else None

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        dtype: torch.dtype = torch.float32,
        temperature: float = 1.0,
        device: str = "cpu",
        adapters: Sequence[AdapterSpec] = (),
        critics: int = 0,
        name: str = "",
        unread: bool = False,
    ) -> Policy:
        """Load a Hugging Face directory with safetensors weights.

        Args:
            directory: the model directory.
            dtype: type of the weights.
            device: a torch device, or `auto`: the first GPU of this process, or else the CPU.
            unread: for a policy that `distribute` shards: leave the weights in their files until then, if their type is
                no wider than `dtype`. They take no memory, on no device; `device` is that of the ranks afterwards.
            temperature, adapters, critics, name: as for `Policy`.
        Raises: `PolicyError` that names the missing files or weights.
        """
        path = Path(directory)
        if (stored := stored_adapters(path)) is not None:
            raise PolicyError(
                f"{path} holds adapters of {stored.base or 'a model'}, not a whole model: load that and the adapters "
                "of `shaping.models.lora.adapter_checkpoint.specs_of`, or make a whole model with `shaping export`"
            )
        if not (path / "config.json").is_file():
            raise PolicyError(f"{path} is not a model directory: it has no config.json")
        if not any(path.glob("*.safetensors")):
            raise PolicyError(f"{path} has no *.safetensors weights; other formats are not loaded")
        if damaged := damaged_weights(path):
            raise PolicyError(f"{damaged}; copy or download the model again")
        kind = stored_dtype(path, dtype) if unread else dtype
        model, told = AutoModelForCausalLM.from_pretrained(
            path, dtype=kind, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(told["missing_keys"]):
            raise PolicyError(
                f"{path} lacks {len(missing)} of its model's weights, which would be drawn at random: "
                f"{', '.join(missing[:3])}; save the model again with all of them, or set tie_word_embeddings in its "
                "config.json if the output layer is the embeddings"
            )
        mend_generation_config(model, path)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if not unread:
            model.to(device)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        settings: dict[str, Any] = {"temperature": temperature, "adapters": adapters, "critics": critics}
        return cls(model, tokenizer, **settings, source=path, name=name, sharded_dtype=dtype if unread else None)

    @property
    def padded(self) -> bool:
        """True if sequences of a batch are padded to the longest, since the model cannot pack them."""
        return not layout_of(self.model).packed

    @property
    def shares(self) -> bool:
        """True if sequences of a batch that begin alike can have their common prefix in it once."""
        return layout_of(self.model).shares

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def distribute(self, ranks: Ranks) -> None:
        """Become one of several ranks that train this policy. Build the optimiser only afterwards.

        Adapters and the value head stay whole on every rank: they are small, and float32 beside any base. They go to
        the device of the rank, since a base that is read when it is sharded was nowhere before. One process alone has
        everything where it is.
        """
        parameters = dict(self.model.named_parameters())
        adapters = [p for name, p in parameters.items() if ".lora_" in name]
        critic = self.value_head
        head = () if critic is None else (*critic.parameters(), *critic.buffers())
        if ranks.strategy != "none":
            for tensor in (*adapters, *head):
                tensor.data = tensor.data.to(ranks.device)
        self.ranks, self._run = ranks, ranks.distribute(self.model, head, adapters, self._sharded_dtype)
        self._base = [p for name, p in self.model.named_parameters() if ".lora_" not in name]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Trained parameters: `kept` (base or kept adapters), `quarantine` adapters, and the critic's `value` head."""
        kept = self.adapters.parameters("kept") or [p for p in self._base if p.requires_grad]
        groups = {"kept": kept, "quarantine": self.adapters.parameters("quarantine")}
        if self.value_head is not None:
            groups["value"] = list(self.value_head.parameters())
        return groups

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Activate exactly the adapters of one phase, and of the present player, inside the block."""
        with self.adapters.using(self.of_player(self.adapters.names(phase=phase))):
            yield

    @contextmanager
    def playing(self, player: str) -> Iterator[None]:
        """Let this be the player whose adapters a phase activates inside the block."""
        before, self.player = self.player, player
        try:
            yield
        finally:
            self.player = before

    def of_player(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the adapters that the present player has."""
        return tuple(name for name in names if self.adapters.specs[name].player in (None, self.player))

    def scores(
        self,
        batch: Batch,
        edits: Sequence[ActivationEdit] = (),
        *,
        entropy_gradient: bool = False,
        detach_critic: bool = False,
        wanted: Sequence[Wanted] = (),
    ) -> Scores:
        """Log-probs, entropies and values of a batch's loss tokens.

        Args:
            batch: the micro-batch.
            edits: activation edits of the forward pass.
            entropy_gradient: keep the gradient of the entropy; otherwise it is detached.
            detach_critic: keep the gradient of the values out of the layers below the value head.
            wanted: hidden states of layers in the same pass, to be returned, too.
        """

        def compute() -> tuple[Tensor | None, ...]:
            whole, states = self._hidden_and_states(batch, edits, wanted)
            hidden = whole[batch.rows]
            logprobs, entropy = token_logprobs(
                self.model,
                hidden,
                batch.targets,
                batch.masked_tokens,
                temperature=self.temperature,
                entropy_gradient=entropy_gradient,
            )
            if self.value_head is None:
                return logprobs, entropy, None, *states
            return logprobs, entropy, self.value_head(hidden.detach() if detach_critic else hidden), *states

        logprobs, entropy, values, *states = self._run(compute)
        return Scores(logprobs, entropy, values, tuple(states))

    def states(
        self, batch: Batch, wanted: Sequence[Wanted], edits: Sequence[ActivationEdit] = ()
    ) -> tuple[Tensor, ...]:
        """Hidden states [tokens, layers, hidden] of each `Wanted`, without logits."""
        found: tuple[Tensor, ...] = self._run(lambda: tuple(self._hidden_and_states(batch, edits, wanted)[1]))
        return found

    def logprobs(
        self, batch: Batch, edits: Sequence[ActivationEdit] = (), *, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(log-probs [m], entropies [m]) of a batch's loss tokens; entropies are detached unless `entropy_gradient`."""
        scores = self.scores(batch, edits, entropy_gradient=entropy_gradient)
        return scores.logprobs, scores.entropy

    def values(self, batch: Batch, edits: Sequence[ActivationEdit] = ()) -> tuple[Tensor, Tensor]:
        """(values before each loss token [m, heads], values after the last token of each sample [samples, heads])."""
        if self.value_head is None:
            raise PolicyError("this policy has no critic: build it with critics >= 1")
        hidden = self._run(lambda: self._hidden(batch, edits))
        return self.value_head(hidden[batch.rows]), self.value_head(hidden[batch.ends])

    def critic_steps(self, batch: Batch, edits: Sequence[ActivationEdit] = ()) -> tuple[Tensor, Tensor]:
        """(hidden states [steps, hidden], targets [steps, heads] in units of the value head) of the critic's steps."""
        if self.value_head is None:
            raise PolicyError("this policy has no critic: build it with critics >= 1")
        hidden = self._run(lambda: self._hidden(batch, edits))
        if batch.critic is None:
            return hidden.new_zeros(0, hidden.shape[-1]), hidden.new_zeros(0, len(self.value_head.mean))
        _, targets, mask = batch.critic
        return hidden[batch.rows[mask]], (targets[mask] - self.value_head.mean) / self.value_head.deviation

    def on_states(self, batch: Batch, compute: Callable[[Tensor], T], edits: Sequence[ActivationEdit] = ()) -> T:
        """`compute` of the hidden states [m, hidden] that predict a batch's loss tokens; shards are whole within it."""
        return self._run(lambda: compute(self._hidden(batch, edits)[batch.rows]))

    def _hidden(self, batch: Batch, edits: Sequence[ActivationEdit]) -> Tensor:
        return self._hidden_and_states(batch, edits, ())[0]

    def _hidden_and_states(
        self, batch: Batch, edits: Sequence[ActivationEdit], wanted: Sequence[Wanted]
    ) -> tuple[Tensor, list[Tensor]]:
        """(final hidden states [n, hidden], for each of `wanted` states [tokens, layers, hidden])."""
        layers = [layer for each in wanted for layer in each.layers]
        with applied(self.model, edits):
            final, found = layer_states(self.model, batch.ids, batch.positions, batch.plan, layers)
        return final[0], [torch.stack([found[n][0][each.rows] for n in each.layers], dim=1) for each in wanted]

    def trained(self) -> dict[str, Tensor]:
        """All weights that training may change, by the names of their modules: a base below kept adapters is frozen."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.adapters.names("kept"):
            state = {name: tensor for name, tensor in state.items() if ".lora_" in name}
        if self.value_head is not None:
            state |= {f"value_head.{name}": tensor for name, tensor in self.value_head.state_dict().items()}
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """CPU copies of `trained`. All ranks must call it together. Rank 0 gets the state, other ranks an empty one."""
        return self.ranks.stored(self.trained())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises: `PolicyError` if names or shapes do not match; nothing is loaded then.
        """
        modules = {"model": self.model} | ({"value_head": self.value_head} if self.value_head is not None else {})
        shapes = {name: tensor.shape for name, tensor in self.trained().items()}
        given = {name: tensor.shape for name, tensor in state.items()}
        for name in sorted(shapes.keys() | given.keys()):
            if shapes.get(name) != given.get(name):
                here, there = (str(tuple(s[name])) if name in s else "missing" for s in (shapes, given))
                raise PolicyError(
                    f"the state does not fit this policy: {name} is {here} here and {there} in the state, which was "
                    "saved with another model, other adapters or another critic"
                )
        for prefix, module in modules.items():
            of_module = {n.partition(".")[2]: t for n, t in state.items() if n.partition(".")[0] == prefix}
            module.load_state_dict(parts(of_module, module), strict=False)  # names are compared above

    def deploy(self) -> None:
        """Drop the parts that are not shipped: quarantine and frozen adapters, and the critic."""
        self.adapters.activate(self.adapters.names("kept"))
        self.adapters.drop(self.adapters.names("quarantine", "frozen"))
        self.value_head = None

    @property
    def base(self) -> BaseReference | None:
        """What its adapters belong to; None if the base is trained, too, or was made in memory."""
        if self._source is None or not self.adapters.names("kept"):
            return None
        return BaseReference.of(self._source, self._name)

    def save(self, directory: Path) -> None:
        """Save what was trained: nothing is merged and nothing rounded.

        A policy that is trained as a whole becomes a plain model in Hugging Face layout (safetensors). Kept adapters
        are saved in PEFT's layout with a reference to their base (`shaping.models.lora.adapter_checkpoint`); tokenizer,
        chat template and generation config are beside them. All ranks must call it together; rank 0 writes.

        Raises: `PolicyError` if other adapters are active on a base that is trained.
        """
        kept = self.adapters.names("kept")
        whole = self.ranks.stored(self.model.state_dict()) if self.ranks.strategy == "fsdp" and not kept else None
        if self.ranks.rank > 0:
            return
        directory.mkdir(parents=True, exist_ok=True)
        if kept:
            save_adapters(self.adapters, kept, directory, self.base)
            if (generation := getattr(self.model, "generation_config", None)) is not None:
                generation.save_pretrained(directory)
        elif self.adapters.active:
            raise PolicyError(
                f"the adapter {self.adapters.active[0]!r} is active and is no part of the base that is saved: call "
                "deploy() first, which drops it, or save it by itself with `policy.adapters.save`"
            )
        else:
            self.model.save_pretrained(
                directory, state_dict=self.adapters.merge(whole).weights if self.adapters else whole
            )
        self.tokenizer.save_pretrained(directory)

    def export(self, directory: Path, dtype: torch.dtype = torch.float32) -> float:
        """Save a plain model with the active adapters merged, and return `Merge.lost`. The adapters are gone then.

        Raises: `PolicyError` if rounding loses more than `MOST_LOST` of the update; nothing has changed then.
        """
        merged = self.adapters.merge(dtype=dtype)
        if merged.lost > MOST_LOST:
            kind = str(dtype).removeprefix("torch.")
            remedy = "export in float32" if dtype != torch.float32 else "load the adapters beside their base instead"
            raise PolicyError(
                f"merged in {kind}, the model loses {merged.lost:.2%} of what its adapters have learned, above "
                f"{MOST_LOST:.0%}: {remedy}"
            )
        self.adapters.drop(self.adapters.names())
        self.model.to(dtype)
        self.model.load_state_dict(merged.weights)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        return merged.lost
