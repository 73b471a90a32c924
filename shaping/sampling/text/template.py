"""A chat template as text: what it puts around messages, and where it does more than to put them one after the other.

Templates insert system prompts and dates of their own, refuse system prompts or move them, and drop earlier thoughts.
Probe messages find out which of these a template does; each has one rule here, the same for every arm.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import jinja2
from jinja2 import nodes
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.meta import find_undeclared_variables

from envs.actions import TAG, THOUGHT, THOUGHT_END, thinking

if TYPE_CHECKING:  # configs import this module, and need no transformers
    from transformers import PreTrainedTokenizerBase

Thoughts = Literal["keep", "template"]
CLOCK: Final = date(2025, 1, 1)
"""The date that templates read, unless a study sets another."""

USER, REPLY, NEXT = "sentinel user one", "sentinel reply two", "sentinel user three"
"""Contents of probe messages."""
_RUGGED = " \n Sentinel <B> & \"four\" {{ five }}  \n\n\t'Sechs' é \n "
"""A message in which every usual change of a text would show."""
_SYSTEM, _THOUGHT = "sentinel rule", "sentinel thought"
_GIVEN = frozenset({"messages", "add_generation_prompt", "tools", "documents", "raise_exception", "strftime_now"})
"""What transformers gives every template."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Tags that only transformers knows; they mark replies and print nothing."""


class TemplateError(ValueError):
    """The tokenizer has no usable chat template."""


class TemplateArgumentError(TemplateError):
    """A template is given an argument that it does not read."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The text, without template markup."""


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """How a chat template is rendered, the same in every call."""

    thoughts: Thoughts = "keep"
    """Where a template drops the thoughts of earlier replies: keep them, or do as it does."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Values for names that the template reads, e.g. `enable_thinking`."""
    clock: date = CLOCK
    """The date that the template reads."""


USUAL: Final = TemplateSettings()


