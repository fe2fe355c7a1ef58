"""Fair timing of several callables in one process.

They run in turns, so that whatever else the machine does, and its clock, hits all of them alike; each round has another
order, and every second one the order of the round before backwards, so that none profits from what runs before it.
A ratio is taken of two runs of the same round, and the median over the rounds is given with its quartiles.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WARM_UP_SECONDS = 2.0
"""A warm-up of three runs is cut short after so long; one run there is at least."""
_WARM_UPS = 3


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def scaled(self, factor: float) -> Spread:
        """All of it, times a factor."""
        return Spread(self.low * factor, self.median * factor, self.high * factor)

    def to_dict(self) -> dict[str, float]:
        """The spread as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Timings:
    """Seconds of each callable by name, a dict for each round; who sat a round out is not in it."""

    rounds: Sequence[Mapping[str, float]]

    def seconds(self, name: str) -> list[float]:
        """All that were measured of one callable."""
        return [found[name] for found in self.rounds if name in found]

    def spread(self, name: str) -> Spread:
        """Median and quartiles of one callable's seconds."""
        return Spread.of(self.seconds(name))

    def ratio(self, name: str, base: str) -> Spread:
        """How many times as long one takes as the other: the pairs of the rounds in which both ran."""
        return Spread.of([found[name] / found[base] for found in self.rounds if name in found and base in found])


def in_turns(
    calls: Mapping[str, Callable[[], Any]],
    seconds: float,
    *,
    least: int = 7,
    longest: float | None = None,
    share: float | None = None,
    pause: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Timings:
    """Run callables in turns for about so many seconds, after a warm-up.

    Args:
        calls: by name; the first is the one that the others are compared with.
        seconds: after which no further round begins.
        least: so often each runs, if that takes longer.
        longest: seconds after which even that does not count any more, once each has run; None: no such bound.
        share: one that has taken more than so many times as long as the first, all runs together, sits rounds out
            until the first has caught up: what is a hundred times as slow need not be run as often. None: all take
            part in every round.
        pause: seconds before each run, for threads of the one before that still wait busily for work.
        clock, sleep: what tells the time and what waits.
    """
    for call in calls.values():
        _warm_up(call, clock)
    first = next(iter(calls))
    spent, counts = dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0)
    rounds: list[dict[str, float]] = []
    shuffled, order = random.Random(0), list(calls)
    begun = clock()

    def is_over() -> bool:
        took = clock() - begun
        enough = 1 if longest is not None and took >= longest else least
        return took >= seconds and min(counts.values()) >= enough

    while not is_over():
        if len(rounds) % 2:
            order.reverse()
        else:
            shuffled.shuffle(order)
        found: dict[str, float] = {}
        for name in order:
            if share is not None and spent[name] > share * spent[first]:
                continue
            if pause:
                sleep(pause)
            begin = clock()
            calls[name]()
            found[name] = clock() - begin
        for name, took in found.items():
            spent[name] += took
            counts[name] += 1
        rounds.append(found)
    return Timings(rounds)


def _warm_up(call: Callable[[], Any], clock: Callable[[], float]) -> None:
    """The first runs set up memory; they are not timed."""
    begin = clock()
    for _ in range(_WARM_UPS):
        call()
        if clock() - begin > WARM_UP_SECONDS:
            return
