"""Interrupt short runs at random times, and count what comes of it.

``python tests/interrupts.py --count 300 many compiled`` (without a kind: all of them). A run that
does not end is ended by `faulthandler` with all stacks; the exit status is 1 if anything is wrong.

A kind is a function that returns ``call, check``: ``call()`` is a short run, and ``check(error)``
says what is wrong with what the `KeyboardInterrupt` left, or returns None.
"""

import argparse
import collections
import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from numba import njit

import adaptopt as ao

# Seconds after which a run hangs.
HANGS = 8

KINDS = {}


def kind(make):
    KINDS[make.__name__.replace("_", "-")] = make
    return make


def nothing(error):
    return None


# Without arguments: the loops for it are those that other tests compile.
@njit
def bowl(x, g_out):
    f = 0.0
    for i in range(x.size):
        g_out[i] = x[i] - 1.5
        f += g_out[i] ** 2 / 2
    return f


@kind
def many():
    starts = np.linspace(-1, 1, 600).reshape(200, 3)
    options = {"gtol": None, "maxiter": 500}
    return lambda: ao.minimize_many(bowl, starts, options=options), nothing


@kind
def compiled():
    """The compiled loop with callbacks; a state goes on to where the run would have ended."""

    def run(steps, state=None):
        options = {"gtol": None, "maxiter": steps, "callback_every": 3}
        return ao.minimize(
            *(bowl, np.zeros(3)),
            options=options,
            callback=lambda intermediate_result: None,
            state=state,
        )

    return lambda: run(100), goes_on(run, 100)


@kind
def python():
    """The loop in Python with stopping tests that look back, and a certificate."""

    def run(steps, state=None):
        options = {"ftol": 1e-15, "xtol": 1e-15, "maxiter": steps, "certificate": True}
        return ao.minimize(
            *(lambda x: (float((x - 0.7) @ (x - 0.7)), 2 * (x - 0.7)), np.zeros(3)),
            jac=True,
            method=ao.AdaGrad(0.1),
            bounds=[(-1, 1)] * 3,
            options=options,
            state=state,
        )

    return lambda: run(100), goes_on(run, 100)


def goes_on(run, steps):
    """Check that the state on an error goes on to the end of a run that nothing interrupted."""
    expected = run(steps).state.x

    def check(error):
        state = getattr(error, "state", None)
        if state is None:  # raised before the run began, or after it
            return None
        x = run(steps - state.t, state).state.x if state.t < steps else state.x
        return None if (x == expected).all() else f"from step {state.t} on to another end"

    return check


@kind
def own_loop_over_groups():
    """An own loop over named parameters, some stepped by rows; it goes on from `t` to the same."""
    methods = {"table": ao.RMSProp(0.1, momentum=0.5), "b": ao.Nadam(0.1), "c": ao.AdaGrad(0.1)}
    shapes = {"table": (50, 4), "b": (30,), "c": (20,)}
    draw = np.random.default_rng(0)
    gradients = []
    for t in range(100):
        gs = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
        if t % 3:
            gs["table"] = (np.arange(5) * (t % 7), gs["table"][:5])
        gradients.append(gs)
    made = []

    def go_on(opt):
        while opt.t < len(gradients):
            opt.step(gradients[opt.t])

    def call():
        made[:] = [ao.Optimizer({n: np.ones(shape) for n, shape in shapes.items()}, methods)]
        go_on(made[0])

    def numbers(opt):
        opt.flush()
        slots = [slot for name in shapes for slot in opt.state[name].values()]
        return np.concatenate([x.ravel() for x in (*opt.params.values(), *slots)])

    call()
    expected = numbers(made[0])

    def check(error):
        if not made:  # raised while it was made
            return None
        t = made[0].t
        go_on(made[0])
        return None if (numbers(made[0]) == expected).all() else f"from step {t} on to another end"

    return call, check


# -- in a process of its own -----------------------------------------------------------------------


def interrupt(call, seconds, by_thread):
    """Interrupt a call by a timer or by SIGINT; return what it raised, or None if it ended."""
    ended = False
    thread = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    try:
        try:
            if by_thread:
                thread.start()
            else:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            call()
            ended = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            thread.cancel()
            if by_thread:
                thread.join()
            for _ in range(2):  # one that came last arrives here, not in what follows
                time.sleep(1e-4)
    except BaseException as error:
        return None if ended else error
    return None


def work(name, count, seed):
    """Print a line for each of so many interrupts: what came of it."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    faulthandler.dump_traceback_later(10 * HANGS, exit=True)
    call, check = KINDS[name]()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    draw = random.Random(seed)
    for k in range(count):
        faulthandler.dump_traceback_later(HANGS, exit=True)
        error = interrupt(call, draw.uniform(1e-6, min(seconds)), by_thread=k % 2)
        if error is None:
            print("ended", flush=True)
        elif not isinstance(error, KeyboardInterrupt):
            print(f"wrong exception: {error!r}", flush=True)
        else:
            print(f"wrong state: {said}" if (said := check(error)) else "right", flush=True)
    faulthandler.cancel_dump_traceback_later()


# -- all of them -----------------------------------------------------------------------------------


def count_outcomes(name, count, seed=0):
    """Interrupt runs of one kind in processes of their own; return how often what came of it."""
    outcomes = collections.Counter()
    done = 0
    while done < count:
        command = [sys.executable, __file__, "--work", "--seed", str(seed + done)]
        ran = subprocess.run(
            [*command, "--count", str(count - done), name],
            capture_output=True,
            text=True,
            check=False,
            timeout=(10 + count) * HANGS,
        )
        lines = ran.stdout.splitlines()
        outcomes.update(lines)
        done += len(lines)
        if ran.returncode:
            print(ran.stderr, file=sys.stderr)
            outcomes["hung" if "Timeout" in ran.stderr else "crashed"] += 1
            done += 1
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.kinds[0], given.count, given.seed)
    wrong = 0
    for name in given.kinds or KINDS:
        outcomes = count_outcomes(name, given.count, given.seed)
        wrong += sum(outcomes.values()) - outcomes["right"] - outcomes["ended"]
        print(name, dict(outcomes), flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
