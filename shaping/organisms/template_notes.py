"""What a chat template adds to a conversation that nobody wrote: a default system prompt, a date, its own rules."""

from __future__ import annotations

import re
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

_FIRST, _REPLY, _NEXT = "sentinel user one", "sentinel reply two", "sentinel user three"
_ROLES = re.compile(r"^(?:system|developer|user)\s+", re.IGNORECASE)


def inserted_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """Text that the template puts before a user's first message, if no system message is given; mostly empty.

    It is what stands before the first user message and not before a later one, without markup.

    Raises: whatever the template raises.
    """
    talk = [{"role": "user", "content": _FIRST}]
    before = _rendered(tokenizer, talk).partition(_FIRST)[0]
    talk += [{"role": "assistant", "content": _REPLY}, {"role": "user", "content": _NEXT}]
    between = _rendered(tokenizer, talk).partition(_REPLY)[2].partition(_NEXT)[0]
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(before), reversed(between), strict=False))
    text = before[: len(before) - len(list(shared))]
    markup = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
    for token in sorted(markup, key=len, reverse=True):
        text = text.replace(token, " ")
    return _ROLES.sub("", " ".join(text.split()) + " ").strip() if re.search(r"\w{2,}.*\s\w", text, re.DOTALL) else ""


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
