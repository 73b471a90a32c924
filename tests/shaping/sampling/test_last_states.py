"""The states of a completion's last token, after which nothing is sampled, come with the session's next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import pytest
import torch
from play_worlds import Counting

from envs.episode import RolloutStatus
from shaping.arm import Arm
from shaping.hooks import ActivationEdit, AdapterSpec, Capture, Positions
from shaping.learning.policy import Policy
from shaping.models.edits import applied, decoder_layers
from shaping.models.lora.adapters import Adapters
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, EngineError, SamplingParams, Session
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.players import PlayerMode
from shaping.sampling.text.render import Renderer

EDITS = (ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 2.0),)
OTHER_EDITS = (ActivationEdit(1, "project", np.eye(32, dtype=np.float32)[3]),)
CAPTURES = [Capture(p, (0, -1) if p != "action" else (1,), p, "sampling") for p in get_args(Positions)]
READ = SamplingParams(max_tokens=0)


def session(number: int = 0, player: str = "") -> Session:
    return Session(number, Counting(), player)


def seeing(policy: Policy, slots: int = 4, captures: Sequence[Capture] = CAPTURES) -> TransformersEngine:
    return TransformersEngine(policy.model, Renderer(policy.tokenizer), slots=slots, captures=captures)


@contextmanager
def counted(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Rows of each pass inside the block."""
    rows: list[int] = []
    forward = engine._forward

    def count(requests: Any, *arguments: Any) -> Any:
        rows.append(len(requests))
        return forward(requests, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_forward", count)
        yield rows


def whole(policy: Policy, tokens: Sequence[int], edits: Sequence[ActivationEdit] = ()) -> np.ndarray:
    """The states [tokens, 2 layers, 32] of one pass of the model over a sequence."""
    found: dict[int, torch.Tensor] = {}
    with torch.no_grad(), applied(policy.model, edits):
        hooks = [
            layer.register_forward_hook(lambda _m, _a, out, n=n: found.update({n: out}))
            for n, layer in enumerate(decoder_layers(policy.model))
        ]
        policy.model(torch.tensor([tokens]), use_cache=False)
        for hook in hooks:
            hook.remove()
    return torch.stack([found[0][0], found[1][0]], dim=1).numpy()


def check(completion: Completion, prompt: Sequence[int], states: np.ndarray, last: np.ndarray | None = None) -> None:
    """All states of a completion are those of a pass over its sequence; `last`: of another pass, the last ones."""
    own = states[len(prompt) : len(prompt) + len(completion.tokens)].copy()
    if last is not None:
        assert np.abs(own[-1] - last[len(prompt) + len(own) - 1]).max() > 1e-2, "the two passes can be told apart"
        own[-1] = last[len(prompt) + len(own) - 1]
    assert [c.capture.positions for c in completion.states] == list(get_args(Positions))
    for shown in completion.states:
        wanted = states[[len(prompt) - 1]] if shown.capture.positions == "prompt_end" else own
        wanted = wanted[:, 1:] if shown.capture.positions == "action" else wanted
        assert not shown.unread
        np.testing.assert_allclose(shown.states, wanted, rtol=1e-5, atol=1e-5)


def unread(completion: Completion) -> list[str]:
    return [shown.capture.positions for shown in completion.states if shown.unread]


Turns = list[tuple[list[int], Completion]]


async def turns(engine: TransformersEngine, own: Session, count: int = 2, room: int = 6) -> Turns:
    """Prompts and completions of an open session. The states of the last one are still unread."""
    tokens = engine.renderer.open("", f"turn 0 . seed {own.id} .")
    found: Turns = []
    for number in range(count):
        completion = await engine.complete(own, tokens, SamplingParams(room, 1.0, 10 * own.id + number))
        assert not found or not unread(found[-1][1])
        found.append((tokens, completion))
        tokens = [*tokens, *completion.tokens.tolist(), *engine.renderer.extend("go on", finished=completion.finished)]
    return found


async def read_last(engine: TransformersEngine, own: Session, found: Turns) -> None:
    prompt, completion = found[-1]
    nothing = await engine.complete(own, [*prompt, *completion.tokens.tolist()], READ)
    assert not len(nothing.tokens) and not nothing.finished and not nothing.states


@pytest.mark.parametrize("way", ["cached", "reread"])
def test_a_session_takes_one_more_pass_at_its_end_and_shows_the_states_of_every_token(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    passes: list[list[int]] = []
    texts: list[list[int]] = []
    for captures in ((), CAPTURES):
        engine = seeing(policy, captures=captures)
        if way == "reread":
            engine._cache = None
        engine.set_edits(EDITS)

        async def episode(engine: TransformersEngine = engine) -> Turns:
            engine.open(session())
            found = await turns(engine, session())
            if unread(found[-1][1]):
                await read_last(engine, session(), found)
            engine.close(session())
            return found

        with counted(engine, monkeypatch) as rows:
            found = asyncio.run(episode())
        passes.append(rows)
        texts.append([token for _, completion in found for token in completion.tokens.tolist()])
    assert len(passes[1]) == len(passes[0]) + 1 and texts[0] == texts[1]
    tokens = [*found[-1][0], *found[-1][1].tokens.tolist()]
    for prompt, completion in found:
        check(completion, prompt, whole(policy, tokens, EDITS))


def test_the_last_tokens_of_ended_episodes_are_read_together_with_what_others_say(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [EpisodeRequest(lambda n=n: Counting(n), n, 0, sampling_seed=n) for n in (1, 1, 2, 4)]  # type: ignore[misc]
    passes = []
    for captures in ((), CAPTURES):
        engine = seeing(policy, captures=captures)
        with counted(engine, monkeypatch) as rows:
            episodes = asyncio.run(play(requests, engine, engine.renderer, Arm("arm")))
        passes.append(len(rows))
    assert passes[1] == passes[0] + 1, "after the last episode there is nobody to read with"
    assert [len(e.activations["response"]) for e in episodes] == [1, 1, 2, 4]
    assert all(np.isfinite(e.activations["response"]).all() for e in episodes)


@pytest.mark.parametrize("then", ["next turn", "end"])
@pytest.mark.parametrize("how", ["set_version", "load_weights", "set_edits"])
def test_the_last_token_is_read_with_the_weights_and_edits_of_the_next_call(
    make_policy: Callable[..., Policy], how: str, then: str
) -> None:
    """As are tokens of a completion under way; those of the completion that had been read before are as they were."""
    policy = make_policy()
    engine = seeing(policy)

    async def episode() -> tuple[Turns, np.ndarray]:
        engine.open(session())
        found = await turns(engine, session(), 1)
        prompt, completion = found[0]
        tokens = [*prompt, *completion.tokens.tolist()]
        before = whole(policy, tokens)
        if how == "set_edits":
            engine.set_edits(EDITS)
        elif how == "set_version":
            with torch.no_grad():
                policy.model.model.layers[0].self_attn.k_proj.weight.mul_(3.0)
            engine.set_version(5)
        else:
            weights = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
            weights["model.layers.0.self_attn.k_proj.weight"] *= 3.0
            await engine.load_weights(weights, 5)
        if then == "end":
            await read_last(engine, session(), found)
        else:
            await engine.complete(session(), [*tokens, *engine.renderer.extend("x", finished=True)], SamplingParams(3))
        engine.close(session())
        return found, before

    ((prompt, completion),), before = asyncio.run(episode())
    after = whole(policy, [*prompt, *completion.tokens.tolist()], EDITS if how == "set_edits" else ())
    check(completion, prompt, before, last=after)


def test_where_the_prefix_changes_the_old_one_is_read_to_its_end(policy: Policy) -> None:
    engine = seeing(policy)

    async def episode() -> Turns:
        engine.open(session())
        found = await turns(engine, session(), 1)
        prompt = engine.renderer.open("", "something else")
        found.append((prompt, await engine.complete(session(), prompt, SamplingParams(6, 1.0, 4))))
        assert not unread(found[0][1]) and unread(found[1][1])
        await read_last(engine, session(), found)
        engine.close(session())
        return found

    for prompt, completion in asyncio.run(episode()):
        check(completion, prompt, whole(policy, [*prompt, *completion.tokens.tolist()]))


def test_every_player_reads_with_its_own_adapters_and_edits(make_policy: Callable[..., Policy]) -> None:
    torch.manual_seed(0)
    policy = make_policy()
    adapters = Adapters(policy.model, [AdapterSpec(name, "kept", rank=2, player=name) for name in ("a", "b")])
    with torch.no_grad():
        for name in ("a", "b"):
            for tensor in adapters.tensors(name).values():
                tensor.copy_(0.1 * torch.randn_like(tensor))
    edits = {"a": EDITS, "b": OTHER_EDITS}
    players = {name: PlayerMode((name,), edits[name]) for name in ("a", "b")}
    engine = seeing(policy)
    engine.set_players(adapters, players)

    async def one(own: Session) -> Turns:
        engine.open(own)
        found = await turns(engine, own)
        await read_last(engine, own, found)
        engine.close(own)
        return found

    async def both() -> list[Turns]:
        return await asyncio.gather(one(session(0, "a")), one(session(1, "b")))

    for name, found in zip(("a", "b"), asyncio.run(both()), strict=True):
        tokens = [*found[-1][0], *found[-1][1].tokens.tolist()]
        adapters.activate(("b" if name == "a" else "a",))
        other = whole(policy, tokens, edits[name])
        adapters.activate((name,))
        states = whole(policy, tokens, edits[name])
        assert np.abs(states - other).max(axis=(1, 2)).min() > 1e-2, "adapters can be told apart at every token"
        for prompt, completion in found:
            check(completion, prompt, states)


def test_an_abandoned_session_leaves_nothing_behind(policy: Policy) -> None:
    """One is closed with its last token unread, one is cancelled while that is read; the id of one is used again."""
    engine = seeing(policy, slots=3)

    async def run() -> tuple[Turns, Turns]:
        for number in range(3):
            engine.open(session(number))
        left = await turns(engine, session(0), 1)
        engine.close(session(0))
        cancelled = await turns(engine, session(1), 1)
        going = asyncio.create_task(turns(engine, session(2), 2, room=20))
        await asyncio.sleep(0)
        reading = asyncio.create_task(read_last(engine, session(1), cancelled))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        engine.close(session(1))
        engine.open(session(0))
        other = await turns(engine, session(0))
        await read_last(engine, session(0), other)
        await read_last(engine, session(2), await going)
        for completion in (left[0][1], cancelled[0][1]):
            assert unread(completion) == ["response", "motive", "action"]
            assert np.isnan(completion.states[0].states[-1]).all()
            with pytest.raises(EngineError, match="capture 'response': the last token of a completion has not been"):
                completion.states[0].mean([2] * len(completion.tokens))
        return await going, other

    for found in asyncio.run(run()):
        states = whole(policy, [*found[-1][0], *found[-1][1].tokens.tolist()])
        for prompt, completion in found:
            check(completion, prompt, states)


def test_an_error_while_the_last_token_is_read_reaches_the_caller_who_may_try_again(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = seeing(policy)

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    async def run() -> Turns:
        engine.open(session())
        found = await turns(engine, session(), 1)
        with monkeypatch.context() as patched:
            patched.setattr(engine, "_forward", broken)
            for tokens in ([*found[0][0], *found[0][1].tokens.tolist()], engine.renderer.open("", "another prefix")):
                with pytest.raises(RuntimeError, match="out of memory"):
                    await asyncio.wait_for(engine.complete(session(), tokens, READ), 10)
        assert unread(found[0][1])
        await read_last(engine, session(), found)
        engine.close(session())
        return found

    ((prompt, completion),) = asyncio.run(run())
    check(completion, prompt, whole(policy, [*prompt, *completion.tokens.tolist()]))


def test_the_turns_before_an_error_of_the_world_keep_their_states(policy: Policy) -> None:
    class Breaks(Counting):
        def step(self, action: str) -> Any:
            if self.turn == 2:
                raise RuntimeError("broken")
            return super().step(action)

    engine = seeing(policy)
    (episode,) = asyncio.run(play([EpisodeRequest(Breaks, 1, 0)], engine, engine.renderer, Arm("arm")))
    assert episode.status == RolloutStatus.ERROR and len(episode.turns) == 2
    assert episode.activations["response"].shape == (2, 2, 32) and np.isfinite(episode.activations["response"]).all()
