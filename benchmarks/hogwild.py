"""Time an epoch of two threads without locks against one of one thread, in turns.

``python benchmarks/hogwild.py`` prints medians of three turns: an epoch, which is what a longer
call takes more than a shorter one, and a whole call. Rows have 60 entries in float32, and a batch
is one row. Columns occur as words do, by 1 / rank, or all alike. "plain" is what two processes gain
over one on this machine, each with its own loop of additions: 2 where two cores are real.
"""

import subprocess
import sys
import time

import numpy as np
from scipy import sparse

import adaptopt as ao

ENTRIES, TURNS, SHORT = 60, 3, 2
LOOP = "t = 0.0\nfor i in range(20_000_000): t += i"


def rows_of(rows, columns, power):
    """Return a logistic problem whose columns occur by ``1 / rank ** power``."""
    rng = np.random.default_rng(0)
    shares = np.cumsum(1.0 / np.arange(1, columns + 1) ** power)
    drawn = np.searchsorted(shares / shares[-1], rng.random(rows * ENTRIES)).astype(np.int32)
    starts = np.arange(0, rows * ENTRIES + 1, ENTRIES, dtype=np.int32)
    values = rng.standard_normal(rows * ENTRIES).astype(np.float32)
    A = sparse.csr_array((values, drawn, starts), shape=(rows, columns))
    return ao.problems.Logistic(A, np.where(rng.random(rows) < 0.5, -1.0, 1.0))


def seconds(p, method, epochs, parallel):
    """Return the time of a call and the loss it comes to."""
    start, x0 = time.perf_counter(), np.zeros(p.n_features, np.float32)
    res = ao.minimize_finite_sum(
        p, x0, None, method=method, batch_size=1, epochs=epochs, rng=0, parallel=parallel
    )
    return time.perf_counter() - start, float(res.fun)


def plain():
    """Return what two processes do in the time of one, by a loop that shares nothing."""
    taken = []
    for count in (1, 2):
        start = time.perf_counter()
        for child in [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]:
            child.wait()
        taken.append(time.perf_counter() - start)
    return 2 * taken[0] / taken[1]


def main():
    """Print a line a case."""
    print(f"plain: {plain():.2f}")
    for rows, columns, power in (
        (20_000, 47_236, 1),
        (200_000, 47_236, 1),
        (200_000, 1_000_000, 1),
        (200_000, 1_000_000, 0),
    ):
        p, more = rows_of(rows, columns, power), 40 if rows < 50_000 else 12
        for method in (ao.SGD(0.1), ao.AdaGrad(0.1), ao.AdaGradDA(0.1, l1=1e-5)):
            ways = {None: [], "hogwild": []}  # times of a short call and a long one, and the loss
            for turn in range(TURNS + 1):
                for way, found in ways.items():
                    short, (long, loss) = (
                        seconds(p, method, SHORT, way)[0],
                        seconds(p, method, more, way),
                    )
                    found += [(long - short, long, loss)] * (turn > 0)  # the first turn compiles
            (one, all_one, loss), (two, all_two, other) = (
                np.median(found, axis=0) for found in ways.values()
            )
            name = f"{rows:,} x {columns:,}, 1/rank^{power}, {type(method).__name__}"
            epoch = f"epoch {1e3 * one / (more - SHORT):.1f} ms, gain {one / two:.2f}"
            whole = f"{more} epochs {all_one:.2f} s, gain {all_one / all_two:.2f}"
            print(f"{name}: {epoch}; {whole}; loss {loss:.4f}, {other:.4f}", flush=True)


if __name__ == "__main__":
    main()
