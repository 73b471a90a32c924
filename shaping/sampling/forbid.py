"""Action masks on text: find the next tokens that would complete a forbidden command, in any tokenisation.

A mask on the usual tokenisation of a command would leave other tokenisations open, and RL finds them. Every token of
the vocabulary is therefore tried after the text so far. Masking follows Huang and Ontanon (arXiv:2006.14171): a masked
token has probability zero in the sampler and in the learner.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from envs.actions import THOUGHT, WRAPPING, continued, normalise, parse_action, thinking
from shaping.sampling.render import Renderer

_PARTIAL = "\ufffd"
"""Replacement character: decoding shows it for bytes that are no whole character."""


def is_forbidden(text: str, commands: tuple[str, ...]) -> bool:
    """True if a world that reads `text` would execute one of `commands`, or a command that starts with its words."""
    words = parse_action(text).split()
    return any(words[: len(parts)] == parts for parts in (command.split() for command in commands) if parts)


class CommandMask:
    """Finds the token ids that may not follow a partial completion.

    Most pieces only lengthen the command at the end of the text, so all texts that end in the same command share one
    cached result. Pieces that can start a new line or an action marker, or end a thought, are tried on the whole last
    line. In a thought no command can be spelled, so none is masked there.
    """

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._renderer = renderer
        pieces = [(i, renderer.piece(i)) for i in range(vocabulary)]
        self._turning = [(i, piece) for i, piece in pieces if _may_turn(piece)]
        self._closing = [(i, piece) for i, piece in pieces if any(sign in normalise(piece) for sign in "}]>")]
        self._plain = [(i, piece) for i, piece in pieces if piece and not _may_turn(piece)]
        self._partial = [i for i, piece in pieces if _PARTIAL in piece]
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def masked_tokens(self, sampled: Sequence[int], commands: tuple[str, ...]) -> tuple[int, ...]:
        """Token ids that would make the text a forbidden command if they followed the `sampled` ids."""
        text = self._renderer.text(sampled)
        before, end, line = text.rpartition("\n")
        if thinking(f"{self._renderer.opened}{before}{end}"):
            line = f"{THOUGHT}{line}"
        masked = {*self._tried(self._turning, line, commands)}
        if len(f"{normalise(line)}x".splitlines()) > 1:  # a line end other than "\n" is rare: try every piece
            masked.update(self._tried(self._plain, line, commands))
        elif known := continued(line):
            short, command = known
            if any(_may_become(command, forbidden) for forbidden in commands):
                masked.update(self._tried(self._plain, short, commands))
        elif is_forbidden(line, commands):  # the turn is over, and nothing that follows takes its command back
            masked.update(self._tried(self._plain, line, commands))
        if "{" in text:  # a tool call, which may hold line ends, becomes a command when it is closed
            masked.update(self._tried(self._closing, f"{self._renderer.opened}{text}", commands))
        if text.endswith(_PARTIAL):
            # The last character is incomplete: only decoding all its bytes together shows the character.
            opened = THOUGHT if line.startswith(THOUGHT) else ""
            masked.update(
                i for i in self._partial if is_forbidden(opened + self._renderer.text([*sampled, i]), commands)
            )
        return tuple(sorted(masked))

    def _tried(self, pieces: list[tuple[int, str]], line: str, commands: tuple[str, ...]) -> tuple[int, ...]:
        kind = "" if pieces is self._plain else "\n" if pieces is self._turning else "\n\n"  # `line` may be a text
        key = (f"{kind}{line}", commands)
        if key not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            self._cache[key] = tuple(i for i, piece in pieces if is_forbidden(line + piece, commands))
        return self._cache[key]


def _may_turn(piece: str) -> bool:
    """True if a piece can change which part of a text is the command.

    It holds a line end, the end of an action marker or of a tag, or a combining mark.
    """
    plain = normalise(piece)
    if any(sign in plain for sign in ":>]▷"):
        return True
    return len(f"x{plain}x".splitlines()) > 1 or any(unicodedata.combining(c) for c in piece)


def _may_become(command: str, forbidden: str) -> bool:
    """True if `command` is the forbidden one, or can become it by more text, and by the other half of its quotes."""
    bare = command.strip(f"{WRAPPING} ")
    return forbidden.startswith((command, bare)) or f"{bare} ".startswith(f"{forbidden} ")
