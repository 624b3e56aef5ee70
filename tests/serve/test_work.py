import asyncio
import threading
import time

import pytest

from ferpipe.serve.limits import Refused
from ferpipe.serve.work import Worker


class Scene:
    """A worker that is busy until it is let go, and what it does then, in order."""

    def __init__(self, places=16, room=1000):
        self.worker = Worker("test", places=places, room=room)
        self.go, self.done = threading.Event(), []

    async def __aenter__(self):
        self.busy = asyncio.create_task(self.worker.run(self.go.wait, 60))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error):
        self.go.set()
        await asyncio.gather(self.busy, return_exceptions=True)
        self.worker.close()

    async def ask(self, name, client="one", size=0):
        work = self.worker.run(self.done.append, name, client=client, size=size)
        task = asyncio.create_task(work)
        await asyncio.sleep(0)
        return task


def refusal_of(task):
    error = task.exception()
    assert isinstance(error, Refused)
    return error


def test_small_ones_of_clients_with_few_go_first():
    async def play():
        async with Scene() as scene:
            asked = (("large", "a", 9), ("small", "a", 1), ("equal", "a", 1))
            tasks = [await scene.ask(*one) for one in (*asked, ("alone", "b", 500))]
            scene.go.set()
            await asyncio.gather(*tasks)
            return scene.done

    assert asyncio.run(play()) == ["alone", "small", "equal", "large"]


def test_many_large_images_do_not_keep_out_a_small_one():
    async def play():
        async with Scene(places=4) as scene:
            large = [await scene.ask(number, size=25) for number in range(17)]
            small = await scene.ask("small", size=1)
            other = await scene.ask("other", client="two", size=25)
            await asyncio.sleep(0)
            refused = [refusal_of(task) for task in large if task.done()]
            assert {error.status for error in refused} == {429}
            assert "4 images are waiting already" in str(refused[0])
            assert len(refused) == 16
            scene.go.set()
            await asyncio.gather(small, other)
            return scene.done[:2]

    assert asyncio.run(play()) == ["other", "small"]


def test_those_that_wait_have_little_room():
    async def play():
        async with Scene(room=100) as scene:
            tasks = [await scene.ask(number, size=40) for number in range(3)]
            await asyncio.sleep(0)
            assert [task.done() for task in tasks] == [False, False, True]
            assert refusal_of(tasks[2]).status == 429

    asyncio.run(play())


def test_who_does_not_wait_any_longer_takes_no_place():
    async def play():
        async with Scene(places=2) as scene:
            first = await scene.ask("first")
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            second = await scene.ask("second")
            scene.go.set()
            await second
            return scene.done

    assert asyncio.run(play()) == ["second"]


def test_errors_come_back_and_the_next_one_is_done():
    async def play():
        worker = Worker("test", places=2, room=1)
        with pytest.raises(ValueError, match="invalid literal"):
            await worker.run(int, "x")
        assert await worker.run(int, "7") == 7
        worker.close()

    asyncio.run(play())


def test_at_the_end_who_waits_is_refused_and_what_runs_on_ends_in_silence(caplog):
    async def play():
        scene = Scene()
        await scene.__aenter__()
        waiting = await scene.ask("never")
        scene.worker.close()
        for task in (waiting, scene.busy):
            with pytest.raises(Refused, match="The server stops"):
                await task
        return scene

    scene = asyncio.run(play())
    scene.go.set()  # its thread ends after the event loop
    deadline = time.monotonic() + 60
    while scene.worker._thread._threads and time.monotonic() < deadline:
        if not any(thread.is_alive() for thread in scene.worker._thread._threads):
            break
        time.sleep(0.01)
    assert scene.done == []
    assert not caplog.records
