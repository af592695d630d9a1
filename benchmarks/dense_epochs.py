"""What a compiled epoch over dense rows costs, beside the loop in Python and scikit-learn's.

Run it on a machine that does nothing else. Epochs are measured in turns; the figures are medians of
the difference between runs of several epochs and of one, so that what happens once does not count.
scikit-learn's SGDClassifier without a penalty takes a row a step and keeps no state.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # before numba loads OpenMP

import time

import numpy as np
from sklearn.linear_model import SGDClassifier

import adaptopt as ao

ROWS, COLUMNS, ROUNDS = 20_000, 100, 7
BATCHES = (1, 32, 256)


def make_data():
    """Normal rows; labels from true weights."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    scores = A @ rng.standard_normal(COLUMNS) + rng.standard_normal(ROWS)
    return A, np.where(scores > 0, 1.0, -1.0).astype(np.float32)


def epoch_seconds(run, more):
    """Return what an epoch more costs."""
    times = []
    for epochs in (1 + more, 1):
        start = time.perf_counter()
        run(epochs)
        times.append(time.perf_counter() - start)
    return (times[0] - times[1]) / more


def main():
    """Print milliseconds an epoch and microseconds a step."""
    A, y = make_data()
    p = ao.problems.Logistic(A, y)

    def ours(fun, data, batch, method, average=None):
        def run(epochs):
            ao.minimize_finite_sum(
                fun, np.zeros(COLUMNS, np.float32), data, method=method, batch_size=batch,
                epochs=epochs, average=average, rng=0,
            )  # fmt: skip

        return run

    def theirs(epochs):
        SGDClassifier(
            loss="log_loss", penalty=None, learning_rate="constant", eta0=0.01, max_iter=epochs,
            tol=None, random_state=0,
        ).fit(A, y)  # fmt: skip

    runs = {("SGDClassifier", 1): (theirs, 10)}
    for batch in BATCHES:
        method = ao.AdaGrad(0.1)
        runs["AdaGrad", batch] = ours(p, None, batch, method), 10
        runs["AdaGrad, average", batch] = ours(p, None, batch, method, "uniform"), 10
        runs["Adam", batch] = ours(p, None, batch, ao.Adam(0.01)), 10
        runs["AdaGrad, loop in Python", batch] = ours(p.batch, ROWS, batch, method), 1
    for run, _ in runs.values():
        run(1)
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (run, more) in runs.items():
            times[name].append(epoch_seconds(run, more))
    print(f"one epoch over {ROWS:,} x {COLUMNS} dense, float32, serial")
    for (name, batch), seconds in times.items():
        median = float(np.median(seconds))
        steps = -(-ROWS // batch)
        each = f"{median * 1e3:8.2f} ms  {median / steps * 1e6:7.2f} us a step"
        print(f"  batch {batch:<5}{name:<25}{each}")


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", module="sklearn")
    main()
