"""What is shown of a process that is stuck."""

from __future__ import annotations

import threading

from launch.distributed.thread_dump import dump, other_threads


def test_every_other_thread_is_shown_with_what_it_waits_for() -> None:
    over, started = threading.Event(), threading.Event()

    def waits_for_the_end() -> None:
        started.set()
        over.wait(60)

    thread = threading.Thread(target=waits_for_the_end, name="patient")
    thread.start()
    try:
        started.wait(60)
        text = dump(other_threads())
    finally:
        over.set()
        thread.join()
    assert "patient:\n" in text and "in waits_for_the_end" in text
    assert "test_every_other_thread" not in text, "who asks is not stuck"
