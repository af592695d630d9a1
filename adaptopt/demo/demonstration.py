"""The demonstration's problems, runs and measurements: four methods with one budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.special import expit

import adaptopt as ao

METHODS: dict[str, Callable[..., ao.Method]] = {
    "SGD": ao.SGD,
    "AdaGrad": ao.AdaGrad,
    "RMSProp": ao.RMSProp,
    "Adam": ao.Adam,
}
BATCH = 32  # rows a step

Data = tuple[np.ndarray | sparse.csr_array, np.ndarray]  # features, one row each, and labels
Losses = tuple[np.ndarray, np.ndarray, np.ndarray]


def logistic(scores: np.ndarray, labels: np.ndarray) -> Losses:
    """Return each row's loss, its derivative with respect to the score, and the prediction."""
    score = scores[:, 0]
    losses = np.logaddexp(0.0, score) - labels * score
    return losses, (expit(score) - labels)[:, None], score > 0


def softmax(scores: np.ndarray, labels: np.ndarray) -> Losses:
    """Return each row's loss, its derivatives with respect to the scores, and the prediction."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    own = np.arange(len(labels)), labels
    residuals = np.exp(log_shares)
    residuals[own] -= 1.0
    return -log_shares[own], residuals, scores.argmax(axis=1)


@dataclass(frozen=True)
class Problem:
    """Labelled rows, a linear model that scores them, and the loss of its scores."""

    name: str
    about: str
    train: Data
    held_out: Data
    losses: Callable[[np.ndarray, np.ndarray], Losses]
    scores: int  # columns of weights: one for two classes, otherwise one per class
    steps: int
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # masks of the features' columns

    def evaluate(self, weights: np.ndarray, data: Data) -> tuple[float, float]:
        """Return the mean loss and the accuracy."""
        features, labels = data
        losses, _, predicted = self.losses(features @ weights, labels)
        return float(losses.mean()), float((predicted == labels).mean())

    def batches(self) -> np.ndarray:
        """Return the rows of each step: shuffled passes over the data, equal for every method."""
        rng, rows = np.random.default_rng(1), len(self.train[1])
        a_pass = rows // BATCH
        passes = [
            rng.permutation(rows)[: a_pass * BATCH].reshape(a_pass, BATCH)
            for _ in range(-(-self.steps // a_pass))
        ]
        return np.concatenate(passes)[: self.steps]


@dataclass
class Run:
    """The result of one run of one method."""

    method: str
    lr: float
    weights: np.ndarray
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of gradients and updates, without evaluations of the loss
    update_seconds: float = 0.0
    held_out_loss: float = np.nan
    accuracy: float = np.nan  # on the held-out rows

    @property
    def loss(self) -> float:
        """The last mean loss of all training rows."""
        return self.losses[-1]


def train(
    problem: Problem, method: str, lr: float, watch: Callable[[ao.Optimizer], None] | None = None
) -> Run:
    """Run one method for the problem's steps, and record the mean loss of all rows along the way.

    Parameters
    ----------
    problem : Problem
        Its training rows are used, in its batches.
    method : str
        One of `METHODS`.
    lr : float
        The learning rate. Other hyperparameters keep their defaults.
    watch : callable, optional
        Called with the optimizer after each step.

    Returns
    -------
    Run
        The weights, and the loss at 40 steps that are evenly spaced on a logarithmic scale.
    """
    features, labels = problem.train
    run = Run(method, lr, np.zeros((features.shape[1], problem.scores)))
    optimizer = ao.Optimizer(run.weights, METHODS[method](lr=lr))
    marks = set(np.geomspace(1, problem.steps, 40).round().astype(int).tolist())
    for step, rows in enumerate(problem.batches(), start=1):
        start = time.perf_counter()
        batch = features[rows]
        _, residuals, _ = problem.losses(batch @ run.weights, labels[rows])
        gradient = batch.T @ residuals / BATCH
        middle = time.perf_counter()
        optimizer.step(gradient)
        end = time.perf_counter()
        run.seconds += end - start
        run.update_seconds += end - middle
        if watch is not None:
            watch(optimizer)
        if step in marks:
            run.steps.append(step)
            run.losses.append(problem.evaluate(run.weights, problem.train)[0])
    run.held_out_loss, run.accuracy = problem.evaluate(run.weights, problem.held_out)
    return run


class Rates:
    """The effective learning rates of the first column of weights after each step of a run.

    Notes
    -----
    Before its first gradient the rate of a coordinate is ``lr / eps``, which means nothing. It is
    recorded as NaN.
    """

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []

    def __call__(self, optimizer: ao.Optimizer) -> None:
        """Record one step."""
        squares = optimizer.state[optimizer.method.slots[0]][:, 0]
        self._rows.append(np.where(squares > 0, optimizer.learning_rates()[:, 0], np.nan))

    def of(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return steps, and at each the rates of those of a group that have a rate at the first."""
        start = len(self._rows) // 40
        steps = np.arange(start, len(self._rows)) + 1
        rates = np.array([row[group] for row in self._rows[start:]])
        return steps, rates[:, ~np.isnan(rates[0])]


