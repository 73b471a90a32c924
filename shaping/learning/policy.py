"""The trained policy: a causal language model with its tokenizer, adapters and critic, on packed batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from shaping.hooks import ActivationEdit, AdapterSpec, Phase
from shaping.learning.logprobs import token_logprobs
from shaping.learning.packing import Batch
from shaping.learning.parallel import SINGLE, Ranks
from shaping.learning.sharding import Run, parts, run_here
from shaping.models.adapters import Adapters
from shaping.models.edits import applied
from shaping.models.forward import adopt, hidden_states, layout_of
from shaping.models.model_files import damaged_weights
from shaping.models.saving import mend_generation_config
from shaping.models.value_head import ValueHead


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


class Policy:
    """A model in training.

    Args:
        model: the causal language model.
        tokenizer: its tokenizer.
        temperature: temperature of sampling; log-probs use it, too.
        adapters: LoRA adapters to inject. Without a `kept` adapter the base weights are trained.
        critics: outputs of a value head on the final hidden state; 0: no head.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float = 1.0,
        adapters: Sequence[AdapterSpec] = (),
        critics: int = 0,
    ) -> None:
        self.model = adopt(model)
        self.tokenizer = tokenizer
        self.temperature = temperature
        base = list(model.parameters())
        self.adapters = Adapters(model, adapters)
        self._base = base
        self.ranks = SINGLE
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
    ) -> Policy:
        """Load a Hugging Face directory with safetensors weights.

        Args:
            directory: the model directory.
            dtype: type of the weights.
            device: a torch device, or `auto`: the first GPU of this process, or else the CPU.
            temperature, adapters, critics: as for `Policy`.
        Raises: `PolicyError` that names the missing files or weights.
        """
        path = Path(directory)
        if not (path / "config.json").is_file():
            raise PolicyError(f"{path} is not a model directory: it has no config.json")
        if not any(path.glob("*.safetensors")):
            raise PolicyError(f"{path} has no *.safetensors weights; other formats are not loaded")
        if damaged := damaged_weights(path):
            raise PolicyError(f"{damaged}; copy or download the model again")
        model, told = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
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
        model.to(device)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        return cls(model, tokenizer, temperature=temperature, adapters=adapters, critics=critics)

    @property
    def padded(self) -> bool:
        """True if sequences of a batch are padded to the longest, since the model cannot pack them."""
        return not layout_of(self.model).packed

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def distribute(self, ranks: Ranks) -> None:
        """Become one of several ranks that train this policy. Build the optimiser only afterwards.

        Adapters and the value head stay whole on every rank: they are small, and float32 beside any base.
        """
        parameters = dict(self.model.named_parameters())
        adapters = [p for name, p in parameters.items() if ".lora_" in name]
        critic = self.value_head
        head = () if critic is None else (*critic.parameters(), *critic.buffers())
        self.ranks, self._run = ranks, ranks.distribute(self.model, head, adapters)
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
        """Activate exactly the adapters of one phase inside the block."""
        with self.adapters.using(self.adapters.names(phase=phase)):
            yield

    def scores(
        self,
        batch: Batch,
        edits: Sequence[ActivationEdit] = (),
        *,
        entropy_gradient: bool = False,
        detach_critic: bool = False,
    ) -> Scores:
        """Log-probs, entropies and values of a batch's loss tokens.

        Args:
            batch: the micro-batch.
            edits: activation edits of the forward pass.
            entropy_gradient: keep the gradient of the entropy; otherwise it is detached.
            detach_critic: keep the gradient of the values out of the layers below the value head.
        """

        def compute() -> tuple[Tensor, Tensor, Tensor | None]:
            hidden = self._hidden(batch, edits)[batch.rows]
            logprobs, entropy = token_logprobs(
                self.model,
                hidden,
                batch.targets,
                batch.masked_tokens,
                temperature=self.temperature,
                entropy_gradient=entropy_gradient,
            )
            if self.value_head is None:
                return logprobs, entropy, None
            return logprobs, entropy, self.value_head(hidden.detach() if detach_critic else hidden)

        return Scores(*self._run(compute))

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
        ends = torch.tensor(batch.plan.starts[1:], device=hidden.device) - 1
        return self.value_head(hidden[batch.rows]), self.value_head(hidden[ends])

    def critic_steps(self, batch: Batch, edits: Sequence[ActivationEdit] = ()) -> tuple[Tensor, Tensor]:
        """(features [steps, hidden + 1], targets [steps, heads]) of the critic in a batch, both float64.

        Features are a hidden state and a one. Targets are in units of the value head.
        """
        hidden = self._run(lambda: self._hidden(batch, edits))
        if self.value_head is None or batch.critic is None:
            heads = 0 if self.value_head is None else len(self.value_head.mean)
            return hidden.new_zeros(0, hidden.shape[-1] + 1).double(), hidden.new_zeros(0, heads).double()
        _, targets, mask = batch.critic
        states = hidden[batch.rows][mask].double()
        scaled = (targets[mask] - self.value_head.mean) / self.value_head.deviation
        return torch.cat([states, states.new_ones(len(states), 1)], dim=1), scaled.double()

    def _hidden(self, batch: Batch, edits: Sequence[ActivationEdit]) -> Tensor:
        with applied(self.model, edits):
            return hidden_states(self.model, batch.ids, batch.positions, batch.plan)[0]

    def state_dict(self) -> dict[str, Tensor]:
        """CPU copies of all weights (base, adapters, value head), by the names of their modules.

        All ranks must call it together. Rank 0 gets the state, other ranks an empty one.
        """
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.value_head is not None:
            state |= {f"value_head.{name}": tensor for name, tensor in self.value_head.state_dict().items()}
        return self.ranks.stored(state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises: `PolicyError` if names or shapes do not match; nothing is loaded then.
        """
        modules = {"model": self.model} | ({"value_head": self.value_head} if self.value_head is not None else {})
        shapes = {
            f"{prefix}.{n}": t.shape for prefix, module in modules.items() for n, t in module.state_dict().items()
        }
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
            module.load_state_dict(parts(of_module, module))

    def deploy(self) -> None:
        """Drop the parts that are not shipped: quarantine and frozen adapters, and the critic."""
        self.adapters.activate(self.adapters.names("kept"))
        self.adapters.drop(self.adapters.names("quarantine", "frozen"))
        self.value_head = None

    def save(self, directory: Path) -> None:
        """Save a plain model in Hugging Face layout (safetensors), with the *active* adapters merged.

        Kept adapters are also saved apart, under `adapters/<name>`. All ranks must call it together; rank 0 writes.
        """
        whole = self.ranks.stored(self.model.state_dict()) if self.ranks.strategy == "fsdp" else None
        if self.ranks.rank > 0:
            return
        self.model.save_pretrained(directory, state_dict=self.adapters.merged(whole) if self.adapters else whole)
        self.tokenizer.save_pretrained(directory)
        for name in self.adapters.names("kept"):
            self.adapters.save(name, directory / "adapters" / name)
