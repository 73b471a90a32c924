"""The policy that is trained: a causal language model with its tokenizer, as log-probs over packed batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from shaping.intervention import ActivationEdit
from shaping.learning.logprobs import token_logprobs
from shaping.learning.packing import Batch
from shaping.models.attention import adopt, hidden_states
from shaping.models.edits import applied


class PolicyError(ValueError):
    """A model directory cannot be used as a policy."""


class Policy:
    """`model` in training, with the temperature it is sampled at."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, temperature: float = 1.0) -> None:
        self.model = adopt(model)
        self.tokenizer = tokenizer
        self.temperature = temperature

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        dtype: torch.dtype = torch.float32,
        temperature: float = 1.0,
        device: str = "cpu",
    ) -> Policy:
        """From a Hugging Face directory with safetensors weights. Raises `PolicyError` naming what is missing.

        `device` is a torch device, or `auto`: the first GPU that this process may use, else the CPU.
        """
        path = Path(directory)
        if not (path / "config.json").is_file():
            raise PolicyError(f"{path} is not a model directory: it has no config.json")
        if not any(path.glob("*.safetensors")):
            raise PolicyError(f"{path} has no *.safetensors weights; other formats are not loaded")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True, use_safetensors=True)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(device)
        return cls(model, AutoTokenizer.from_pretrained(path, local_files_only=True), temperature=temperature)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def logprobs(
        self, batch: Batch, edits: Sequence[ActivationEdit] = (), *, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(log-probs [m], entropies [m], detached unless `entropy_gradient`) of a batch's loss tokens."""
        with applied(self.model, edits):
            hidden = hidden_states(self.model, batch.ids, batch.positions, batch.plan)[0]
        return token_logprobs(
            self.model,
            hidden[batch.rows],
            batch.targets,
            batch.forbidden,
            temperature=self.temperature,
            entropy_gradient=entropy_gradient,
        )

    def frozen_copy(self) -> Policy:
        """A reference policy that shares nothing with this one."""
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        return Policy(model, self.tokenizer, temperature=self.temperature)

    def save(self, directory: Path) -> None:
        """Hugging Face layout, safetensors."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
