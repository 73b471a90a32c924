"""OpenEnv in both directions: a server's environment as a world, and our worlds behind an OpenEnv server.

OpenEnv sends an observation's metadata to the client. Served worlds therefore put nothing there: clients get the text,
the proxy reward, and the end. The ground truth stays in the server's process, where `on_episode` receives it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from envs import make_world
from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, finite, need
from envs.check import checked_reset, checked_step
from envs.episode import Labels

OnEpisode = Callable[[str, int, tuple[Labels, ...]], None]
"""Receives (episode id, seed, ground truth per turn) of an episode that a client has ended or left."""


class OpenEnv(ForeignEnv):
    """An environment of an OpenEnv server.

    Args:
        url: address of the server, e.g. `"http://127.0.0.1:8000"`.
        action_field: field of the environment's action that takes the command.
        text_field: field of its observation that holds the text (None: the only field that is text).
        fixed: other fields of every action.
        invalid_field: field of the observation that tells whether the last action was invalid, if there is one.
        max_return: the largest return, if known.
        timeout: seconds to wait for an answer.
        horizon: turns after which the episode is truncated.
    """

    name = "openenv"

    def __init__(
        self,
        *,
        url: str,
        action_field: str = "text",
        text_field: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        invalid_field: str = "",
        max_return: float = 1.0,
        timeout: float = 30.0,
        horizon: int = 1000,
    ) -> None:
        super().__init__(horizon=horizon)
        self._client_module = need("openenv.core.generic_client", "openenv")
        self.max_return = float(max_return)
        self._url, self._timeout = url, timeout
        self._action_field, self._text_field, self._invalid_field = action_field, text_field, invalid_field
        self._fixed = dict(fixed or {})
        self._client: Any = None

    def open(self, seed: int) -> str:
        if self._client is None:
            made = self._client_module.GenericEnvClient(
                base_url=self._url, message_timeout_s=self._timeout, connect_timeout_s=self._timeout
            )
            self._client = made.sync()
        return self._text(self._asked(lambda: self._client.reset(seed=seed % 2**31)))

    def play(self, command: str) -> Answer:
        result = self._asked(lambda: self._client.step({**self._fixed, self._action_field: command}))
        invalid = bool(self._invalid_field and result.observation.get(self._invalid_field))
        return Answer(
            self._text(result),
            0.0 if result.reward is None else finite(result.reward, f"the server at {self._url}"),
            terminated=bool(result.done) and not result.observation.get("truncated", False),
            truncated=bool(result.done),
            invalid=invalid,
        )

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # the server may have gone first
                client.close()

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self.close()  # the next episode opens a new connection
            raise ForeignEnvError(f"the OpenEnv server at {self._url}: {type(error).__name__}: {error}") from error

    def _text(self, result: Any) -> str:
        seen = result.observation
        texts = [key for key, value in seen.items() if isinstance(value, str)]
        field = self._text_field or (texts[0] if len(texts) == 1 else "")
        if not isinstance(seen.get(field), str):
            raise ForeignEnvError(
                f"the OpenEnv server at {self._url}: option 'text_field' must name a field that is text; "
                f"the observation has {', '.join(sorted(seen)) or 'nothing'}"
            )
        return str(seen[field])


def serve(
    world: str,
    options: Mapping[str, Any] | None = None,
    *,
    max_sessions: int = 4,
    on_episode: OnEpisode = lambda *_: None,
) -> Any:
    """An OpenEnv server of a world, as a FastAPI application: `uvicorn.run(serve("clerk"), host="127.0.0.1")`.

    Actions have a field `text`, observations `text` and `truncated`.
    """
    server = need("openenv.core.env_server", "openenv")
    types = need("openenv.core.env_server.types", "openenv")
    make_world(world, options).close()  # unknown names and options are refused now, not at the first client

    class WorldAction(types.Action):  # type: ignore[name-defined]
        text: str

    class WorldObservation(types.Observation):  # type: ignore[name-defined]
        text: str
        truncated: bool = False

    class Served(server.Environment):  # type: ignore[name-defined]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self._world = make_world(world, options)
            self._state = types.State(episode_id=str(uuid4()), step_count=0)
            self._seed, self._truth = 0, []  # type: ignore[var-annotated]

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Any:
            self._report()
            self._state = types.State(episode_id=episode_id or str(uuid4()), step_count=0)
            self._seed = uuid4().int % 2**31 if seed is None else seed
            return WorldObservation(text=checked_reset(self._world, self._seed)[0])

        def step(self, action: Any, timeout_s: float | None = None, **_: Any) -> Any:
            text, reward, terminated, truncated, info = checked_step(self._world, action.text)
            self._truth.append(info["labels"])
            self._state.step_count += 1
            if terminated or truncated:
                self._report()
            return WorldObservation(text=text, reward=reward, done=terminated or truncated, truncated=truncated)

        @property
        def state(self) -> Any:
            return self._state

        def close(self) -> None:
            self._report()
            self._world.close()

        def _report(self) -> None:
            if self._truth:
                truth, self._truth = tuple(self._truth), []
                on_episode(str(self._state.episode_id), self._seed, truth)

    return server.create_fastapi_app(Served, WorldAction, WorldObservation, max_concurrent_envs=max_sessions)
