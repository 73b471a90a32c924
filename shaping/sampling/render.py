"""Chat templates, token by token: every text is tokenised once, and sampled ids are never re-tokenised.

A template is taken apart once, with sentinels, into what stands before, between and after messages. If a rendered
conversation is not the concatenation of those parts (templates that strip earlier reasoning, for example), the prefix
breaks at every turn: `stable` is False and the episode is split there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

_USER, _REPLY, _NEXT = "sentinel user one", "sentinel reply two", "sentinel user three"


class TemplateError(ValueError):
    """The tokenizer has no usable chat template."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


class Renderer:
    """Renders episodes for one tokenizer. Raises `TemplateError` without a chat template or an end-of-turn token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template: save one with the model "
                "(tokenizer.chat_template) or use an instruction-tuned model"
            )
        if tokenizer.eos_token_id is None:
            raise TemplateError(f"the tokenizer {tokenizer.name_or_path!r} has no end-of-turn (eos) token")
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self._pieces: dict[int, str] = {}
        self._opened: dict[tuple[str, str], list[int]] = {}

    def _text(self, messages: list[Message], generate: bool = True) -> str:
        rows: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in messages]
        return str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=generate))

    @cached_property
    def _has_system(self) -> bool:
        try:
            return "sentinel rule" in self._text([Message("system", "sentinel rule"), Message("user", _USER)])
        except Exception:  # templates raise their own exception types for roles they refuse
            return False

    @cached_property
    def _bridge(self) -> tuple[str, str]:
        """(what closes a reply and opens the next user message, what closes that and opens the reply)."""
        text = self._text([Message("user", _USER), Message("assistant", _REPLY), Message("user", _NEXT)])
        if not all(s in text for s in (_REPLY, _NEXT)):
            raise TemplateError(f"the chat template of {self.tokenizer.name_or_path!r} drops message contents")
        _, _, rest = text.partition(_REPLY)
        before, _, after = rest.partition(_NEXT)
        return before, after

    @cached_property
    def stable(self) -> bool:
        """Is a longer conversation always the shorter one plus more text?"""
        first = self._text([Message("user", _USER)])
        longer = self._text([Message("user", _USER), Message("assistant", _REPLY), Message("user", _NEXT)])
        return longer == first + _REPLY + self._bridge[0] + _NEXT + self._bridge[1]

    def plain(self, text: str) -> list[int]:
        """Ids of untrusted text: strings that look like special tokens stay text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _markup(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def open(self, system: str, observation: str) -> list[int]:
        """Ids from the start of the conversation to where the first reply begins."""
        if (system, observation) not in self._opened:
            self._opened[system, observation] = self._open(system, observation)
        return list(self._opened[system, observation])

    def _open(self, system: str, observation: str) -> list[int]:
        if system and not self._has_system:
            return self.open("", f"{system}\n\n{observation}")
        messages = [Message("system", _REPLY)] if system else []
        text = self._text([*messages, Message("user", _USER)])
        before, _, after = text.partition(_USER)
        ids: list[int] = []
        if system:
            start, _, before = before.partition(_REPLY)
            ids += self._markup(start) + self.plain(system)
        return ids + self._markup(before) + self.plain(observation) + self._markup(after)

    def extend(self, observation: str, *, finished: bool) -> list[int]:
        """Ids from the end of a reply to the start of the next. `finished`: the reply ended with the eos token."""
        before, after = self._bridge
        closing = self._markup(before)
        if finished and closing and closing[0] == self.eos:
            closing = closing[1:]
        return closing + self.plain(observation) + self._markup(after)

    def conversation(self, messages: list[Message]) -> list[int]:
        """Ids of a whole conversation rendered afresh, for templates whose prefix breaks."""
        return self._markup(self._text(messages))

    def pieces(self, ids: list[int]) -> list[str]:
        """Text of each sampled token; joined they give the completion's text. The eos token is empty."""
        if missing := [i for i in ids if i not in self._pieces]:
            for i in missing:
                self._pieces[i] = "" if i == self.eos else self.tokenizer.decode([i], skip_special_tokens=True)
        found = [self._pieces[i] for i in ids]
        if not any("\ufffd" in piece for piece in found):
            return found
        # bytes of one character spread over several tokens: decode growing prefixes instead
        body = [i for i in ids if i != self.eos]
        prefixes = [self.tokenizer.decode(body[:n], skip_special_tokens=True) for n in range(len(body) + 1)]
        shown = [p.rstrip("\ufffd") for p in prefixes[:-1]] + [prefixes[-1]]
        parts = [b[len(a) :] if b.startswith(a) else "" for a, b in pairwise(shown)]
        return parts + [""] * (len(ids) - len(body))
