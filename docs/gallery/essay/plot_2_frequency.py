"""
AdaGrad's rate of a feature falls with the root of its frequency
================================================================

Sparse parameters, says the essay, keep a large effective rate, and dense ones get a small one. Here
are 500 words, the k-th of them in proportion to 1/k, in 20,000 texts, and a logistic regression on
them. One pass of AdaGrad over counts of 0 and 1, and one over the same matrix in which rare words
weigh more, as they do in tf-idf.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

import adaptopt as ao

rng = np.random.default_rng(0)
texts, words, length = 20_000, 500, 10
share = 1 / np.arange(1, words + 1)
columns = rng.choice(words, size=(texts, length), p=share / share.sum())
entries = np.ones(columns.size), (np.repeat(np.arange(texts), length), columns.ravel())
counts = sparse.csr_array(entries, shape=(texts, words))
counts.data[:] = 1.0
labels = np.where(counts @ rng.standard_normal(words) + rng.logistic(size=texts) > 0, 1.0, -1.0)
frequency = np.bincount(counts.indices, minlength=words)
tfidf = sparse.csr_array(counts * np.log(texts / frequency))

figure, panels = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for name, matrix, marker in (("0 and 1", counts, "."), ("tf-idf", tfidf, "+")):
    problem = ao.problems.Logistic(matrix, labels)
    res = ao.minimize_finite_sum(
        problem, np.zeros(words), None, method=ao.AdaGrad(0.5), batch_size=1, epochs=1, rng=0
    )
    rate = res.learning_rates
    slope, _ = np.polyfit(np.log(frequency), np.log(rate), 1)
    print(f"{name}: rate proportional to frequency ** {slope:.2f}")
    rare, most = frequency < 200, frequency.argmax()
    ratio = rate[rare].mean() / rate[most]
    print(f"{name}: words in {frequency[rare].mean():.0f} texts on average have", end=" ")
    print(f"{ratio:.1f} times the rate of the one in {frequency[most]}")
    panels[0].loglog(frequency, rate, marker, label=f"{name}: exponent {slope:.2f}")
    ao.plot.rates(res, ax=panels[1])
panels[0].set(xlabel="texts with the word", ylabel="effective rate")
panels[0].legend()
panels[1].set_ylabel("")

x = np.zeros(3)
opt = ao.Optimizer(x, ao.AdaGrad(lr=0.5))
opt.step(np.array([1e-3, 1.0, 1e3]))
print("first steps for gradients of 0.001, 1 and 1000:", np.abs(x).round(4))

# %%
# **Verdict: half right.** With equal entries the rate falls as frequency to the power -0.49: the
# root of the frequency. But AdaGrad sums squared gradients, it does not count. Under tf-idf the
# exponent is -0.20, and the most frequent word has a higher rate than the rare ones. Nor is the
# step "in proportion" to the signal: a first step has the length lr, whatever the gradient.
