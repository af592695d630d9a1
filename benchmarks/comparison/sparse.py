"""An epoch of logistic regression over sparse rows, one row per step: the time per nonzero."""

import tempfile
import weakref
from pathlib import Path

import numpy as np
from benchmarks.data import sparse_rows

import adaptopt as ao

from . import peers
from .limits import gather_epoch
from .timing import Entry, compare, marginal, repeated

TITLE = "An epoch over sparse rows"
THREADS = ("all",)
LR = 0.1
RIVER_ROWS = 200  # river takes about 1000 times as long per nonzero as the others
CHECKED = 3  # epochs before the losses are compared


def ours(p, method, prox=None, shuffle=True, **options):
    def run(epochs):
        res = ao.minimize_finite_sum(
            p, np.zeros(p.n_features, np.float32), None, method=method, prox=prox, batch_size=1,
            epochs=epochs, shuffle=shuffle, rng=0, **options,
        )  # fmt: skip
        return res.x

    return run


def sgd_classifier(p):
    from sklearn.linear_model import SGDClassifier

    def run(epochs):
        model = SGDClassifier(
            loss="log_loss", penalty=None, learning_rate="constant", eta0=0.1, max_iter=epochs,
            tol=None, random_state=0, fit_intercept=False,
        )  # fmt: skip
        return model.fit(p.A, p.targets).coef_.ravel()

    return run


class VowpalWabbit:
    """Passes of its driver over the cache file that it makes from a text file."""

    def __init__(self, p):
        from vowpalwabbit import Workspace

        self.workspace, self.columns = Workspace, p.n_features
        folder = tempfile.TemporaryDirectory()
        weakref.finalize(self, folder.cleanup)
        self.cache, text = Path(folder.name, "rows.cache"), Path(folder.name, "rows.txt")
        with text.open("w") as file:
            for i, label in enumerate(p.targets):
                row = slice(p.A.indptr[i], p.A.indptr[i + 1])
                pairs = zip(p.A.indices[row].tolist(), p.A.data[row].tolist(), strict=True)
                file.write(f"{label:.0f} | {' '.join(f'{j}:{v:.9g}' for j, v in pairs)}\n")
        self._go(f"-d {text} --passes 1 -k")

    def _go(self, more):
        bits = max(self.columns - 1, 1).bit_length()
        model = self.workspace(
            f"--adaptive --power_t 0.5 -l {LR} --loss_function logistic --noconstant --quiet "
            f"-b {bits} --holdout_off --cache_file {self.cache} {more}"
        )
        model.run_parser()
        return model

    def __call__(self, epochs):
        self._go(f"--passes {epochs}").finish()

    def weights(self, epochs):
        model = self._go(f"--passes {epochs}")
        found = np.array([model.get_weight(j) for j in range(self.columns)])
        model.finish()
        return found


class River:
    """River takes rows as dicts. They are made before the timing."""

    def __init__(self, p):
        self.rows = []
        for i, label in enumerate(p.targets):
            row = slice(p.A.indptr[i], p.A.indptr[i + 1])
            names, values = p.A.indices[row].tolist(), p.A.data[row].tolist()
            self.rows.append((dict(zip(names, values, strict=True)), bool(label > 0)))
        self.columns = p.n_features

    def __call__(self, epochs):
        from river import linear_model, optim

        model = linear_model.LogisticRegression(optim.AdaGrad(LR), intercept_lr=0.0)
        for _ in range(epochs):
            for row, label in self.rows:
                model.learn_one(row, label)
        return model

    def weights(self, epochs):
        found = np.zeros(self.columns)
        for j, value in self(epochs).weights.items():
            found[j] = value
        return found


PEERS = (
    peers.Peer(
        "SGDClassifier",
        "scikit-learn",
        "loss='log_loss', no penalty, constant rate, no intercept, float32 CSR rows; plain SGD, "
        "which keeps nothing for a coordinate, so it does less; one thread",
        "sklearn.linear_model",
        sgd_classifier,
    ),
    peers.Peer(
        "VowpalWabbit --adaptive",
        "vowpalwabbit",
        "--adaptive --power_t 0.5 --noconstant over a cache file, with which later passes do not "
        "parse text; float32; it parses in a thread of its own; its roots are approximate",
        "vowpalwabbit",
        VowpalWabbit,
    ),
    peers.Peer(
        "river",
        "river",
        f"LogisticRegression(optim.AdaGrad), rows as dicts made before; {RIVER_ROWS} rows, scaled "
        "to a nonzero; float64",
        "river.linear_model",
        River,
    ),
)


