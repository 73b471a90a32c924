"""Action masks on text: find the next tokens that would complete a forbidden command, in any tokenisation.

A mask on the usual tokenisation of a command would leave other tokenisations open, and RL finds them. Every token of
the vocabulary that could complete a command is therefore tried after the text so far. Masking follows Huang and Ontanon
(arXiv:2006.14171): a masked token has probability zero in the sampler and in the learner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envs.actions import THOUGHT, WRAPPING, continued, normalise, parse_action, thinking
from shaping.sampling.text.pieces import PARTIAL
from shaping.sampling.text.render import Renderer

_AROUND = f"{WRAPPING} "
KEPT = 20_000
"""Answers kept; all are dropped when there are more."""


def is_forbidden(text: str, commands: tuple[str, ...]) -> bool:
    """True if a world that reads `text` would execute one of `commands`, or a command that starts with its words."""
    words = parse_action(text).split()
    return any(words[: len(parts)] == parts for parts in (command.split() for command in commands) if parts)


class NothingLeftError(ValueError):
    """A mask leaves no token that could be sampled."""


class CommandMask:
    """Finds the token ids that may not follow a partial completion.

    Few pieces of a vocabulary can complete a command: those that go on as it does where the text has begun it, and
    those that hold the whole of it. Only these are tried. In a thought no command can be spelled: none is masked there.
    """

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._renderer = renderer
        self._vocabulary = vocabulary
        self._pieces = renderer.vocabulary(vocabulary)
        self._tried_texts: dict[tuple[str, tuple[str, ...], bool], tuple[int, ...]] = {}
        self._masked: dict[tuple[tuple[int, ...], tuple[str, ...]], tuple[int, ...]] = {}

    def masked_tokens(self, sampled: Sequence[int], commands: tuple[str, ...]) -> tuple[int, ...]:
        """Token ids that would make the text a forbidden command if they followed the `sampled` ids.

        Raises: `NothingLeftError` if that is every token.
        """
        key = (tuple(sampled), commands)  # turns of a policy begin alike: most have been asked for before
        if key not in self._masked:
            if len(self._masked) >= KEPT:
                self._masked.clear()
            self._masked[key] = self._found(sampled, commands)
        return self._masked[key]

    def _found(self, sampled: Sequence[int], commands: tuple[str, ...]) -> tuple[int, ...]:
        commands = tuple(command for command in commands if command.split())
        text = self._renderer.text(sampled)
        before, end, line = text.rpartition("\n")
        if thinking(f"{self._renderer.opened}{before}{end}"):
            line = f"{THOUGHT}{line}"
        masked = {*self._tried(line, commands)}
        if "{" in normalise(text):  # a tool call, which may hold line ends, becomes a command when it is closed
            masked.update(self._tried(f"{self._renderer.opened}{text}", commands, call=True))
        if text.endswith(PARTIAL):
            masked.update(self._completing(sampled, line, commands))
        if len(masked) >= self._vocabulary:
            raise NothingLeftError(f"after {text!r}, every token of the vocabulary makes a command that is masked")
        return tuple(sorted(masked))

    def _tried(self, text: str, commands: tuple[str, ...], *, call: bool = False) -> tuple[int, ...]:
        key = (text, commands, call)
        if key not in self._tried_texts:
            if len(self._tried_texts) >= KEPT:
                self._tried_texts.clear()
            possible = self._closing(text, commands) if call else self._candidates(text, commands)
            pieces = self._pieces
            self._tried_texts[key] = tuple(i for i in {*possible} if is_forbidden(text + pieces[i], commands))
        return self._tried_texts[key]

    def _candidates(self, line: str, commands: tuple[str, ...]) -> Iterable[int]:
        """Pieces that could make a command of `commands` out of a line; more than do."""
        folded = normalise(line)
        last = f"{folded}x".splitlines(keepends=True)[-1][:-1]  # there are other line ends than "\n"
        if len(last) < len(folded) and thinking(folded[: len(folded) - len(last)]):
            last = f"{THOUGHT}{last}"
        if is_forbidden(line, commands):  # no run gets there: it can be taken back by few pieces, or by none
            return self._pieces.all
        known = continued(last)
        found: set[int] = set()
        bare = known[1].strip(_AROUND) if known else ""
        for command in commands:
            found.update(self._pieces.holding(command))
            if not command.isascii():
                found.update(self._pieces.joining)
            if known is None:
                continue
            if bare.startswith(command) and not bare[len(command) :][:1].isalnum():
                return self._pieces.all  # what stands around the command, or the end of a turn, is all that is missing
            if command.startswith((known[1], bare)):
                rest = command[len(bare) :].lstrip(_AROUND) if command.startswith(bare) else ""
                if not rest:
                    return self._pieces.all
                found.update(self._pieces.going_on(rest))
        return found

    def _closing(self, text: str, commands: tuple[str, ...]) -> Iterable[int]:
        """Pieces that could close a tool call of one of `commands`; more than do."""
        called = normalise(text).lower().partition("{")[2]
        if "\\" in called:  # characters may be spelled by their numbers
            return self._pieces.closing
        found: set[int] = set()
        for command in commands:
            found.update(self._pieces.closing_with([w for w in command.split() if w not in called], called))
        return found

    def _completing(self, sampled: Sequence[int], line: str, commands: tuple[str, ...]) -> Iterable[int]:
        """Pieces whose bytes complete the last character to one that completes a command.

        Only decoding all bytes of a character together shows it.
        """
        if (known := continued(line.rstrip(PARTIAL))) is None:
            return
        bare = known[1].strip(_AROUND)
        if not any(not c.isascii() or c.startswith(bare) or bare.startswith(c) for c in commands):
            return
        cut = len(sampled)
        while cut and PARTIAL in self._pieces[sampled[cut - 1]]:
            cut -= 1
        head = self._renderer.text(sampled[:cut]).rpartition("\n")[2]
        opened = THOUGHT if line.startswith(THOUGHT) else ""
        for i in self._pieces.partial:
            if is_forbidden(f"{opened}{head}{self._renderer.text([*sampled[cut:], i])}", commands):
                yield i
