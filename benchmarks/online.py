"""Online learning with L1 on words, in the manner of Duchi, Hazan & Singer (2011), section 6.

``python benchmarks/online.py`` prints the table of the manual's page on convex problems and draws
its picture. Each of 5,000 rows of 20,000 words is predicted before it is learned from, once.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

import adaptopt as ao

ROWS, WORDS, LENGTH, L1 = 5000, 20_000, 60, 1e-4
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "online.png"
FAR = 1e12  # RDA (Xiao 2010) is AdaGradDA with a constant metric: an eps beside which sums vanish
ADAPTIVE, OTHERS = 0.1 * 2.0 ** np.arange(2, 8), 2.0 ** np.arange(4, 12)
METHODS = {
    "AdaGrad-RDA": ("#D55E00", "-", ADAPTIVE, lambda c: (ao.AdaGradDA(c, l1=L1), None)),
    "AdaGrad-COMID": ("#E69F00", "--", ADAPTIVE, lambda c: (ao.AdaGrad(c), ao.L1(L1))),
    "RDA": ("#0072B2", "-.", OTHERS,
            lambda c: (ao.AdaGradDA(lambda t: FAR * c / t**0.5, eps=FAR, l1=L1), None)),
    "FOBOS": ("#56B4E9", ":", OTHERS, lambda c: (ao.SGD(lambda t: c / t**0.5), ao.L1(L1))),
}  # fmt: skip


def text(seed):
    """Return words by Zipf's law as rows of TF-IDF of length 1, and labels by 100 of the words."""
    rng = np.random.default_rng(seed)
    often = 1.0 / np.arange(1, WORDS + 1)
    words = rng.choice(WORDS, size=(ROWS, LENGTH), p=often / often.sum())
    where = np.repeat(np.arange(ROWS), LENGTH), words.ravel()
    A = sparse.csr_array((np.ones(words.size), where), shape=(ROWS, WORDS))
    idf = np.log((1 + ROWS) / (1 + np.bincount(A.indices, minlength=WORDS)))
    A = sparse.csr_array(A.log1p().multiply(idf))
    A = sparse.csr_array(A.multiply(1 / np.sqrt(A.power(2).sum(1))[:, None]))
    truth = np.zeros(WORDS)
    truth[rng.choice(400, 100, replace=False)] = rng.standard_normal(100)
    z = A @ truth
    y = np.where(5 * (z - np.median(z)) / z.std() + rng.logistic(size=ROWS) > 0, 1.0, -1.0)
    return ao.problems.Logistic(A, y)


def play(p, method, prox):
    """Play the rows once; return the losses of the rounds, and the last point."""
    given = {"batch_size": 1, "epochs": 1, "shuffle": False, "options": {"history": True}}
    res = ao.minimize_finite_sum(p, np.zeros(WORDS), None, method=method, prox=prox, **given)
    return res.history["fun"], res.x


def main():
    """Print the table, and draw the picture."""
    tuning, problems = text(100), [text(seed) for seed in range(5)]
    fits = [ao.minimize(p, np.zeros(WORDS), prox=ao.L1(L1)).x for p in problems]
    best = [np.logaddexp(0, -p.targets * (p.A @ u)) for p, u in zip(problems, fits, strict=True)]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    t = np.arange(1, ROWS + 1)
    print(f"{'method':14} {'rate':>5}  {'online error':>12} {'zeros':>15} {'regret':>12}  exponent")
    for name, (color, line, rates, make) in METHODS.items():
        rate = min(rates, key=lambda c: play(tuning, *make(c))[0].sum())
        losses, points = zip(*(play(p, *make(rate)) for p in problems), strict=True)
        regrets = np.cumsum(np.array(losses) - best, axis=1)
        slopes = [np.polyfit(np.log(t[500:]), np.log(r[500:]), 1)[0] for r in regrets]
        errors, zeros = (np.array(losses) > np.log(2)).mean(1), (np.array(points) == 0).mean(1)
        columns = (100 * errors, 1), (100 * zeros, 2), (regrets[:, -1], 0), (slopes, 2)
        shown = [f"{np.mean(c):.{d}f} ± {np.std(c, ddof=1):.{d}f}" for c, d in columns]
        print("{:14} {:5g}  {:>10} % {:>13} % {:>12}  {}".format(name, rate, *shown), flush=True)
        mean, spread = regrets.mean(0), regrets.std(0, ddof=1)
        axes.plot(t**0.5, mean, line, color=color, linewidth=2, label=name)
        axes.fill_between(t**0.5, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
    axes.set(xlabel="square root of the number of rounds", ylabel="regret", xlim=(0, ROWS**0.5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
