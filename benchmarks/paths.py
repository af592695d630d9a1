"""Time epochs over sparse rows by how the matrix came, by method, schedule and history.

``python benchmarks/paths.py`` prints medians of interleaved runs, in milliseconds. Each case is
4,000 rows of 20,000 columns with 40 entries each, or of 100 dense columns, three epochs, one row a
batch. "Tracker" is online play, counted by an `adaptopt.regret.Tracker`. "TF-IDF" is what
scikit-learn's `TfidfVectorizer` makes of the sources of Python's standard library, cut in parts of
20 lines. With words as arguments, as in ``python benchmarks/paths.py TF-IDF L1``, only those cases
run whose names contain one of them.
"""

import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
from scipy import sparse

import adaptopt as ao

ROWS, COLUMNS, ROUNDS = 4000, 20_000, 9


def medians(cases):
    """Run all cases in turn, and return the median time of each."""
    for run in cases.values():
        run()
    times = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}


def permuted(A):
    """Return the matrix with the columns of each row in another order."""
    rng, B = np.random.default_rng(1), A.copy()
    for i in range(ROWS):
        row = slice(B.indptr[i], B.indptr[i + 1])
        order = rng.permutation(row.stop - row.start)
        B.indices[row], B.data[row] = B.indices[row][order], B.data[row][order]
    B.has_sorted_indices = B.has_canonical_format = False
    return B


def wide(A):
    """Return the matrix with int64 indices."""
    B = A.copy()
    B.indices, B.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return B


def words():
    """Return real text as a vectorizer gives it: the columns of a row are in no order."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
        parts += ["\n".join(lines[k : k + 20]) for k in range(0, len(lines), 20)]
    return TfidfVectorizer().fit_transform(parts)


def main():
    """Print the table."""
    rng = np.random.default_rng(0)
    A = sparse.random(ROWS, COLUMNS, 2e-3, format="csr", random_state=0)
    y = np.where(rng.random(ROWS) < 0.5, 1.0, -1.0)
    falls = ao.schedules.inverse_time

    def case(method, A=A, play=None, **keywords):
        p = ao.problems.Logistic(A, np.resize(y, A.shape[0]))
        keywords = {"batch_size": 1, "epochs": 3, "rng": 0, **keywords}

        def run():
            tracker = None if play is None else ao.regret.Tracker(**play)
            x0 = np.zeros(p.n_features)
            ao.minimize_finite_sum(p, x0, None, method=method, tracker=tracker, **keywords)

        return run

    text = words()
    ordered = text.copy()
    ordered.sort_indices()
    l1 = ao.L1(1e-4)
    box, dense = {"domain": ao.Box(-1, 1)}, rng.standard_normal((ROWS, 100))

    cases = {
        "canonical": case(ao.AdaGrad(0.5)),
        "permuted": case(ao.AdaGrad(0.5), permuted(A)),
        "vstack": case(ao.AdaGrad(0.5), sparse.vstack([permuted(A)[:2000], A[2000:]])),
        "int64": case(ao.AdaGrad(0.5), wide(A)),
        "csc": case(ao.AdaGrad(0.5), A.tocsc()),
        "float32 rows, float64 x0": case(ao.AdaGrad(0.5), A.astype(np.float32)),
        "TF-IDF as it comes": case(ao.AdaGrad(0.5), text),
        "TF-IDF in order": case(ao.AdaGrad(0.5), ordered),
        "L1": case(ao.AdaGrad(0.5), prox=l1),
        "L1, inverse_time": case(ao.AdaGrad(falls(0.5, 1e-3)), prox=l1),
        "history=1000": case(ao.AdaGrad(0.5), options={"history": 1000}),
        "history=True": case(ao.AdaGrad(0.5), options={"history": True}),
        "Tracker": case(ao.AdaGrad(0.5), play={}),
        "Tracker in a box": case(ao.AdaGrad(0.5), play=box),
        "AdaGradDA": case(ao.AdaGradDA(0.5)),
        "AdaGradDA, inverse_time": case(ao.AdaGradDA(falls(0.5, 1e-3))),
        "FTRL": case(ao.FTRL(0.5)),
        "FTRL, l1": case(ao.FTRL(0.5, l1=1.0)),
        "FTRL, l1, Tracker in a box": case(ao.FTRL(0.5, l1=1.0), play=box),
        "RMSProp": case(ao.RMSProp(0.01)),
        "RMSProp, inverse_time": case(ao.RMSProp(falls(0.01, 1e-3))),
        "Adam, touched": case(ao.Adam(0.01), lazy="touched"),
        "batches of 32": case(ao.AdaGrad(0.5), batch_size=32),
        "batches of 32, Tracker": case(ao.AdaGrad(0.5), batch_size=32, play=box),
        "dense rows": case(ao.AdaGrad(0.5), dense),
        "dense rows, Tracker": case(ao.AdaGrad(0.5), dense, play=box),
        "dense rows by 32": case(ao.AdaGrad(0.5), dense, batch_size=32),
        "dense rows by 32, Tracker": case(ao.AdaGrad(0.5), dense, batch_size=32, play=box),
    }
    wanted = sys.argv[1:] or [""]
    cases = {name: run for name, run in cases.items() if any(part in name for part in wanted)}
    for name, taken in medians(cases).items():
        print(f"{name:28} {taken:8.2f}")


if __name__ == "__main__":
    main()
