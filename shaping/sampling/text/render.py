"""Chat templates, token by token: every text is tokenised once, and sampled ids are never re-tokenised.

An episode is one token sequence: what the template puts between a reply and the next one is appended to the sampled
ids. It is tokenised behind the token that it follows, since some tokenizers put a blank before every text of its own.
Where appending is not what a template does (`stable` is False), the episode is split at every turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from envs.actions import TAG
from shaping.sampling.text.pieces import Pieces
from shaping.sampling.text.template import USUAL, ChatTemplate, Message, TemplateError, TemplateSettings
from shaping.sampling.text.turn_ends import closing_token

_BROKEN = "\ufffd"
"""Stands for bytes that are no whole character."""
_WINDOW = 12
"""Tokens that are decoded together at most; a character has up to four bytes."""
_CACHED = 10_000
_MARK, _MARK_END = "\ue000", "\ue001"
"""Around the number of a special token that stands in a text."""
_LEADS = ("\n", "x", ".")
"""Texts that another one is tokenised behind, where what it follows would merge with it."""


class Renderer:
    """Renders episodes for one tokenizer.

    `eos` is the token that the template closes a reply with, which need not be the tokenizer's own eos token (Gemma:
    `<end_of_turn>`, not `<eos>`). `ends` holds both. Strings in messages that look like special tokens stay text:
    stand-ins replace them while the template is rendered, so that only its own markup becomes special tokens.

    Args:
        tokenizer: with a chat template.
        settings: how the template is rendered.
    Raises: `TemplateError` if the tokenizer has no chat template, the template no token that closes a reply, or if it
        does not read an argument of `settings`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: TemplateSettings = USUAL) -> None:
        self.template = ChatTemplate(tokenizer, settings)
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
        self._tags = {i: str(t) for i, t in added.items() if TAG.fullmatch(str(t))}
        special = {str(t) for t in added.values() if t.special} | set(tokenizer.all_special_tokens)
        self._hidden = [_MARK, *sorted(special, key=lambda token: (-len(token), token))]
        self._special = re.compile("|".join(map(re.escape, self._hidden)))
        self._stand_in = re.compile(f"{_MARK}([0-9]+){_MARK_END}")
        self.eos = self._closing_token()
        self._eos_text = str(added.get(self.eos, tokenizer.convert_ids_to_tokens(self.eos)))
        self.ends = frozenset({self.eos, tokenizer.eos_token_id} - {None})
        self._before_reply = _from_last(self.template.opening, [*map(str, added.values()), *special])
        self._pieces: dict[int, str] = {}
        self._vocabularies: dict[int, Pieces] = {}
        self._windows: dict[tuple[int, ...], str] = {}
        self._opened: dict[tuple[str, str], list[int]] = {}
        self._extended: dict[str, tuple[list[int], list[int]]] = {}
        # Some tokenizers strip a blank from the start of a text; decoding after an anchor keeps it.
        self._anchor: list[int] = self.plain("x")
        self._anchored = len(self._raw(self._anchor))
        # ... and put one there themselves, or the template does: it is not what the model says.
        self._blank = self._said(self._anchor).removesuffix("x")

    def _closing_token(self) -> int:
        """The token that ends a reply: the first one of the markup before the next message, or else at the very end."""
        after = self.template.closings
        token = closing_token(self.tokenizer, map(self._encoded, after))
        if token is None:
            raise TemplateError(
                f"the chat template of {self.tokenizer.name_or_path!r} has no end of turn: after a reply comes "
                f"{after[0]!r}, which holds no special token, so that no reply would ever stop; close replies with a "
                "special token in the template, such as the eos token"
            )
        return token

    @property
    def opened(self) -> str:
        """The tag of the thought in which the template lets every reply begin; empty if it opens none."""
        return self.template.opened

    @property
    def stable(self) -> bool:
        """True if an episode is one token sequence, to which turns are appended."""
        return self.template.stable

    # -- text to ids ---------------------------------------------------------------------------------------------

    def plain(self, text: str) -> list[int]:
        """Ids of a text as a reply: as it stands behind the markup that a reply begins with, and without its end.

        Strings that look like special tokens stay text, but tags of thoughts are what they are.
        """
        return self._ids(self._hide(f"{self.template.gap}{text}", reply=True), self._before_reply) if text else []

    def open(self, system: str, observation: str) -> list[int]:
        """Ids from the start of the conversation to the start of the first reply."""
        if (system, observation) not in self._opened:
            if len(self._opened) > _CACHED:
                self._opened.clear()
            messages = [Message("system", system)] * bool(system) + [Message("user", observation)]
            self._opened[system, observation] = self.conversation(messages)
        return list(self._opened[system, observation])

    def extend(self, observation: str, *, finished: bool) -> list[int]:
        """Ids from the end of a reply to the start of the next. `finished`: the reply ended with the token `eos`."""
        if observation not in self._extended:
            if len(self._extended) > _CACHED:
                self._extended.clear()
            self._extended[observation] = self._extension(observation)
        closing, ids = self._extended[observation]
        return list(ids) if finished else [*closing, *ids]

    def _extension(self, observation: str) -> tuple[list[int], list[int]]:
        """(what closes a reply that was cut off, what follows a reply that has ended)."""
        closing, _ = self.template.bridge
        rest = self.template.after_reply(self._hide(observation))
        if self._eos_text not in closing:
            return [], self._ids(rest, self._eos_text)
        before, _, rest = rest.partition(self._eos_text)  # some templates have a blank before it
        return [*self._ids(before, None), self.eos], self._ids(rest, self._eos_text)

    def conversation(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a whole conversation, rendered from its start to the start of the next reply."""
        hidden = [Message(m.role, self._hide(m.content, reply=m.role == "assistant")) for m in messages]
        return self._ids(self.template.text(self.template.placed(hidden)), "")

    def _hide(self, text: str, *, reply: bool = False) -> str:
        """The text with stand-ins for what would become special tokens."""

        def stand_in(match: re.Match[str]) -> str:
            if reply and TAG.fullmatch(match[0]):
                return match[0]
            return f"{_MARK}{self._hidden.index(match[0])}{_MARK_END}"

        return self._special.sub(stand_in, text)

    def _ids(self, text: str, before: str | None) -> list[int]:
        """Ids of a text with stand-ins where it follows `before`; an empty one is the start of a sequence."""
        ids: list[int] = []
        for number, part in enumerate(self._stand_in.split(text)):
            if number % 2:
                ids += self._behind(None, self._hidden[int(part)], split=True)
            elif part:
                ids += self._behind(before if number == 0 else None, part)
        return ids

    def _behind(self, before: str | None, text: str, *, split: bool = False) -> list[int]:
        """Ids of a text where it follows another one."""
        for lead in _LEADS if before is None else (before, *_LEADS) if before else ():
            start, ids = self._encoded(lead), self._encode(lead + text, split=split)
            if ids[: len(start)] == start:
                return ids[len(start) :]
        return self._encode(text, split=split)

    def _encode(self, text: str, *, split: bool = False) -> list[int]:
        """Ids of a text; `split`: strings of special tokens stay text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=split))

    def _encoded(self, text: str) -> list[int]:
        """Ids of template markup. Every turn uses the same few strings."""
        if text not in self._known:
            self._known[text] = self._encode(text)
        return self._known[text]

    # -- ids to text ---------------------------------------------------------------------------------------------

    def piece(self, token: int) -> str:
        """Text of one token alone; empty for the ends of a turn. Bytes of an incomplete character become U+FFFD."""
        if token not in self._pieces:
            self._pieces[token] = self._said([token])
        return self._pieces[token]

    def vocabulary(self, size: int) -> Pieces:
        """The pieces of the first `size` tokens, found once for all engines that share this renderer."""
        if size not in self._vocabularies:
            self._vocabularies[size] = Pieces([self.piece(token) for token in range(size)])
        return self._vocabularies[size]

    def text(self, ids: Sequence[int]) -> str:
        """Text of a reply from its start, without special tokens; but tags of thoughts are text, even special ones."""
        return self._said(ids).removeprefix(self._blank)

    def _said(self, ids: Sequence[int]) -> str:
        """Text of tokens somewhere in a reply."""
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
        if self._blank and (first := next((n for n, piece in enumerate(pieces) if piece), None)) is not None:
            pieces[first] = pieces[first].removeprefix(self._blank)
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
        whole = self._said(run)
        return parts if "".join(parts) == whole else [*[""] * (len(run) - 1), whole]

    def _splits(self, run: Sequence[int], start: int, cut: int, stop: int) -> bool:
        """May the window be decoded in two parts?"""
        left, right = self._window(tuple(run[start:cut])), self._window(tuple(run[cut:stop]))
        return left + right == self._window(tuple(run[start:stop]))

    def _window(self, ids: tuple[int, ...]) -> str:
        if ids not in self._windows:
            if len(self._windows) > 10_000:
                self._windows.clear()
            self._windows[ids] = self._said(ids)
        return self._windows[ids]


def _from_last(text: str, tokens: Sequence[str]) -> str | None:
    """The part of a text from its last token on; all of it if it holds none, and None if it is empty."""
    return text[max([0, *(text.rfind(token) for token in tokens)]) :] or None
