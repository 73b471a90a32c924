"""An event loop in its own thread, for engines that outlive the event loops of their callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines in its own thread. Callers wait in their own thread, with or without an event loop."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def block(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run `work` and block the calling thread until it ends; TimeoutError after `timeout` seconds."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def wait(self, work: Coroutine[Any, Any, T], *, finish: bool = False) -> T:
        """Run `work` and wait in the caller's event loop. Cancelling the caller cancels `work` unless `finish`."""
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        return await (asyncio.shield(future) if finish else future)

    def stop(self) -> None:
        """End the loop and its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            if not self._thread.is_alive():
                self._loop.close()
