"""How near lr="auto" of minimize_finite_sum comes to the best of nine rates: 25 pairs.

    python benchmarks/untuned_sums.py [METHOD ...]

A pair is a problem and a batch size. The other rate is chosen with hindsight from nine powers of
ten, 1e-6 to 100. It returns what the run without a rate does, the polynomial average, or with L1
the last iterate; or it returns the better of both, with hindsight. The run without a rate is
charged for the rows that its pilot evaluates, at most one epoch: the others get as many rows more.
Printed are the quotients of the gaps after 1, 3 and 10 epochs, beside both, and how many are at
most 2.
"""

import sys
from contextlib import contextmanager

import numpy as np
import scipy.sparse

import adaptopt as ao
from adaptopt.objectives.finite_sum import FiniteSum
from adaptopt.solvers.pilot import FoundRate

EPOCHS = (1, 3, 10)
RATES = 10.0 ** np.arange(-6, 3)
FLOOR = 1e-9  # of the first gap: below it all runs have arrived


def dense(rng, rows, columns, decades=0.0, rotated=False):
    """Return Gaussian columns, with scales over so many decades; rotated, of that condition."""
    A = rng.standard_normal((rows, columns))
    scales = 10.0 ** rng.uniform(-decades / 2, decades / 2, columns)
    return (
        A * scales @ np.linalg.qr(rng.standard_normal((columns, columns)))[0]
        if rotated
        else (A * scales)
    )


def words(rng, rows, columns):
    """Return rows like those of text: frequencies by Zipf's law, lengths normalised to 1."""
    often = np.minimum(1.0, 20.0 / np.arange(1, columns + 1))
    A = (rng.random((rows, columns)) < often) * rng.exponential(size=(rows, columns))
    lengths = np.linalg.norm(A, axis=1, keepdims=True)
    return scipy.sparse.csr_array(A / np.where(lengths > 0, lengths, 1.0))


def categories(rng, rows, columns, variables=5):
    """Return indicators of categories, of which few are frequent."""
    each = columns // variables
    which = np.minimum(rng.zipf(1.3, (rows, variables)) - 1, each - 1) + np.arange(variables) * each
    starts = np.arange(0, which.size + 1, variables)
    return scipy.sparse.csr_array((np.ones(which.size), which.ravel(), starts), (rows, columns))


def regression(seed, make, *shape, loss=ao.problems.LeastSquares, **options):
    """Return a problem of a linear model with noise of a third of the signal."""
    rng = np.random.default_rng(seed)
    A = make(rng, *shape, **options)
    scale = np.sqrt(np.asarray((A * A).mean(axis=0)).ravel())
    z = A @ (rng.standard_normal(shape[1]) / np.where(scale > 0, scale, 1.0))
    return loss(A, (z + z.std() * rng.standard_normal(z.size) / 3) / z.std())


def classes(seed, make, *shape, loss=ao.problems.Logistic, **options):
    """Return a problem of two classes of equal size, which overlap."""
    rng = np.random.default_rng(seed)
    A = make(rng, *shape, **options)
    scale = np.sqrt(np.asarray((A * A).mean(axis=0)).ravel())
    z = A @ (rng.standard_normal(shape[1]) / np.where(scale > 0, scale, 1.0))
    z = 2.0 * (z - np.median(z)) / z.std()
    return loss(A, np.where(z + rng.logistic(size=z.size) > 0, 1.0, -1.0))


def pairs():
    """Return names, problems, strengths of L1, and batch sizes."""
    huber = lambda A, b: ao.problems.Huber(A, b, 0.5)  # noqa: E731
    problems = {
        "least squares": (regression(0, dense, 2000, 50), 0.0, (1, 32, 256)),
        "least squares, condition 100": (
            regression(1, dense, 2000, 50, decades=2, rotated=True), 0.0, (1, 32)),
        "least squares, columns over 3 decades": (
            regression(2, dense, 2000, 30, decades=3), 0.0, (32,)),
        "Huber": (regression(3, dense, 3000, 40, loss=huber), 0.0, (1, 32)),
        "least squares, 150 rows": (regression(4, dense, 150, 20), 0.0, (32,)),
        "logistic": (classes(5, dense, 2000, 50), 0.0, (1, 32, 256)),
        "logistic, columns over 3 decades": (
            classes(6, dense, 2000, 30, decades=3), 0.0, (1, 32)),
        "logistic, 300 rows": (classes(7, dense, 300, 20), 0.0, (32,)),
        "logistic, words": (classes(8, words, 4000, 500), 0.0, (1, 32)),
        "squared hinge, words": (
            classes(9, words, 3000, 300, loss=ao.problems.SquaredHinge), 0.0, (1, 32)),
        "logistic, categories": (classes(10, categories, 4000, 500), 0.0, (1, 32)),
        "least squares, words, L1": (regression(11, words, 3000, 300), 1e-3, (32,)),
        "logistic, words, L1": (classes(12, words, 4000, 500), 1e-4, (1, 32)),
        "logistic, L1": (classes(13, dense, 2000, 100), 1e-2, (32,)),
    }  # fmt: skip
    return [
        (f"{name}, batch {size}", problem, lam, size)
        for name, (problem, lam, sizes) in problems.items()
        for size in sizes
    ]


