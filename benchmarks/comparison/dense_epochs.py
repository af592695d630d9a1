"""An epoch of logistic regression over dense rows, by batch size: the time per step."""

import numba
import numpy as np
from benchmarks.data import dense_rows

import adaptopt as ao

from . import peers
from .timing import Entry, compare, marginal

TITLE = "An epoch over dense rows"
THREADS = ("all",)
LR, EPS = 0.1, 1e-10
SLOW_STEPS = 600  # of loops in Python, whose time is scaled to an epoch
TOLERANCE = 1e-3  # of float32 weights after an epoch: thousands of steps, with sums in other orders


def ours(p, batch, method, average=None, shuffle=True):
    """Return a function that runs epochs: compiled for a problem, in Python for its ``batch``."""
    fun, data = (p, None) if isinstance(p, ao.problems.Logistic) else p

    def run(epochs):
        columns = getattr(fun, "n_features", None) or fun.__self__.n_features
        return ao.minimize_finite_sum(
            fun, np.zeros(columns, np.float32), data, method=method, batch_size=batch,
            epochs=epochs, average=average, shuffle=shuffle, rng=0,
        ).x  # fmt: skip

    return run


def sgd_classifier(p, shuffle=True):
    from sklearn.linear_model import SGDClassifier

    def run(epochs):
        model = SGDClassifier(
            loss="log_loss", penalty=None, learning_rate="constant", eta0=0.01, max_iter=epochs,
            tol=None, random_state=0, fit_intercept=False, shuffle=shuffle,
        )  # fmt: skip
        return model.fit(p.A, p.targets).coef_.ravel()

    return run


def torch_epochs(p, batch, shuffle=True):
    import torch

    torch.set_num_threads(numba.get_num_threads())
    A, y = torch.from_numpy(p.A), torch.from_numpy(np.asarray(p.targets, np.float32))

    def run(epochs):
        x = torch.zeros(A.shape[1], requires_grad=True)
        opt = torch.optim.Adagrad([x], lr=LR, eps=EPS, fused=True)
        for _ in range(epochs):
            if shuffle:
                order = torch.randperm(len(A))
                rows, labels = A[order], y[order]
            else:
                rows, labels = A, y
            for a, b in zip(rows.split(batch), labels.split(batch), strict=True):
                opt.zero_grad()
                torch.nn.functional.soft_margin_loss(a @ x, b).backward()
                opt.step()
        return x.detach().numpy()

    return run


PEERS = (
    peers.Peer(
        "SGDClassifier",
        "scikit-learn",
        "loss='log_loss', no penalty, constant rate, no intercept, float32, a row a step; plain "
        "SGD, which keeps no state; one thread",
        "sklearn.linear_model",
        sgd_classifier,
    ),
    peers.Peer(
        "torch fused",
        "torch",
        "rows shuffled once an epoch and split; soft_margin_loss, autograd, Adagrad(fused=True); "
        f"{SLOW_STEPS} steps, scaled to an epoch",
        "torch",
        torch_epochs,
    ),
)


def run(plan):
    """Yield an epoch for every batch size."""
    A, y = dense_rows(*((300, 10) if plan.quick else (20_000, 100)))
    p = ao.problems.Logistic(A, y)
    for batch in (1, 32) if plan.quick else (1, 32, 256):
        yield contest(p, batch, plan)


def contest(p, batch, plan):
    rows, more = len(p), 2 if plan.quick else 10
    few = ao.problems.Logistic(p.A[: batch * SLOW_STEPS], p.targets[: batch * SLOW_STEPS])

    def scaled(run):
        epoch, part = marginal(run, 1), rows / len(few)
        return lambda calls: epoch(calls) * part

    method = ao.AdaGrad(LR, eps=EPS)
    entries = [
        Entry("AdaGrad", "ours", marginal(ours(p, batch, method), more)),
        *(
            Entry(name, "ours", measure, "AdaGrad")
            for name, measure in (
                ("AdaGrad, average", marginal(ours(p, batch, method, "uniform"), more)),
                ("Adam", marginal(ours(p, batch, ao.Adam(0.01)), more)),
                ("AdaGrad, loop in Python", scaled(ours((few.batch, len(few)), batch, method))),
            )
        ),
    ]
    if batch == 1 and peers.why_missing("sklearn.linear_model") is None:
        loss, ours_loss = p.value(sgd_classifier(p)(1)), p.value(ours(p, batch, method)(1))
        check = f"another algorithm: loss {loss:.3f} after an epoch, ours {ours_loss:.3f}"
        measure = marginal(sgd_classifier(p), more)
        entries.append(Entry("SGDClassifier", "peer", measure, "AdaGrad", check))
    if peers.why_missing("torch") is None:
        theirs = torch_epochs(few, batch, shuffle=False)(1)
        mine = ours(few, batch, method, shuffle=False)(1)
        difference = peers.largest_difference([theirs], [mine])
        check, same = peers.judge(difference, TOLERANCE)
        measure = scaled(torch_epochs(few, batch)) if same else None
        entries.append(Entry("torch fused", "peer", measure, "AdaGrad", check))
    case = {"problem": "logistic", "rows": rows, "columns": p.n_features, "batch": batch}
    return compare(case, entries, plan.seconds * 2, steps=-(-rows // batch))


REASONS = {
    "SGDClassifier": "plain SGD: no state, no root, no division",
    "torch fused": "its matrix products on large batches use threads; ours, by default, one",
}
