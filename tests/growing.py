"""What more of something costs, on whatever machine: a ratio of CPU times, and no seconds."""

import time
from collections.abc import Callable

ABOUT_AS_MUCH = 4.0
"""What is proportional may cost so many times more than its share; a square costs ten times."""


def cost_of_ten_times(work: Callable[[int], Callable[[], object]], few: int) -> float:
    """How many times its share of ten times ``few`` costs: 1.0 where all is proportional.

    ``work(count)`` prepares, what it returns is measured: CPU seconds, the least of three runs.
    """

    def cost(count: int) -> float:
        run = work(count)
        took = []
        for _ in range(3):
            began = time.process_time()
            run()
            took.append(time.process_time() - began)
        return min(took)

    return cost(10 * few) / max(10 * cost(few), 0.01)
