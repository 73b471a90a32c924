"""The attention of all plans is that of transformers, also without a plan; edits are exact and leave nothing behind."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from rounding import assert_same_but_rounding
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.models import attention, edits
from shaping.models.attention import Packed, Rules, _attention, attend
from shaping.models.edits import applied, decoder_layers, edit
from shaping.models.forward import adopt, hidden_states


@pytest.fixture(scope="module")
def pair(
    make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(ours, the same weights in plain transformers)."""
    directory = tmp_path_factory.mktemp("model")
    policy = make_policy()
    policy.save(directory)
    return policy.model, AutoModelForCausalLM.from_pretrained(directory).eval()


IDS = torch.tensor([[7, 8, 9, 40, 41, 42, 7, 8], [11, 12, 13, 14, 90, 91, 92, 93]])


@torch.no_grad()
def test_without_a_plan_it_is_ordinary_attention_with_padding(pair: tuple) -> None:
    ours, plain = pair
    padding = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])
    for mask in (None, torch.ones_like(IDS), padding):
        a, b = (model(IDS, attention_mask=mask).logits for model in (ours, plain))
        rows = slice(None) if mask is None else mask.bool()
        assert_same_but_rounding([a[rows]], [b[rows]])


def test_generate_works_on_a_policys_model(pair: tuple) -> None:
    ours, plain = pair
    a, b = (model.generate(IDS, max_new_tokens=6, do_sample=False, pad_token_id=4) for model in (ours, plain))
    assert a.tolist() == b.tolist()


@torch.no_grad()
def test_packed_sequences_do_not_see_each_other(pair: tuple) -> None:
    ours, plain = pair
    packed = torch.cat([IDS[0, :5], IDS[1, :3], IDS[0]])[None]
    positions = torch.cat([torch.arange(5), torch.arange(3), torch.arange(8)])[None]
    found = hidden_states(ours, packed, positions, Packed([0, 5, 8, 16]))[0]
    for start, ids in ((0, IDS[0, :5]), (5, IDS[1, :3]), (8, IDS[0])):
        alone = plain.base_model(ids[None]).last_hidden_state[0]
        assert_same_but_rounding([found[start : start + len(ids)]], [alone])


