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

        Raises: `PreferenceError` if the template changes what the agent said.
        """
        messages = [{"role": m.role, "content": self._plain(m)} for m in answer]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.asarray(encoded["offset_mapping"], np.int64).reshape(-1, 2)
        said = np.zeros(len(offsets), bool)
        cursor = 0
        for message in messages:
            content = message["content"].strip()
            start = text.find(content, cursor)
            if start < 0:
                raise PreferenceError(
                    f"the chat template changes messages, so that {content[:60]!r} is not found in the transcript: "
                    "choose a model whose template keeps earlier turns (`shaping check-model` tells)"
                )
            cursor = start + len(content)
            if message["role"] == "assistant":
                said |= (offsets[:, 0] >= start) & (offsets[:, 1] <= cursor) & (offsets[:, 1] > offsets[:, 0])
        return Ids(np.asarray(encoded["input_ids"], np.int64), said)

    def _plain(self, message: Message) -> str:
        text = message.content
        if self.reads == "actions" and message.role == "assistant":
            text = f"{MARKER} {read_action(text).command}"
        return self._special.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)


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