def run(plan):
    """Yield the time of an epoch."""
    A, y = sparse_rows(*((300, 2_000, 20) if plan.quick else (20_000, 47_236, 60)))
    p = ao.problems.Logistic(A, y)
    adagrad, more = ao.AdaGrad(LR), 2 if plan.quick else 5
    runs = {
        "AdaGrad": ours(p, adagrad),
        "AdaGrad, hogwild": ours(p, adagrad, parallel="hogwild"),
        "AdaGrad, average": ours(p, adagrad, average="uniform"),
        "AdaGrad, L1": ours(p, adagrad, ao.L1(1e-5)),
        "AdaGrad, elastic net": ours(p, adagrad, ao.ElasticNet(1e-5, 1e-5)),
        "RMSProp": ours(p, ao.RMSProp(0.01)),
        "AdaGradDA, l1": ours(p, ao.AdaGradDA(LR, l1=1e-5)),
        "AdaGradDA, l1, hogwild": ours(p, ao.AdaGradDA(LR, l1=1e-5), parallel="hogwild"),
    }
    if plan.quick:  # each of the others is a kernel to compile, which takes up to 6 s
        runs = {name: runs[name] for name in ("AdaGrad", "AdaGrad, hogwild")}
    entries = [
        Entry(name, "ours", marginal(run, more), None if name == "AdaGrad" else "AdaGrad")
        for name, run in runs.items()
    ]
    missing = {peer.name for peer in PEERS if peers.why_missing(peer.needs) is not None}
    reached = p.value(ours(p, adagrad, shuffle=False)(CHECKED))
    if "SGDClassifier" not in missing:
        fit = sgd_classifier(p)
        loss = p.value(fit(CHECKED))
        check = (
            f"another algorithm: loss {loss:.3f} after {CHECKED} epochs, ours {reached:.3f}, at "
            f"the start {np.log(2):.3f}"
        )
        measure = marginal(fit, more) if loss < np.log(2) else None
        entries.append(Entry("SGDClassifier", "peer", measure, "AdaGrad", check))
    if "VowpalWabbit --adaptive" not in missing:
        vw = VowpalWabbit(p)
        loss = p.value(vw.weights(CHECKED))
        same = abs(loss - reached) < 0.01 * reached
        check = (
            f"{'equal to 1 percent' if same else 'differs'}: loss {loss:.4f} after {CHECKED} "
            f"epochs in the same order, ours {reached:.4f}"
        )
        measure = marginal(vw, more) if same else None
        entries.append(Entry("VowpalWabbit --adaptive", "peer", measure, "AdaGrad", check))
    if "river" not in missing:
        entries.append(river_entry(p, more))
    entries.append(gather_entry(A))
    case = {"problem": "logistic", "rows": A.shape[0], "columns": A.shape[1]}
    yield compare(case, entries, plan.seconds * 4, nonzeros=A.nnz)


def river_entry(p, more):
    """Return the entry of river: the time for a few rows, scaled to all rows."""
    few = ao.problems.Logistic(p.A[:RIVER_ROWS], p.targets[:RIVER_ROWS])
    river, theirs = River(few), ao.AdaGrad(LR, eps=1e-8, eps_inside=True)
    wide = ao.problems.Logistic(few.A.astype(np.float64), few.targets)
    res = ao.minimize_finite_sum(
        wide, np.zeros(p.n_features), None, method=theirs, batch_size=1, epochs=2, shuffle=False
    )
    check, same = peers.judge(peers.largest_difference([river.weights(2)], [res.x]), 1e-9)
    scale = p.A.nnz / few.A.nnz
    epoch = marginal(river, 1)
    measure = (lambda calls: epoch(calls) * scale) if same else None
    return Entry("river", "peer", measure, "AdaGrad", check)


def gather_entry(A):
    """Return the entry of the plain kernel."""
    order = np.random.default_rng(0).permutation(A.shape[0])
    x, s = (np.full(A.shape[1], 1e-3, np.float32) for _ in range(2))
    arrays = order, A.indptr, A.indices, A.data, x, s, np.float32(1e-3)
    gather_epoch(*arrays)
    check = "gathers and scatters as much, in a shuffled order; no exponential, no root"
    return Entry("plain gather", "limit", repeated(lambda: gather_epoch(*arrays)), "AdaGrad", check)


REASONS = {"SGDClassifier": "it keeps no state: half of the numbers, and no root"}
