"""The loop in a thread that serves callers of both kinds."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from pgembedding_django.embedders import loop


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


def test_run_waits_for_the_answer():
    assert loop.run(double(4)) == 8


def test_run_passes_an_exception_on():
    async def fail():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        loop.run(fail())


def test_arun_waits_inside_of_another_loop():
    assert asyncio.run(loop.arun(double(4))) == 8


def test_arun_cancelled_cancels_the_coroutine():
    cancelled = threading.Event()

    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.arun(wait()), 0.05)

    asyncio.run(give_up())
    assert cancelled.wait(10)


def test_get_loop_is_one_for_all_threads():
    found = set()
    threads = [threading.Thread(target=lambda: found.add(loop.get_loop())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {loop.get_loop()}


def test_get_loop_of_a_thread_that_came_second_is_the_first_ones(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -3)
    first = loop.LoopThread()

    class Second(loop.LoopThread):
        def __init__(self):
            super().__init__()
            loop._threads[-3] = first
            first.start()

    monkeypatch.setattr(loop, "LoopThread", Second)
    assert loop.get_loop() is first.loop
    first.stop()
    del loop._threads[-3]
    assert first.loop.is_closed()


def test_stop_waits_for_what_is_under_way(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -4)
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05, "done"), loop.get_loop())
    loop._threads[-4].stop()
    del loop._threads[-4]
    assert future.result(0) == "done"


def test_stop_in_a_forked_process_leaves_the_loop_of_its_parent_alone(monkeypatch):
    loop.get_loop()
    ours = loop._threads[os.getpid()]
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -5)
        ours.stop()
    assert ours.is_alive()


def test_interrupt_ends_the_wait_and_cancels_the_request():
    script = (
        "import asyncio, os, signal, threading\n"
        "from pgembedding_django.embedders import loop\n"
        # Heard also where the tests run in the background of a shell, whose children ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cancelled = threading.Event()\n"
        "async def wait():\n"
        # By then the main thread waits too: it has nothing else left to do.
        "    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        "        cancelled.set()\n"
        "try:\n"
        "    loop.run(wait())\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', cancelled.wait(30), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")
