"""Model directories are ready or say what they lack; a GGUF file becomes one that computes the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer import Typer
from typer.testing import CliRunner

from shaping.learning.policy import Policy
from shaping.organisms.gguf_file import GgufFacts, read_facts
from shaping.organisms.pretrained import PretrainedError, check, from_gguf, main, prepare
from shaping.organisms.template_notes import inserted_prompt
from shaping.organisms.tokenizer import TEMPLATE

MakePolicy = Callable[..., Policy]


@pytest.fixture(scope="session")
def ready(make_policy: MakePolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ready") / "model"
    make_policy().save(path)
    return path


@pytest.fixture
def spoiled(ready: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(ready, tmp_path / "model"))


def without(path: Path, *keys: str) -> None:
    """Remove settings of the tokenizer."""
    settings = json.loads((path / "tokenizer_config.json").read_text())
    for key in keys:
        settings.pop(key, None)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def test_a_ready_directory_is_described(ready: Path) -> None:
    card = check(ready)
    assert (card.architecture, card.context, card.vocabulary, card.stable) == ("LlamaForCausalLM", 512, 320, True)


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=r"no config\.json"):
        check(tmp_path)


def test_weights_that_could_hold_code_are_not_loaded(spoiled: Path) -> None:
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    with pytest.raises(PretrainedError, match=r"no \*\.safetensors weights; it has pytorch_model\.bin"):
        check(spoiled)


def test_a_missing_shard_is_named(spoiled: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (spoiled / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PretrainedError, match=r"1 of 2 weight files are missing: \['model-2\.safetensors'\]"):
        check(spoiled)


def test_a_tokenizer_without_template_and_padding_gets_both(spoiled: Path, tmp_path: Path) -> None:
    without(spoiled, "chat_template", "pad_token")
    (spoiled / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(PretrainedError, match=r"lacks a chat template .* and a padding token"):
        check(spoiled)
    with pytest.raises(PretrainedError, match="a padding token"):
        prepare(spoiled, tmp_path / "half", chat_template=TEMPLATE)
    assert not (tmp_path / "half").exists()
    card = prepare(spoiled, tmp_path / "whole", chat_template=TEMPLATE, pad_token="<|end|>")
    assert card == check(tmp_path / "whole")
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (spoiled / "model.safetensors").read_bytes()


def test_a_padding_token_must_be_one_the_model_embeds(spoiled: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match="'<none>' is not in the tokenizer's vocabulary"):
        prepare(spoiled, tmp_path / "out", pad_token="<none>")


def test_a_template_that_fails_on_a_second_turn(spoiled: Path, tmp_path: Path) -> None:
    broken = "{% if messages|length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + TEMPLATE
    with pytest.raises(PretrainedError, match="two-turn conversation"):
        prepare(spoiled, tmp_path / "out", chat_template=broken)


def test_a_tokenizer_of_another_model(spoiled: Path) -> None:
    config = json.loads((spoiled / "config.json").read_text())
    (spoiled / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(PretrainedError, match="belong to different models"):
        check(spoiled)


def test_what_is_there_is_never_overwritten(ready: Path, spoiled: Path) -> None:
    with pytest.raises(FileExistsError):
        prepare(ready, spoiled)


# -- GGUF -------------------------------------------------------------------------------------------------------------

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    if name.startswith("model.layers."):
        _, _, number, *rest, _ = name.split(".")
        return f"blk.{number}.{_NAMES['.'.join(rest)]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores the two halves of each rotary pair next to each other."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="session")
def gguf_file(make_policy: MakePolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy in 8-bit blocks, with its tokenizer, as such files are published."""
    policy = make_policy()
    config, path = policy.model.config, tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    bpe = json.loads(policy.tokenizer.backend_tokenizer.to_str())
    vocabulary = sorted(bpe["model"]["vocab"], key=bpe["model"]["vocab"].get)
    special = {token["content"] for token in bpe["added_tokens"]}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in bpe["model"]["merges"]])
    writer.add_eos_token_id(policy.tokenizer.eos_token_id)
    writer.add_bos_token_id(policy.tokenizer.eos_token_id)
    writer.add_pad_token_id(policy.tokenizer.pad_token_id)
    writer.add_chat_template(policy.tokenizer.chat_template)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in policy.model.named_parameters():
        weight = parameter.detach().numpy()
        for projection, count in heads.items():
            weight = interleaved(weight, count) if projection in name else weight
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), weight)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_becomes_a_directory_that_computes_the_same(
    gguf_file: Path, make_policy: MakePolicy, tmp_path: Path
) -> None:
    card = from_gguf(gguf_file, tmp_path / "out", dtype=torch.float32)
    assert (card.architecture, card.context, card.vocabulary) == ("LlamaForCausalLM", 512, 320)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    original, made = make_policy(), AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for name, parameter in original.model.named_parameters():
        found = made.get_parameter(name)
        step = float(parameter.detach().abs().max()) / 127  # of 8-bit blocks, at most
        torch.testing.assert_close(found, parameter, rtol=0, atol=0.51 * step, msg=lambda text, n=name: f"{n}: {text}")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == original.tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|pad|>")
    assert len(tokenizer) == 320  # none for "unknown", which the file does not name
    text = "finish it honestly . ACTION: work 2"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert Policy.load(tmp_path / "out").model.config.num_hidden_layers == 2


def test_what_is_not_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"not one at all")
    with pytest.raises(PretrainedError, match=r"a\.gguf is not a GGUF file"):
        from_gguf(tmp_path / "a.gguf", tmp_path / "out")


