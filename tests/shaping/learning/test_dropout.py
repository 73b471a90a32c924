"""Models with dropout are updated as they sample."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM, PreTrainedModel

from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample

SIZES = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> PreTrainedModel:
    dropout = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    return GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64, **dropout))


def opt() -> PreTrainedModel:
    """Its layers call dropout as a function."""
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2}
    config = OPTConfig(**SIZES, **sizes, num_attention_heads=4, max_position_embeddings=64, dropout=0.1, pad_token_id=0)
    return OPTForCausalLM(config)


def sampled(policy: Policy, make_sample: Callable[..., Sample]) -> list[Sample]:
    """On-policy samples: their log-probs are those of the model as it samples."""
    policy.model.eval()
    found = []
    for n in range(4):
        draft = make_sample(24, n, on_policy=True)
        old = np.zeros(len(draft), np.float32)
        with torch.no_grad():
            old[draft.mask] = policy.logprobs(pack([draft], 24)[0])[0].numpy()
        found.append(make_sample(24, n, on_policy=True, old_logprobs=old))
    return found


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


@pytest.mark.parametrize("make", [gpt2, opt])
def test_dropout_is_off_in_the_update(
    make: Callable[[], PreTrainedModel], make_policy: Callable[..., Policy], make_sample: Callable[..., Sample]
) -> None:
    """With it, a fifth of the tokens were clipped on policy, and the KL of the policy to itself was .02 to .06."""
    torch.manual_seed(0)
    start = Policy(make(), make_policy().tokenizer)
    batch = sampled(start, make_sample)
    found = []
    for recompute in (False, True):
        policy = Policy(copy.deepcopy(start.model), start.tokenizer)
        learner = Learner(policy, LearnerConfig(lr=1e-3, kl=0.1, activation_checkpointing=recompute))
        row = learner.update(batch)
        assert row["clipped"] == 0.0 and row["kl"] == 0.0 and row["mismatch_kl"] < 1e-9
        layer = (policy.model.base_model.h if make is gpt2 else policy.model.base_model.decoder.layers)[0]
        assert layer.training is recompute, "recomputed layers have to say that they train"
        found.append(weights(policy))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


def test_values_are_read_without_dropout(
    make_policy: Callable[..., Policy], make_sample: Callable[..., Sample]
) -> None:
    torch.manual_seed(0)
    policy = Policy(gpt2(), make_policy().tokenizer, critics=1)
    with torch.no_grad():
        assert policy.value_head is not None
        policy.value_head.linear.weight.normal_()
    learner = Learner(policy, LearnerConfig(algorithm="ppo", advantage_level="token"))
    (one, _), (other, _) = (learner.values([make_sample(24, 0)])[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