class ChatTemplate:
    """The chat template of a tokenizer.

    Raises: `TemplateError` if there is none, or if it does not read an argument of the settings.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: TemplateSettings) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template: save one with the model "
                "(tokenizer.chat_template) or use an instruction-tuned model"
            )
        self.name = str(tokenizer.name_or_path)
        self.settings = settings
        self._tokenizer = tokenizer
        self._variables = _variables(tokenizer)
        self._check(settings.arguments)
        self._arguments = dict(settings.arguments)
        if self.reads_clock:
            self._arguments["strftime_now"] = datetime.combine(settings.clock, time(12)).strftime

    @property
    def reads_clock(self) -> bool:
        return "strftime_now" in self._variables

    @property
    def arguments(self) -> list[str]:
        """Names that the template reads and that a study may set."""
        own = self._variables - _GIVEN - DEFAULT_NAMESPACE.keys() - set(self._tokenizer.SPECIAL_TOKENS_ATTRIBUTES)
        return sorted(own)

    def _check(self, arguments: Mapping[str, Any]) -> None:
        for name in arguments:
            if name not in self.arguments:
                near = difflib.get_close_matches(name, self.arguments, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise TemplateArgumentError(
                    f"the chat template of {self.name!r} does not read {name!r}{hint} It reads "
                    f"{', '.join(self.arguments) or 'no argument'}"
                )

    def text(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        """The conversation, up to the start of the next reply if `generate`."""
        rows = [{"role": m.role, "content": m.content} for m in messages]
        rendered = self._tokenizer.apply_chat_template(
            rows, tokenize=False, add_generation_prompt=generate, **self._arguments
        )
        return str(rendered)

    # -- system prompts ------------------------------------------------------------------------------------------

    @cached_property
    def has_system(self) -> bool:
        """Does a system prompt stay where it is, before the first message of the user?"""
        opening = [Message("system", _SYSTEM), Message("user", USER)]
        try:
            first = self.text(opening)
            longer = self.text([*opening, Message("assistant", REPLY), Message("user", NEXT)])
        except Exception:  # templates raise exceptions of many types for a role they refuse
            return False
        return all(text.partition(USER)[0].count(_SYSTEM) == 1 for text in (first, longer))

    @cached_property
    def default_system(self) -> str:
        """The system prompt that the template inserts where a conversation has none; empty if it does not."""
        if not self.has_system:
            return ""
        before, _, rest = self.text([Message("system", _SYSTEM), Message("user", USER)]).partition(_SYSTEM)
        after = rest.partition(USER)[0]
        own = self.text([Message("user", USER)]).partition(USER)[0]
        if len(own) < len(before) + len(after) or not (own.startswith(before) and own.endswith(after)):
            return ""
        return own[len(before) : len(own) - len(after)].strip()

    def placed(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with a system prompt as this template takes it: behind its own, or in the first message."""
        if messages[0].role != "system":
            return list(messages)
        system, *rest = messages
        if self.has_system:
            own = f"{self.default_system}\n\n" if self.default_system else ""
            return [Message("system", f"{own}{system.content}"), *rest]
        return [Message(rest[0].role, f"{system.content}\n\n{rest[0].content}"), *rest[1:]]

    # -- replies -------------------------------------------------------------------------------------------------

    @cached_property
    def opened(self) -> str:
        """The tag of the thought in which the template lets every reply begin; empty if it opens none."""
        return THOUGHT if thinking(self.opening) else ""

    @cached_property
    def thinks(self) -> bool:
        """Does the template know thoughts, and leave it to the model to have one?"""
        return bool(self.opened) or (not self.keeps_thoughts and not TAG.search(self.opening))

    @cached_property
    def opening(self) -> str:
        """The markup between the user's message and a reply."""
        return self.text([Message("user", USER)]).partition(USER)[2]

    @cached_property
    def gap(self) -> str:
        """Blanks that the template puts between the start of a reply and its text (Llama 2: one)."""
        talk = [Message("user", USER), Message("assistant", REPLY)]
        start, whole = self.text(talk[:1]), self.text(talk, generate=False)
        between, found, _ = whole.removeprefix(start).partition(REPLY)
        return between if found and whole.startswith(start) and between.isspace() else ""

    @cached_property
    def closings(self) -> tuple[str, str]:
        """What follows a reply: before the next message, and at the end of a conversation."""
        talk = [Message("user", USER), Message("assistant", REPLY)]
        texts = self._talk(NEXT), self.text(talk, generate=False)
        start = self.text(talk[:1])  # tells where a reply begins whose content the template drops
        rests = [t.partition(REPLY)[2] if REPLY in t else t.removeprefix(start) for t in texts]
        return rests[0].partition(NEXT)[0], rests[1]

    def after_reply(self, observation: str) -> str:
        """All that stands between the end of a reply and the start of the next one."""
        if self._edge is None:
            return self._talk(observation).partition(REPLY)[2]
        before, after = self.bridge
        return f"{before}{observation.strip() if self._edge == 'stripped' else observation}{after}"

    @cached_property
    def _edge(self) -> Literal["kept", "stripped"] | None:
        """What becomes of the blanks around a message, so that not every one is rendered; None: neither."""
        rest = self._talk(_RUGGED).partition(REPLY)[2]
        if rest == _RUGGED.join(self.bridge):
            return "kept"
        return "stripped" if rest == _RUGGED.strip().join(self.bridge) else None

    @cached_property
    def bridge(self) -> tuple[str, str]:
        """(markup between a reply and the next user message, markup between that message and the next reply)."""
        text = self._talk(NEXT)
        if not all(s in text for s in (REPLY, NEXT)):
            raise TemplateError(f"the chat template of {self.name!r} drops message contents")
        before, _, after = text.partition(REPLY)[2].partition(NEXT)
        return before, after

    def _talk(self, observation: str) -> str:
        return self.text([Message("user", USER), Message("assistant", REPLY), Message("user", observation)])

    @cached_property
    def stable(self) -> bool:
        """Can an episode be one token sequence, to which turns are appended?

        Kept thoughts may differ from what the template would render; nothing else may.
        """
        if self.settings.thoughts == "keep":
            return self._appends(REPLY, apart=True)
        return self._appends(REPLY) and self.keeps_thoughts

    @cached_property
    def keeps_thoughts(self) -> bool:
        """Does the template itself leave the thoughts of earlier replies in place?"""
        thought = f"{THOUGHT}\n{_THOUGHT}\n{THOUGHT_END}\n\n{REPLY}"
        return self._appends(REPLY) and self._appends(thought)

    def _appends(self, reply: str, *, apart: bool = False) -> bool:
        """Does a longer conversation start with the shorter one and the reply? `apart`: apart from tags and blanks."""
        same = _bare if apart else str
        if REPLY not in self._talk(NEXT):
            return False
        for system in ((), (Message("system", _SYSTEM),)) if self.has_system else ((),):
            start = [*system, Message("user", USER)]
            longer = self.text([*start, Message("assistant", reply), Message("user", NEXT)])
            if same(longer) != same(self.text(start) + self.gap + reply + NEXT.join(self.bridge)):
                return False
        return True

    # -- what users are told -------------------------------------------------------------------------------------

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is particular about the template, in sentences for the log."""
        told = []
        if not self.has_system:
            told.append("it has no place for a system prompt: contexts stand at the start of the user's first message")
        if self.default_system:
            shown = self.default_system if len(self.default_system) <= 120 else f"{self.default_system[:117]}..."
            told.append(f"it inserts the system prompt {shown!r}: it stays, in all arms, and contexts follow it")
        if self.reads_clock:
            told.append(f"it reads the clock: for it every day is {self.settings.clock} (rollout.clock)")
        if self.stable and not self.keeps_thoughts:
            told.append("it drops thoughts of earlier replies: here they stay (rollout.thoughts: keep)")
        if not self.stable:
            told.append("it rewrites earlier turns: every turn becomes a sequence of its own, which costs memory")
        return tuple(f"chat template: {line}" for line in told)


def _bare(text: str) -> str:
    return "".join(TAG.sub("", text).split())


def _variables(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The names that a chat template reads."""
    source = _GENERATION.sub("", tokenizer.get_chat_template())
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True)
    try:
        tree = environment.parse(source)
        free = find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the chat template of {tokenizer.name_or_path!r} is no valid Jinja: {error}") from error
    # What is set in only one branch of a condition counts as free: it is an argument if the template asks for it first.
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    asked = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    return frozenset(free - (own - asked))
