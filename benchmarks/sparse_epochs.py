"""What a compiled epoch over sparse rows costs a nonzero, beside scikit-learn's.

Run it on a machine that does nothing else. Epochs are measured in turns; the figures are medians of
the difference between runs of six epochs and of one, so that what happens once does not count.
scikit-learn's SGDClassifier without a penalty keeps no state for a coordinate: it is a floor.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # before numba loads OpenMP

import time

import numpy as np
from numba import get_num_threads
from scipy import sparse
from sklearn.linear_model import SGDClassifier

import adaptopt as ao

ROWS, COLUMNS, ENTRIES, ROUNDS = 20_000, 47_236, 60, 7


def make_data():
    """Rows with entries at columns of popularity 1/i; labels from true weights."""
    rng = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, COLUMNS + 1)
    columns = rng.choice(COLUMNS, (ROWS, ENTRIES), p=popularity / popularity.sum())
    values = (rng.random(columns.size) + 0.1).astype(np.float32)
    rows = np.repeat(np.arange(ROWS), ENTRIES)
    A = sparse.csr_matrix((values, (rows, columns.ravel())), shape=(ROWS, COLUMNS))
    A.sum_duplicates()
    scores = A @ rng.standard_normal(COLUMNS) + rng.standard_normal(ROWS)
    return A, np.where(scores > 0, 1.0, -1.0).astype(np.float32)


def epoch_seconds(run):
    """Return what an epoch more costs."""
    times = []
    for epochs in (6, 1):
        start = time.perf_counter()
        run(epochs)
        times.append(time.perf_counter() - start)
    return (times[0] - times[1]) / 5


def main():
    """Print nanoseconds a nonzero."""
    A, y = make_data()
    p = ao.problems.Logistic(A, y)

    def ours(method, prox=None, parallel=None, average=None):
        def run(epochs):
            ao.minimize_finite_sum(
                p, np.zeros(COLUMNS, np.float32), None, method=method, prox=prox, batch_size=1,
                epochs=epochs, rng=0, parallel=parallel, average=average,
            )  # fmt: skip

        return run

    def theirs(epochs):
        SGDClassifier(
            loss="log_loss", penalty=None, learning_rate="constant", eta0=0.01, max_iter=epochs,
            tol=None, random_state=0,
        ).fit(A, y)  # fmt: skip

    runs = {
        "SGDClassifier, no penalty": theirs,
        "AdaGrad": ours(ao.AdaGrad(0.1)),
        "AdaGrad, hogwild": ours(ao.AdaGrad(0.1), parallel="hogwild"),
        "AdaGrad, average": ours(ao.AdaGrad(0.1), average="uniform"),
        "AdaGrad, L1": ours(ao.AdaGrad(0.1), ao.L1(1e-5)),
        "AdaGrad, elastic net": ours(ao.AdaGrad(0.1), ao.ElasticNet(1e-5, 1e-5)),
        "RMSProp": ours(ao.RMSProp(0.01)),
        "AdaGradDA, l1": ours(ao.AdaGradDA(0.1, l1=1e-5)),
        "AdaGradDA, l1, hogwild": ours(ao.AdaGradDA(0.1, l1=1e-5), parallel="hogwild"),
    }
    for run in runs.values():
        run(1)
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(epoch_seconds(run))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    floor = medians["SGDClassifier, no penalty"]
    print(f"one epoch over {ROWS:,} x {COLUMNS:,} with {A.nnz:,} nonzeros, float32")
    print(f"hogwild on {get_num_threads()} threads, all else on one")
    for name, median in medians.items():
        print(f"  {name:<27}{median / A.nnz * 1e9:6.2f} ns a nonzero  {median / floor:5.2f}x")
    for name in ("AdaGrad", "AdaGradDA, l1"):
        ratios = np.array(times[name]) / np.array(times[f"{name}, hogwild"])
        print(f"  {name}: hogwild is {np.median(ratios):.2f} times as fast as one thread")


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", module="sklearn")
    main()
