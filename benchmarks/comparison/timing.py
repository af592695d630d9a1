"""Measure several things in turns, so that a slow moment of the machine meets all alike."""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEAST = 2e-4  # seconds that a timed series lasts at least: some thousand times the clock's error
SHORT = 1e-2  # before a series of calls shorter than this, one that is not timed fills the caches


@dataclass
class Entry:
    """One of those that are compared.

    ``measure(calls)`` makes a series of calls and returns the seconds that one took. ``kind`` is
    "ours", "peer" or "limit"; ``against`` names the entry of ours that it is compared with;
    ``check`` says what was found before anything was timed.
    """

    name: str
    kind: str
    measure: Callable[[int], float] | None
    against: str | None = None
    check: str = ""


def repeated(call, prepare=None):
    """Return ``measure`` of a function that is called again and again."""

    def measure(calls):
        if prepare is not None:
            prepare()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return measure


def stepping(stepper):
    """Return ``measure`` of what takes many steps in one call (see ``peers``)."""
    spent = float("inf")

    def measure(calls):
        nonlocal spent
        stepper.flip()
        if spent < SHORT:
            stepper.step(1)
        start = time.perf_counter()
        stepper.step(calls)
        spent = (time.perf_counter() - start) / calls
        return spent

    return measure


def marginal(run, more):
    """Return ``measure`` of what one more epoch costs, so that what happens once does not count."""

    def measure(_):
        seconds = []
        for epochs in (1 + more, 1):
            start = time.perf_counter()
            run(epochs)
            seconds.append(time.perf_counter() - start)
        # Where an epoch is next to nothing, noise can outweigh it.
        return max(seconds[0] - seconds[1], 1e-9) / more

    return measure


def single(measure):
    """Return about what one call takes; of a short one, the least of three."""
    first = measure(1)
    return first if first > SHORT else min(first, measure(1), measure(1))


def in_turns(measures, seconds, least=5, most=51):
    """Return the times of every round, in an order that is shuffled anew each round."""
    singles = {name: single(measure) for name, measure in measures.items()}
    calls = {
        name: int(np.clip(np.ceil(LEAST / max(single, 1e-9)), 1, 10_000))
        for name, single in singles.items()
    }
    a_round = sum(max(singles[name], 1e-9) * calls[name] for name in measures)
    rounds = int(np.clip(seconds / a_round, least, most))
    order, shuffle = list(measures), random.Random(0).shuffle
    times = {name: [] for name in measures}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                times[name].append(measures[name](calls[name]))
    finally:
        gc.enable()
    return times


def spread(values):
    """Return the median and the quartiles, with four digits that count."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": digits(median), "low": digits(low), "high": digits(high)}


def digits(value):
    """Return a number with four significant digits: the rest is noise."""
    return float(f"{value:.4g}")


def compare(case, entries, seconds, least=5, **facts):
    """Return one comparison as it stands in the JSON.

    ``case`` says what was done, ``facts`` holds what a unit is (bytes, nonzeros, ...). A ratio is
    the entry's time over that of ours: the ratio of medians, with the quartiles of the ratios
    within the rounds. An entry without ``measure`` is listed with its check, and not timed.
    """
    timed = {entry.name: entry.measure for entry in entries if entry.measure is not None}
    times = in_turns(timed, seconds, least)
    rows = []
    for entry in entries:
        row = {"name": entry.name, "kind": entry.kind, "check": entry.check}
        if entry.name in times:
            values = np.array(times[entry.name])
            row |= {"seconds": spread(values), "rounds": values.size}
            if entry.against in times:
                base = np.array(times[entry.against])
                paired = spread(values / base)
                ratio = digits(np.median(values) / np.median(base))
                row["ratio"] = paired | {"median": ratio, "against": entry.against}
        rows.append(row)
    return {"case": case, **facts, "entries": rows}