def test_a_truncated_gguf_file_leaves_nothing_behind(gguf_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[:5000])
    with pytest.raises(PretrainedError, match=r"cut\.gguf cannot be converted"):
        from_gguf(tmp_path / "cut.gguf", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.gguf"]


def without_metadata(source: Path, target: Path, *keys: str) -> Path:
    """A copy whose metadata lacks some keys: their names are misspelled in place."""
    data = source.read_bytes()
    for key in keys:
        assert data.count(key.encode()) == 1
        data = data.replace(key.encode(), b"x" * len(key))
    target.write_bytes(data)
    return target


def test_the_metadata_of_a_gguf_file(gguf_file: Path) -> None:
    facts = read_facts(gguf_file)
    assert facts == GgufFacts("llama", 512, 0, "gpt2", template=True, padding=True)
    assert facts.known and facts.lacking(template=False, padding=False) == []


def test_what_a_gguf_file_lacks_is_told_before_its_weights_are_read(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shaping.organisms.pretrained._dense", lambda *_: pytest.fail("the weights were read"))
    file = without_metadata(
        gguf_file, tmp_path / "bare.gguf", "tokenizer.chat_template", "tokenizer.ggml.padding_token_id"
    )
    told = r"lacks a chat template \(--chat-template FILE, .* and a padding token \(--pad-token TOKEN, "
    with pytest.raises(PretrainedError, match=told):
        from_gguf(file, tmp_path / "out")
    with pytest.raises(PretrainedError, match=r"bare\.gguf lacks a padding token"):
        from_gguf(file, tmp_path / "out", chat_template=TEMPLATE)
    with pytest.raises(PretrainedError, match="'<none>' is not in the tokenizer's vocabulary"):
        from_gguf(file, tmp_path / "out", chat_template=TEMPLATE, pad_token="<none>")
    other = without_metadata(gguf_file, tmp_path / "other.gguf", "general.architecture")
    with pytest.raises(PretrainedError, match=r"an architecture that transformers converts \(it has 'none'; known: .*"):
        from_gguf(other, tmp_path / "out")


def test_what_a_gguf_file_lacks_can_be_given(gguf_file: Path, tmp_path: Path) -> None:
    file = without_metadata(gguf_file, tmp_path / "bare.gguf", "tokenizer.chat_template")
    card = from_gguf(file, tmp_path / "out", chat_template=TEMPLATE)
    assert card.ends == ("<|end|>",) and card.window == 0 and card.inserted == ""


def test_a_sliding_window_that_a_conversion_drops_is_refused(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_facts(gguf_file)
    for window, refused in ((64, True), (512, False)):
        monkeypatch.setattr("shaping.organisms.pretrained.read_facts", lambda _, w=window: replace(facts, window=w))
        if refused:
            with pytest.raises(PretrainedError, match=r"a sliding window of 64 tokens \(context 512\), which .* drops"):
                from_gguf(gguf_file, tmp_path / "out")
        else:
            assert from_gguf(gguf_file, tmp_path / "out").context == 512


# -- what is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"sliding_window": 64}, 64),
        ({"sliding_window": 64, "use_sliding_window": False}, 0),
        ({"sliding_window": 64, "layer_types": ["full_attention", "full_attention"]}, 0),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, 64),
        ({"sliding_window": None}, 0),
    ],
)
def test_a_sliding_window_is_told(spoiled: Path, settings: dict[str, object], window: int) -> None:
    config = json.loads((spoiled / "config.json").read_text())
    (spoiled / "config.json").write_text(json.dumps({**config, **settings}))
    card = check(spoiled)
    assert card.window == window
    assert any(f"look back {window} tokens" in line for line in card.lines()) == bool(window)


def test_all_ends_of_a_turn_are_told(spoiled: Path) -> None:
    vocabulary = AutoTokenizer.from_pretrained(spoiled).get_vocab()
    eos = [vocabulary["<|pad|>"], vocabulary["<|end|>"]]
    (spoiled / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    card = check(spoiled)
    assert set(card.ends) == {"<|pad|>", "<|end|>"}
    assert any(line.startswith("a turn ends at: ") and "<|end|>" in line for line in card.lines())
    (spoiled / "generation_config.json").write_text(json.dumps({"eos_token_id": [9999]}))
    with pytest.raises(PretrainedError, match=r"eos_token_id 9999 .* is none of the model's 320 tokens"):
        check(spoiled)


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen. You are helpful.<|end|>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "inserted"),
    [
        (CHATML, ""),
        (DEFAULT + CHATML, "You are Qwen. You are helpful."),
        ("<|pad|>" + CHATML, ""),
        ("Today is 26 July.\n" + CHATML, "Today is 26 July."),
    ],
)
def test_text_that_a_template_adds_is_told(spoiled: Path, template: str, inserted: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(spoiled)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = template
    assert inserted_prompt(tokenizer) == inserted


def test_the_shipped_template_adds_nothing(ready: Path) -> None:
    assert check(ready).inserted == ""
    assert not [line for line in check(ready).lines() if "adds" in line]


def test_from_the_command_line(ready: Path, spoiled: Path) -> None:
    app = Typer()
    app.command()(main)
    assert "LlamaForCausalLM, context 512" in CliRunner().invoke(app, [str(ready)]).output
    (spoiled / "model.safetensors").unlink()
    failed = CliRunner().invoke(app, [str(spoiled)])
    assert failed.exit_code == 1
    assert "error:" in failed.output
