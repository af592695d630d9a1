"""Measure several candidates by turns, so that a slow moment of the machine affects all alike."""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEAST = 2e-4  # least seconds of a timed series: about a thousand times the error of the clock
SHORT = 1e-2  # if calls are shorter than this, an untimed call first fills the caches


@dataclass
class Entry:
    """One candidate of a comparison.

    ``measure(calls)`` makes a series of calls and returns the seconds per call. ``kind`` is "ours",
    "peer" or "limit". ``against`` names the entry of ours for the ratio. ``check`` is the verdict
    on its result, reached before the timing.
    """

    name: str
    kind: str
    measure: Callable[[int], float] | None
    against: str | None = None
    check: str = ""


def repeated(call, prepare=None):
    """Return ``measure`` of a function that is called repeatedly."""

    def measure(calls):
        if prepare is not None:
            prepare()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return measure


def stepping(stepper):
    """Return ``measure`` of a stepper, which takes many steps in one call (see ``steppers``)."""
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
    """Return ``measure`` of one additional epoch, so that one-time costs do not count."""

    def measure(_):
        seconds = []
        for epochs in (1 + more, 1):
            start = time.perf_counter()
            run(epochs)
            seconds.append(time.perf_counter() - start)
        # If an epoch is very short, noise can outweigh it.
        return max(seconds[0] - seconds[1], 1e-9) / more

    return measure


def single(measure):
    """Return roughly the time of one call; for a short call, the least of three."""
    first = measure(1)
    return first if first > SHORT else min(first, measure(1), measure(1))


def in_turns(measures, seconds, least=5, most=51):
    """Return the times of every round. Each round has a new random order."""
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
    """Return the median and the quartiles, with four significant digits."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": digits(median), "low": digits(low), "high": digits(high)}


def digits(value):
    """Return a number with four significant digits; further digits are noise."""
    return float(f"{value:.4g}")


def compare(case, entries, seconds, least=5, **facts):
    """Return one comparison in the form of the JSON.

    ``case`` describes the problem, ``facts`` holds the number of units (bytes, nonzeros, ...). A
    ratio is the entry's time over that of ours: the ratio of the medians, with the quartiles of the
    ratios within the rounds. An entry without ``measure`` is listed with its check, but not timed.
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
