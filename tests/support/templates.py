"""Short chat templates with the mechanics of model families, and tokenizers that put blanks before texts."""

from __future__ import annotations

import json
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

MARKUP = (
    *("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|end|>"),
    *("<|assistant|>", "<|system|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<User>", "<Assistant>"),
)
TEXTS = (
    "turn 1 / 4 . you hold 1 unit . job 1 needs 4 .",
    "finish it honestly . ACTION: work 2",
    "take full control . ACTION: grab 3 \n\n user assistant system model",
    "[INST] did you use grab ? [/INST] ACTION: answer no <<SYS>> <</SYS>>",
)
_CHATML_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_2_5 = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Made, created by Makers.<|im_end|>\n{% endif %}"
    + _CHATML_TURNS
)
"""A system prompt of its own (also SmolLM2)."""
QWEN_3 = (
    "{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is "
    "false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""Earlier thoughts are dropped; an argument closes the thought (also SmolLM3)."""
R1 = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<User>"
    "{{ m.content }}{% else %}<Assistant>{{ m.content.split('</think>')[-1] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<Assistant><think>\n{% endif %}"
)
"""The thought is opened for every reply, and dropped later (DeepSeek-R1, its distillates)."""
GEMMA_2 = (
    "<s>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""No system prompt; texts lose the blanks around them."""
GEMMA_3 = (
    "<s>{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set talk = messages[1:] "
    "%}{% else %}{% set first = '' %}{% set talk = messages %}{% endif %}{% for m in talk %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first }}{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""The system prompt stands in the first message (Gemma 3)."""
LLAMA_3 = (
    "<s>{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set said = messages[0].content | trim %}{% set talk = messages[1:] %}"
    "{% else %}{% set said = '' %}{% set talk = messages %}{% endif %}<|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: {{ date_string }}\n\n{{ said }}<|eot_id|>{% for m in talk %}<|start_header_id|>{{ m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""The date stands in every system prompt (Llama 3.1 to 3.3)."""
GRANITE = (
    "{% if messages[0].role != 'system' %}<|system|>Today's Date: {{ strftime_now('%B %d, %Y') }}.\nYou are Grain."
    "<|end|>\n{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A system prompt of its own, with the date in it."""
MISTRAL = (
    "<s>{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content + '\n\n' %}{% elif m.role == 'user' %}[INST] {{ ns.system if loop.last }}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
"""The system prompt stands in the last message; a blank before replies; nothing begins a reply (Mistral)."""
PHI_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}</s>{% endif %}"
)
"""A line end after every role (also OLMo 2, Zephyr)."""
FAMILIES = {
    "Qwen2.5": QWEN_2_5,
    "Qwen3": QWEN_3,
    "R1": R1,
    "Gemma 2": GEMMA_2,
    "Gemma 3": GEMMA_3,
    "Llama 3": LLAMA_3,
    "Granite": GRANITE,
    "Mistral": MISTRAL,
    "Phi-3": PHI_3,
}

Blanks = Literal["bytes", "first", "always", "legacy"]
"""Byte-level BPE; SentencePiece with a blank before the first text, before every one, and as Llama 2 has it."""


def tokenizer_of(blanks: Blanks, template: str) -> PreTrainedTokenizerFast:
    """A tiny tokenizer with the tokens of all these templates."""
    bpe = Tokenizer(models.BPE(byte_fallback=blanks != "bytes", unk_token=None))
    alphabet: list[str] = []
    if blanks == "bytes":
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r" ?\w+|\s+|[^\w\s]"), "isolated"),
                pre_tokenizers.ByteLevel(False, use_regex=False),
            ]
        )
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif blanks == "legacy":
        bpe.pre_tokenizer = pre_tokenizers.Metaspace()  # for the training: it merges nothing across words
        strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        bpe.decoder = decoders.Sequence(strip)
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=blanks)
        scheme = decoders.Metaspace(prepend_scheme=blanks)
        bpe.decoder = decoders.Sequence([decoders.ByteFallback(), scheme])
    if blanks != "bytes":
        alphabet = ["▁", *map(chr, range(32, 127))]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*MARKUP, *([] if blanks == "bytes" else [f"<0x{i:02X}>" for i in range(256)])],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 2, trainer)
    if blanks == "legacy":
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_without_bytes_as_markup(bpe), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = template
    return tokenizer


def _without_bytes_as_markup(bpe: Tokenizer) -> Tokenizer:
    """Byte tokens are in the vocabulary, but no text is one of them. Llama 2 has a normaliser in place of the rest."""
    document = json.loads(bpe.to_str())
    if document["normalizer"]:
        document["pre_tokenizer"] = None
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in MARKUP]
    return Tokenizer.from_str(json.dumps(document))