def gaps_of(problem, lam, least, size, epochs, **options):
    """Return the objective above its minimum after each epoch."""
    values = []

    def follow(intermediate_result):
        x = intermediate_result.x
        values.append(problem(x)[0] + lam * np.abs(x).sum() - least)

    with np.errstate(all="ignore"):
        ao.minimize_finite_sum(
            problem, np.zeros(problem.n_features), None, batch_size=size, epochs=epochs, rng=0,
            prox=ao.L1(lam) if lam else None, callback=follow, **options,
        )  # fmt: skip
    filled = np.full(epochs, np.inf)
    filled[: len(values)] = np.nan_to_num(values, nan=np.inf)
    return filled


@contextmanager
def counted_pilot():
    """Yield a list, to which each evaluation of a pilot appends its number of rows."""
    rows, run, over = [], FoundRate.pilot, FiniteSum.over

    def counted(total, x, order, start, count):
        rows.append(count)
        return over(total, x, order, start, count)

    def pilot(*arguments):
        FiniteSum.over = counted
        try:
            return run(*arguments)
        finally:
            FiniteSum.over = over

    FoundRate.pilot = pilot
    try:
        yield rows
    finally:
        FoundRate.pilot = run


def minimum(problem, lam):
    """Return the least value that two long searches find."""
    runs = (
        ao.minimize(
            problem, np.zeros(problem.n_features), jac=True, method=method,
            prox=ao.L1(lam) if lam else None,
            options={"maxfev": 20_000, "maxiter": 20_000, "rtol": 1e-15},
        ).fun
        for method in ("adagrad", "rmsprop")
    )  # fmt: skip
    return min(runs)


def best_of_nine(problem, lam, least, size, method):
    """Return the least gap of nine rates after each of 11 epochs: of what auto returns, of both."""

    def run(lr, epochs, average):  # after each epoch
        options = {"method": method, "average": average, "options": {"lr": lr}}
        return gaps_of(problem, lam, least, size, epochs, **options)

    averages, lasts = (
        np.min([run(lr, EPOCHS[-1] + 1, average) for lr in RATES], axis=0)
        for average in ("polynomial", "last")
    )
    return np.array([lasts if lam else averages, np.minimum(averages, lasts)])


def quotients(problem, lam, size, method):
    """Return the gaps without a rate over those of both best ones, after the epochs."""
    least = minimum(problem, lam)
    first = problem(np.zeros(problem.n_features))[0] - least
    best = best_of_nine(problem, lam, least, size, method)
    rows, found = len(problem), []
    for epochs in EPOCHS:
        with counted_pilot() as evaluated:
            gaps = gaps_of(problem, lam, least, size, epochs, method=method)
        charged = min(1.0, sum(evaluated) / rows)  # of an epoch
        logs = np.log(best[:, [epochs - 1, epochs]] + FLOOR * first)
        reference = np.exp(logs[:, 0] + charged * (logs[:, 1] - logs[:, 0]))
        found.append((gaps[-1] + FLOOR * first) / reference)
    return np.transpose(found)


def main():
    """Print the table."""
    for method in sys.argv[1:] or ["adagrad"]:
        print(f"{method}: gap over that of the best of nine rates after {EPOCHS} epochs")
        table = []
        for name, problem, lam, size in pairs():
            table.append(quotients(problem, lam, size, method))
            shown = ["".join(f"{value:8.2f}" for value in row) for row in table[-1]]
            print(f"  {name:48s}" + "   |".join(shown), flush=True)
        for k, what in enumerate(("what is returned without a rate", "averages and last iterates")):
            values = np.array(table)[:, k]
            within = " / ".join(f"{share:.0%}" for share in np.mean(values <= 2.0, axis=0))
            medians = np.median(values, axis=0).round(2)
            print(f"  of {what}: {within} within 2x, of {len(table)}; medians {medians}")


if __name__ == "__main__":
    main()
