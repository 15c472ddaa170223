"""Checks within guests: how many threads calls that never return may hold."""

import asyncio
import threading
from dataclasses import replace

from controller.health.inside import InsideChecks
from controller.observed.health import ProbeTarget
from tests.unit.health.test_prober import BASE


def test_agents_that_never_answer_again_cost_those_that_do_nothing() -> None:
    """60 that answered, and then hang for ever, beside one of the same host."""
    release, hang = threading.Event(), threading.Event()

    def check(target: ProbeTarget) -> tuple[bool | None, str]:
        if hang.is_set() and target.guest != "well":
            release.wait(120)
            return None, "no answer"
        return True, "fine"

    guests = [replace(BASE, guest=f"s{n}", timeout=0.01) for n in range(60)]
    well = replace(BASE, guest="well", timeout=0.01)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        inside = InsideChecks(loop, check, workers=4, on_error=lambda *_: None, grace=0.01)

        async def ask(target: ProbeTarget, within: float) -> bool | None:
            answer: asyncio.Future[bool | None] = loop.create_future()
            inside.ask(target, loop.time() + within, lambda ok, *_: answer.set_result(ok))
            return await answer

        assert all(await asyncio.gather(*(ask(one, 60.0) for one in (*guests, well))))
        hang.set()
        for _ in range(6):
            await asyncio.gather(*(ask(one, 0.3) for one in guests))
        assert await ask(well, 60.0)
        release.set()
        inside.close()

    asyncio.run(scenario())


def test_calls_that_never_return_hold_a_bounded_number_of_threads() -> None:
    """200 agents of one host that hang for ever are asked again and again; another host's is not
    held up, and when the calls return each guest is asked again.
    """
    release = threading.Event()
    asked: set[str] = set()

    def check(target: ProbeTarget) -> tuple[bool | None, str]:
        asked.add(target.guest)
        if target.host == "sick":
            release.wait(120)
            return None, "no answer"
        return True, "fine"

    sick = [replace(BASE, guest=f"s{n}", host="sick", timeout=0.01) for n in range(200)]
    well = replace(BASE, guest="well", host="fine", timeout=0.01)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        inside = InsideChecks(loop, check, workers=4, on_error=lambda *_: None, grace=0.01)

        async def ask(target: ProbeTarget) -> bool | None:
            answer: asyncio.Future[bool | None] = loop.create_future()
            inside.ask(target, loop.time() + 0.05, lambda ok, *_: answer.set_result(ok))
            return await answer

        for _ in range(4):
            assert await asyncio.gather(*map(ask, sick)) == [None] * len(sick)
            assert await ask(well) is True
        # Each holds a thread: 16 whose place others have, and 8 of a host that was quick so far.
        assert len(asked - {"well"}) <= 16 + 8
        release.set()
        while len(asked) <= len(sick):
            await asyncio.gather(*map(ask, sick))
        inside.close()

    asyncio.run(scenario())
