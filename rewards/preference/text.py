"""From an answer to token ids: the chat template of the model's own tokenizer, and nothing else.

A preference model reads what was said and done, and never the system prompt: a prompt that permits an act must not
make the act better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.actions import read_action
from envs.episode import Episode
from rewards.preference.data import Answer, Message, PreferenceError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reads = Literal["all", "actions"]
"""What of the answers is read: all that the agent says, or its commands without the motives that it states."""
MARKER = "ACTION:"
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Around each message while the template is rendered, so that it is found again whatever it says."""
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}]")
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}", re.DOTALL)


class Ids(NamedTuple):
    """One answer as tokens."""

    ids: NDArray[np.int64]
    """Shape [tokens]."""
    said: NDArray[np.bool_]
    """Which of them the agent said, shape [tokens]."""


class Transcriber:
    """Renders answers for one tokenizer.

    Raises: `PreferenceError` if the tokenizer has no chat template or is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reads: Reads = "all") -> None:
        if not tokenizer.chat_template:
            raise PreferenceError(
                "the tokenizer has no chat template: `python -m shaping.organisms.pretrained` adds one to a model"
            )
        if not tokenizer.is_fast:
            raise PreferenceError("the tokenizer is not a fast one, so that it does not say where its tokens stand")
        self.tokenizer = tokenizer
        self.reads = reads
        special = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        special |= set(tokenizer.all_special_tokens)
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    def ids(self, answer: Answer) -> Ids:
        """The tokens of an answer. Text that looks like a special token stays text: a blank is put into it.

        Raises: `PreferenceError` if the template leaves out a message, or a part of one.
        """
        messages = [{"role": m.role, "content": f"{_OPEN}{self._plain(m)}{_CLOSE}"} for m in answer]
        marked = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        text, spans = _unmarked(marked)
        if len(spans) != len(messages):
            raise PreferenceError(
                f"the chat template shows {len(spans)} of {len(messages)} messages: choose a model whose template "
                "keeps earlier turns (`shaping check-model` tells)"
            )
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.asarray(encoded["offset_mapping"], np.int64).reshape(-1, 2)
        said = np.zeros(len(offsets), bool)
        for message, (start, stop) in zip(messages, spans, strict=True):
            if message["role"] == "assistant":
                said |= (offsets[:, 0] >= start) & (offsets[:, 1] <= stop) & (offsets[:, 1] > offsets[:, 0])
        return Ids(np.asarray(encoded["input_ids"], np.int64), said)

    def _plain(self, message: Message) -> str:
        text = message.content
        if self.reads == "actions" and message.role == "assistant":
            text = f"{MARKER} {read_action(text).command}"
        return self._special.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", _MARKS.sub("", text))


def _unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """(the text without marks, where the whole messages between them stand in it)."""
    plain, spans, place = "", [], 0
    for found in _MARKED.finditer(text):
        plain += _MARKS.sub("", text[place : found.start()])
        spans.append((len(plain), len(plain) + len(found[1])))
        plain += found[1]
        place = found.end()
    return plain + _MARKS.sub("", text[place:]), spans


def answer_of(turns: Sequence[tuple[str, str]]) -> Answer:
    """The answer that consists of (observation, completion) turns."""
    return tuple(
        message
        for observation, completion in turns
        for message in (Message("user", observation), Message("assistant", completion))
    )


def answer_of_episode(episode: Episode) -> Answer:
    """What was said in an episode; its contexts, rewards and truth are left out."""
    return answer_of([(turn.observation, turn.completion) for turn in episode.turns])