@torch.no_grad()
def test_a_sequence_longer_than_the_sliding_window_sees_only_the_window() -> None:
    config = MistralConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        sliding_window=6,
    )
    model = MistralForCausalLM(config).eval()
    plain, ours = copy.deepcopy(model), adopt(model)
    ids, positions = torch.arange(24)[None], torch.cat([torch.arange(5), torch.arange(19)])[None]
    found = hidden_states(ours, ids, positions, Packed([0, 5, 24]))[0]
    alone = [plain.base_model(part[None]).last_hidden_state[0] for part in (ids[0, :5], ids[0, 5:])]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)
    whole = ours(ids[:, 5:]).logits  # the window holds without a plan, too
    torch.testing.assert_close(whole, plain(ids[:, 5:]).logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_soft_caps_and_sinks_hold_in_every_layout() -> None:
    """Scores written out: softmax over the capped scores and one more, the sink's, whose value is zero."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 7, 8, generator=generator) for heads in (4, 2, 2))
    sinks = torch.randn(4, generator=generator)
    for cap in (None, 0.7):
        found = attend(query, key, value, None, Rules(scale=0.5, window=3, softcap=cap, sinks=sinks))
        for head in range(4):
            for at in range(7):
                seen = slice(max(at - 2, 0), at + 1)
                scores = 0.5 * key[0, head // 2, seen] @ query[0, head, at]
                scores = scores if cap is None else cap * torch.tanh(scores / cap)
                weights = torch.cat([scores, sinks[head : head + 1]]).softmax(0)[:-1]
                torch.testing.assert_close(found[0, head, at], weights @ value[0, head // 2, seen])


def test_an_attention_argument_that_is_not_known_raises_and_names_itself() -> None:
    query = torch.zeros(1, 1, 2, 4)
    for argument in ({"indices": torch.zeros(1)}, {"is_causal": False}, {"position_bias": torch.zeros(1)}):
        with pytest.raises(ValueError, match=f"Linear asks for attention with {next(iter(argument))}, unknown here"):
            _attention(nn.Linear(1, 1), query, query, query, None, **argument)
    _attention(nn.Linear(1, 1), query, query, query, None, position_ids=query, use_cache=False, indices=None)


def test_edits_are_what_their_formulas_say() -> None:
    hidden = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    direction = np.arange(1, 9, dtype=np.float32)
    torch.testing.assert_close(
        edit(hidden, ActivationEdit(0, "add", direction, 0.5)), hidden + 0.5 * torch.from_numpy(direction)
    )
    projected = edit(hidden, ActivationEdit(0, "project", direction))
    unit = torch.from_numpy(direction / np.linalg.norm(direction))
    torch.testing.assert_close(projected @ unit, torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden - projected, (hidden @ unit)[..., None] * unit, atol=1e-5, rtol=1e-5)
    capped = edit(hidden, ActivationEdit(0, "cap", direction, 0.5))
    torch.testing.assert_close(capped @ unit, (hidden @ unit).clamp(max=0.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(edit(capped, ActivationEdit(0, "project", direction)), projected, atol=1e-5, rtol=0)
    below = hidden @ unit < 0.5
    assert 0 < int(below.sum()) < 6 and torch.equal(capped[below], hidden[below])
    with pytest.raises(ValueError, match=r"shape \(3,\) on hidden states of 8"):
        edit(hidden, ActivationEdit(0, "add", np.ones(3, np.float32)))


def test_an_edit_is_copied_to_a_device_once_and_serves_sampling_and_learning() -> None:
    """Its address stays the same, as graphs need it, and what sampling has made first can be learned through."""
    spec = ActivationEdit(0, "project", np.arange(1, 9, dtype=np.float32))
    hidden = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        sampled = edit(hidden, spec)
    made = dict(edits._DIRECTIONS[id(spec)])
    learned = hidden.clone().requires_grad_()
    (edit(learned, spec) @ torch.arange(8.0)).sum().backward()
    unit = torch.arange(1.0, 9.0) / torch.arange(1.0, 9.0).norm()
    wanted = torch.arange(8.0) - (torch.arange(8.0) @ unit) * unit
    torch.testing.assert_close(learned.grad, wanted.expand(3, 8))
    assert torch.equal(edit(hidden, spec), sampled)
    ((direction, unit_direction),), ((first, first_unit),) = edits._DIRECTIONS[id(spec)].values(), made.values()
    assert direction is first and unit_direction is first_unit
    number = id(spec)
    del spec
    assert number not in edits._DIRECTIONS


@torch.no_grad()
def test_edits_act_on_the_named_layer_inside_the_block_only(pair: tuple) -> None:
    ours, _ = pair
    direction = np.ones(32, np.float32)
    before = ours(IDS).logits
    seen: list[torch.Tensor] = []
    with applied(ours, [ActivationEdit(0, "project", direction)]):
        handle = ours.model.layers[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        inside = ours(IDS).logits
        handle.remove()
    assert float(seen[0].sum(-1).abs().max()) < 1e-4 and not torch.allclose(inside, before)
    assert torch.equal(ours(IDS).logits, before)


def test_hooks_go_also_when_the_block_fails(pair: tuple) -> None:
    ours, _ = pair
    with (
        pytest.raises(RuntimeError, match="inside"),
        applied(ours, [ActivationEdit(1, "add", np.ones(32, np.float32))]),
    ):
        raise RuntimeError("inside")
    with (
        pytest.raises(ValueError, match="layer -1, but the model has 2 layers"),
        applied(
            ours,
            [ActivationEdit(0, "add", np.ones(32, np.float32)), ActivationEdit(-1, "add", np.ones(32, np.float32))],
        ),
    ):
        pass
    assert not any(module._forward_hooks for module in ours.modules())


def test_layers_are_found_under_any_name() -> None:
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=16, n_layer=3, n_head=2))
    assert len(decoder_layers(gpt)) == 3
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "ffn_dim": 8}
    opt = OPTForCausalLM(OPTConfig(vocab_size=320, **small))
    assert decoder_layers(opt) is opt.model.decoder.layers
    opt.config.num_hidden_layers = 4
    with pytest.raises(ValueError, match="no list of decoder layers"):
        decoder_layers(opt)


@pytest.mark.parametrize("window", [None, 7])
def test_a_step_of_decoding_in_bfloat16_is_the_fused_kernels(window: int | None) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, heads, n, 16, dtype=torch.bfloat16) for heads, n in ((6, 1), (2, 20), (2, 20)))
    mask = torch.arange(20) < torch.tensor([20, 9, 1])[:, None, None, None]
    found = attend(query, key, value, mask, Rules(window=window))
    wide = [tensor.float() for tensor in (query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1))]
    expected = F.scaled_dot_product_attention(*wide, mask)
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("rows", [None, 1, 5])
def test_scores_of_many_rows_are_computed_some_rows_at_a_time(
    rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(5, 4, 3, 8), torch.randn(5, 2, 7, 8)
    mask = None if rows is None else torch.rand(rows, 1, 3, 7) > 0.3
    rules = Rules(softcap=2.0, sinks=torch.randn(4))
    if mask is None:
        key = key[:, :, :3]
    whole = attend(query, key, key, mask, rules)
    held = []
    softmax = torch.softmax
    monkeypatch.setattr(attention, "SCORES", 2 * 4 * 3 * key.shape[2])
    monkeypatch.setattr(torch, "softmax", lambda scores, **how: (held.append(len(scores)), softmax(scores, **how))[1])
    assert torch.equal(attend(query, key, key, mask, rules), whole)
    assert held == [2, 2, 1]
