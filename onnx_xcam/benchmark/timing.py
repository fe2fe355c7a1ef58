"""This module times several callables in one process so that they can be compared fairly.

The callables run in turns, so that other work of the machine and changes of its clock affect all of them alike. The
order is shuffled for every other round and reversed for the round after, so that none profits from what runs before it.
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
"""A warm-up of three runs ends after so long; it has one run at least."""
_WARM_UPS = 3


@dataclass(frozen=True)
class Spread:
    """A Spread is a median and the quartiles around it.

    Attributes:
        low, high: the first and the third quartile.
        median: the second quartile.
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of values, of which there must be one at least."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def scaled(self, factor: float) -> Spread:
        """Return the spread multiplied by a factor."""
        return Spread(self.low * factor, self.median * factor, self.high * factor)

    def to_dict(self) -> dict[str, float]:
        """Return the spread as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Timings:
    """Timings hold the seconds of each callable in each round.

    Attributes:
        rounds: for each round the seconds by name; a callable that sat the round out is missing.
    """

    rounds: Sequence[Mapping[str, float]]

    def seconds(self, name: str) -> list[float]:
        """Return the seconds of one callable in all rounds in which it ran."""
        return [one[name] for one in self.rounds if name in one]

    def spread(self, name: str) -> Spread:
        """Return the median and the quartiles of one callable's seconds."""
        return Spread.of(self.seconds(name))

    def ratio(self, name: str, base: str) -> Spread:
        """Return how many times as long a callable takes as the base, over the rounds in which both ran."""
        return Spread.of([one[name] / one[base] for one in self.rounds if name in one and base in one])


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
        calls: the callables by name; the first is the one that the others are compared with.
        seconds: no further round begins after so many, once each callable has run `least` times.
        least: how often each callable runs at least, even if that takes longer than `seconds`.
        longest: seconds after which each callable need only have run once; None sets no such bound.
        share: a callable that has taken more than so many times as long as the first, all runs together, sits rounds
            out until the first has caught up: one that is a hundred times as slow need not run as often. With None all
            callables run in every round.
        pause: seconds to wait before each run, in which busily waiting threads of the run before come to rest.
        clock, sleep: functions that tell the time in seconds, and that wait.

    Returns:
        The seconds of each callable in each round.
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
        measured: dict[str, float] = {}
        for name in order:
            if share is not None and spent[name] > share * spent[first]:
                continue
            if pause:
                sleep(pause)
            begin = clock()
            calls[name]()
            measured[name] = clock() - begin
        for name, took in measured.items():
            spent[name] += took
            counts[name] += 1
        rounds.append(measured)
    return Timings(rounds)


def _warm_up(call: Callable[[], Any], clock: Callable[[], float]) -> None:
    """Run a callable a few times untimed, since the first runs set up memory."""
    begin = clock()
    for _ in range(_WARM_UPS):
        call()
        if clock() - begin > WARM_UP_SECONDS:
            return
