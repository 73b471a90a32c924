"""The organism's tokenizer: byte-level BPE that may merge across blanks, and a chat template.

Worlds speak in a few dozen fixed phrases. Merges may cross word boundaries (as in SuperBPE, Liu et al.,
arXiv:2503.13423), so that a phrase is one token and an episode is about half as long. Numbers, line ends and the
action marker are never merged with their neighbours. Any text can be encoded, Arabic too, because BPE works on bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a tokenizer of at most `vocabulary` entries from `texts`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d+|\n| ?(?:ACTION|الإجراء): "), "isolated"),
            # A phrase ends at its full stop: longer merges would tie unrelated facts together.
            pre_tokenizers.Split(Regex(r" \. ?"), "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=list(SPECIAL[1:4])
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
