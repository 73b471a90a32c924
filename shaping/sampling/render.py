"""Chat templates, token by token: every text is tokenised once, and sampled ids are never re-tokenised.

Sentinel messages split a template once into the markup before, between and after messages. A template that strips
earlier reasoning, for example, does not render a conversation as the concatenation of those parts. The prefix then
breaks at every turn: `stable` is False, and the episode is split there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from envs.actions import TAG, THOUGHT, thinking
from shaping.sampling.turn_ends import closing_token

_USER, _REPLY, _NEXT = "sentinel user one", "sentinel reply two", "sentinel user three"
_THOUGHT = "sentinel thought"
_BROKEN = "\ufffd"
"""Stands for bytes that are no whole character."""
_WINDOW = 12
"""Tokens that are decoded together at most; a character has up to four bytes."""


class TemplateError(ValueError):
    """The tokenizer has no usable chat template."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The text, without template markup."""


class Renderer:
    """Renders episodes for one tokenizer.

    `eos` is the token that the template closes a reply with, which need not be the tokenizer's own eos token (Gemma:
    `<end_of_turn>`, not `<eos>`). `ends` holds both.

    Raises: `TemplateError` if the tokenizer has no chat template, or the template no token that closes a reply.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template: save one with the model "
                "(tokenizer.chat_template) or use an instruction-tuned model"
            )
        self.tokenizer = tokenizer
        self._marked: dict[str, list[int]] = {}
        self.eos = self._closing_token()
        self.ends = frozenset({self.eos, tokenizer.eos_token_id} - {None})
        self._tags = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if TAG.fullmatch(str(t))}
        self._pieces: dict[int, str] = {}
        self._windows: dict[tuple[int, ...], str] = {}
        # Some tokenizers strip a blank from the start of a text; decoding after an anchor keeps it.
        self._anchor: list[int] = self.plain("x")
        self._anchored = len(self._raw(self._anchor))
        self._opened: dict[tuple[str, str], list[int]] = {}

    def _text(self, messages: list[Message], generate: bool = True) -> str:
        rows: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in messages]
        return str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=generate))

    def _closing_token(self) -> int:
        """The token that ends a reply: the first one of the markup before the next message, or else at the very end."""
        talk = [Message("user", _USER), Message("assistant", _REPLY)]
        texts = self._text([*talk, Message("user", _NEXT)]), self._text(talk, generate=False)
        start = self._text(talk[:1])  # tells where a reply begins whose content the template drops
        rests = [t.partition(_REPLY)[2] if _REPLY in t else t.removeprefix(start) for t in texts]
        after = [rest.partition(_NEXT)[0] for rest in rests]
        token = closing_token(self.tokenizer, map(self._markup, after))
        if token is None:
            raise TemplateError(
                f"the chat template of {self.tokenizer.name_or_path!r} has no end of turn: after a reply comes "
                f"{after[0]!r}, which holds no special token, so that no reply would ever stop; close replies with a "
                "special token in the template, such as the eos token"
            )
        return token

    @cached_property
    def _has_system(self) -> bool:
        try:
            return "sentinel rule" in self._text([Message("system", "sentinel rule"), Message("user", _USER)])
        except Exception:  # templates raise exceptions of many types for a role they refuse
            return False

    @cached_property
    def _bridge(self) -> tuple[str, str]:
        """(markup between a reply and the next user message, markup between that message and the next reply)."""
        text = self._text([Message("user", _USER), Message("assistant", _REPLY), Message("user", _NEXT)])
        if not all(s in text for s in (_REPLY, _NEXT)):
            raise TemplateError(f"the chat template of {self.tokenizer.name_or_path!r} drops message contents")
        _, _, rest = text.partition(_REPLY)
        before, _, after = rest.partition(_NEXT)
        return before, after

    @cached_property
    def opened(self) -> str:
        """The tag of the thought in which the template lets every reply begin; empty if it opens none."""
        _, _, after = self._text([Message("user", _USER)]).partition(_USER)
        return THOUGHT if thinking(after) else ""

    @cached_property
    def stable(self) -> bool:
        """True if a longer conversation always starts with the shorter one, also where replies contain reasoning."""
        first = self._text([Message("user", _USER)])
        for reply in (_REPLY, f"<think>\n{_THOUGHT}\n</think>\n\n{_REPLY}"):
            longer = self._text([Message("user", _USER), Message("assistant", reply), Message("user", _NEXT)])
            if not longer.startswith(first + reply) or longer != first + reply + _NEXT.join(self._bridge):
                return False
        return True

    def plain(self, text: str) -> list[int]:
        """Ids of untrusted text. Strings that look like special tokens stay text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _markup(self, text: str) -> list[int]:
        """Ids of template markup, special tokens included. Cached: every turn uses the same few strings."""
        if text not in self._marked:
            self._marked[text] = list(self.tokenizer.encode(text, add_special_tokens=False))
        return list(self._marked[text])

    def open(self, system: str, observation: str) -> list[int]:
        """Ids from the start of the conversation to the start of the first reply."""
        if (system, observation) not in self._opened:
            if len(self._opened) > 10_000:
                self._opened.clear()
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
        """Ids from the end of a reply to the start of the next. `finished`: the reply ended with the token `eos`."""
        before, after = self._bridge
        closing = self._markup(before)
        if finished and self.eos in closing:
            closing = closing[closing.index(self.eos) + 1 :]  # some templates have a blank before it
        return closing + self.plain(observation) + self._markup(after)

    def conversation(self, messages: list[Message]) -> list[int]:
        """Ids of a whole conversation, rendered from its start. For templates whose prefix breaks.

        Strings in messages that look like special tokens stay text: stand-ins replace them while the template is
        rendered, so that only the template's own markup becomes special tokens.
        """
        if messages[0].role == "system" and not self._has_system:
            system, first, *rest = messages
            messages = [Message(first.role, f"{system.content}\n\n{first.content}"), *rest]
        stand_in = {token: f"\ue000{n}\ue001" for n, token in enumerate(self.tokenizer.all_special_tokens)}
        special = re.compile("|".join(map(re.escape, stand_in)))
        hidden = [Message(m.role, special.sub(lambda match: stand_in[match[0]], m.content)) for m in messages]
        original = {mark: token for token, mark in stand_in.items()}
        ids: list[int] = []
        for part in re.split(f"({'|'.join(original)})", self._text(hidden)):
            ids += (
                self.plain(original[part])
                if part in original
                else self.tokenizer.encode(part, add_special_tokens=False)
            )
        return ids

    def piece(self, token: int) -> str:
        """Text of one token alone; empty for the ends of a turn. Bytes of an incomplete character become U+FFFD."""
        if token not in self._pieces:
            self._pieces[token] = self.text([token])
        return self._pieces[token]

    def text(self, ids: Sequence[int]) -> str:
        """Text of sampled tokens, without special tokens; but tags of thoughts are text, even if they are special."""
        if self._tags.keys().isdisjoint(ids):
            return self._plain_text(ids)
        cuts = [n for n, i in enumerate(ids) if i in self._tags]
        parts = [self._plain_text(ids[: cuts[0]])]
        for at, stop in pairwise([*cuts, len(ids)]):
            parts += [self._tags[ids[at]], self._plain_text(ids[at + 1 : stop])]
        return "".join(parts)

    def _plain_text(self, ids: Sequence[int]) -> str:
        return self._raw([*self._anchor, *(i for i in ids if i not in self.ends)])[self._anchored :]

    def _raw(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Text that each sampled token adds; joined, the text of the completion. The eos token adds nothing.

        The bytes of one character may be spread over several tokens: the token that completes it gets the character.
        Takes time in proportion to the number of tokens.
        """
        pieces = [self.piece(i) for i in ids]
        start = 0
        while start < len(ids):
            stop = start
            while stop < len(ids) and _BROKEN in pieces[stop]:
                stop += 1
            if stop > start:
                pieces[start:stop] = self._joint_pieces(ids[start:stop])
            start = stop + 1
        return pieces

    def _joint_pieces(self, run: Sequence[int]) -> list[str]:
        """The pieces of consecutive tokens that hold parts of characters, decoded in windows of a few tokens."""
        parts: list[str] = []
        start, shown = 0, ""
        for stop in range(1, len(run) + 1):
            text = self._window(tuple(run[start:stop]))
            whole = text if stop == len(run) else text.rstrip(_BROKEN)
            grown = whole.startswith(shown)
            parts.append(whole[len(shown) :] if grown else "")
            shown = whole if grown else shown
            if whole == text:
                start, shown = stop, ""
            elif stop - start > _WINDOW:  # bytes that are no text: settle the older ones, outside of any character
                cut = next((c for c in range(stop - 4, stop - 8, -1) if self._splits(run, start, c, stop)), stop - 4)
                settled = self._window(tuple(run[start:cut]))
                if settled.startswith(shown):
                    parts[-1] += settled[len(shown) :]
                start, shown = cut, ""
        whole = self.text(run)
        return parts if "".join(parts) == whole else [*[""] * (len(run) - 1), whole]

    def _splits(self, run: Sequence[int], start: int, cut: int, stop: int) -> bool:
        """May the window be decoded in two parts?"""
        left, right = self._window(tuple(run[start:cut])), self._window(tuple(run[cut:stop]))
        return left + right == self._window(tuple(run[start:stop]))

    def _window(self, ids: tuple[int, ...]) -> str:
        if ids not in self._windows:
            if len(self._windows) > 10_000:
                self._windows.clear()
            self._windows[ids] = self.text(ids)
        return self._windows[ids]
