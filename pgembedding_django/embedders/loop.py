"""An event loop in a thread of its own: one asynchronous implementation serves callers of both kinds."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds for connections to close when the process ends.
LAST_WAIT = 1.0


class LoopThread(threading.Thread):
    """A thread that runs an event loop until the process ends."""

    def __init__(self) -> None:
        super().__init__(name="pgembedding_django.embedders", daemon=True)
        self.loop = asyncio.new_event_loop()

    def run(self) -> None:
        self.loop.run_forever()
        self.loop.close()

    def stop(self) -> None:
        if is_ours(self.loop):
            asyncio.run_coroutine_threadsafe(_finish(), self.loop).result(LAST_WAIT + 1)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.join()


#: process: what runs its loop. A forked child inherits a loop that no thread runs, so it makes its own.
_threads: dict[int, LoopThread] = {}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine; an interrupt (Ctrl-C) cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, get_loop())
    try:
        return future.result()
    finally:
        future.cancel()


async def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine without blocking the caller's own loop; a cancellation reaches it."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, get_loop()))


def get_loop() -> AbstractEventLoop:
    """Return the loop of this process, which starts at the first call."""
    pid = os.getpid()
    if pid not in _threads:
        made = LoopThread()
        if _threads.setdefault(pid, made) is made:
            made.start()
            # Finalizers run at exit too, the newest first: connections close before their loop stops.
            weakref.finalize(made, made.stop)
        else:  # another thread was first
            made.loop.close()
    return _threads[pid].loop


def is_ours(loop: AbstractEventLoop) -> bool:
    """Tell whether a loop is the one of this process, and no copy of its parent's."""
    running = _threads.get(os.getpid())
    return running is not None and running.loop is loop


async def _finish() -> None:
    """Let connections close that are about to."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.wait([*others, asyncio.create_task(asyncio.sleep(0))], timeout=LAST_WAIT)