def real_problems(quick: bool) -> list[Problem]:
    """Return the problems on scikit-learn's bundled data; raise ImportError without it."""
    from sklearn.datasets import load_breast_cancer, load_digits

    tumours, benign = load_breast_cancer(return_X_y=True)
    pixels, digits = load_digits(return_X_y=True)
    steps = 100 if quick else 400
    return [
        _real(
            "breast cancer",
            "Wisconsin diagnostic data, bundled with scikit-learn: benign or malignant, from 30 "
            "features, standardised by the mean and standard deviation of the training rows.",
            (tumours, benign),
            logistic,
            scores=1,
            steps=steps,
            standardise=True,
        ),
        _real(
            "digits",
            "Handwritten digits, bundled with scikit-learn: which of ten, by softmax regression "
            "from 8 x 8 pixels scaled to [0, 1].",
            (pixels / 16.0, digits),
            softmax,
            scores=10,
            steps=steps,
        ),
    ]


def _real(
    name: str,
    about: str,
    data: Data,
    losses: Callable[[np.ndarray, np.ndarray], Losses],
    scores: int,
    steps: int,
    standardise: bool = False,
) -> Problem:
    """Shuffle the rows, hold out a fifth of them, and add a column of ones."""
    features, labels = data
    order = np.random.default_rng(0).permutation(len(labels))
    features, labels = features[order], labels[order]
    cut = len(labels) // 5
    if standardise:
        features = (features - features[cut:].mean(axis=0)) / features[cut:].std(axis=0)
    features = np.column_stack([features, np.ones(len(labels))])
    held_out, rest = (features[:cut], labels[:cut]), (features[cut:], labels[cut:])
    return Problem(name, about, rest, held_out, losses, scores, steps)


def bag_of_words(quick: bool) -> Problem:
    """Return synthetic documents whose word frequencies follow Zipf's law, as in a language."""
    rng = np.random.default_rng(0)
    words, length, stop_words = 4000, 60, 20
    rows, held_out = (4000, 1000) if quick else (20_000, 5_000)
    frequencies = 1.0 / np.arange(1, words + 1)
    drawn = rng.choice(words, (rows + held_out, length), p=frequencies / frequencies.sum())
    numbers = np.repeat(np.arange(rows + held_out), length)
    counts = sparse.csr_array(
        (np.ones(drawn.size), (numbers, drawn.ravel())), shape=(rows + held_out, words)
    )
    weights = rng.standard_normal(words)
    weights[:stop_words] = 0.0
    scores = counts @ weights
    scores -= np.median(scores)
    labels = (rng.random(len(scores)) < expit(scores)).astype(int)
    best = float(((scores > 0) == labels)[rows:].mean())
    shares = np.append((counts[:rows] > 0).mean(axis=0), np.nan)  # the column of ones has no share
    ones = sparse.csr_array(np.ones((rows + held_out, 1)))
    features = sparse.hstack([counts, ones], format="csr")
    about = (
        f"Synthetic: {length} words per document, word i of {words} with probability ~ 1/i; the "
        "features are the raw counts. Each word adds its own N(0, 1) weight to the log-odds of the "
        f"label, except the {stop_words} commonest words, which add nothing. The true weights "
        f"predict {best:.1%} of the held-out rows correctly."
    )
    return Problem(
        "bag of words",
        about,
        (features[:rows], labels[:rows]),
        (features[rows:], labels[rows:]),
        logistic,
        scores=1,
        steps=rows // BATCH,
        groups={
            "rare words (in under 1% of the documents)": shares < 0.01,
            "frequent words (in over 10%)": shares > 0.1,
        },
    )


def measure_words(bag: Problem, winners: dict[str, Run]) -> Iterator[str]:
    """Report how much the rare and the frequent words lower each method's loss."""
    for group, columns in bag.groups.items():
        costs = []
        for run in winners.values():
            without = np.where(columns[:, None], 0.0, run.weights)
            rise = bag.evaluate(without, bag.held_out)[0] - run.held_out_loss
            costs.append(f"{rise:+.3f} with {run.method}")
        yield (
            f"{bag.name}: setting the weights of the {columns.sum()} {group} to 0 changes the "
            f"held-out loss by {', '.join(costs)}."
        )


def measure_rates(bag: Problem, rates: dict[str, Rates]) -> Iterator[str]:
    """Report how the effective learning rates of rare and frequent words changed."""
    for name, seen in rates.items():
        for group, columns in bag.groups.items():
            steps, table = seen.of(columns)
            median = np.median(table, axis=1)
            first, second = np.array_split(table, 2)
            swing = np.median(second.max(axis=0) / second.min(axis=0))
            rose = np.diff(table, axis=0) > 0
            yield (
                f"{name}, {table.shape[1]} {group}: the median effective rate went from "
                f"{median[0]:.3g} at step {steps[0]} to {median[-1]:.3g} at step {steps[-1]}. It "
                f"was {np.median(first):.3g} in the first half and {np.median(second):.3g} in the "
                f"second. In the second half, a typical word's highest rate was {swing:.3g}x its "
                f"lowest. From one step to the next, a rate rose in {rose.sum():,} of "
                f"{rose.size:,} cases ({rose.mean():.1%})."
            )
