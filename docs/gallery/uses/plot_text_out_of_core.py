"""
Text classification out of core
===============================

Texts arrive in parts that need not fit into memory together. Words become columns by hashing, and
``partial_fit`` goes on exactly: parts in sequence give the model of one pass over all texts, to the
last bit. Nothing is tuned. Each part is first predicted, then learned from.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from adaptopt.estimators import LinearClassifier

TOPICS = ("sea", "land")
rng = np.random.default_rng(0)
words = np.array([f"word{k}" for k in range(5000)])
often = 1 / np.arange(1, words.size + 1)
# Each topic has its own frequencies: a factor for each word.
chances = [often * np.exp(0.7 * rng.standard_normal(words.size)) for _ in TOPICS]


def texts(count, length=30):
    """Return texts of random words, and their topics."""
    which = rng.integers(len(TOPICS), size=count)
    drawn = [rng.choice(words, length, p=chances[k] / chances[k].sum()) for k in which]
    return [" ".join(text) for text in drawn], np.array(TOPICS)[which]


vectorizer = HashingVectorizer(n_features=2**16)
model = LinearClassifier()
seen, right = [], []
for part in range(20):
    documents, topics = texts(200)
    X = vectorizer.transform(documents)
    if part:
        seen.append(200 * part)
        right.append(model.score(X, topics))
    model.partial_fit(X, topics, classes=TOPICS)

print(f"{right[-1]:.0%} of the last part were right before they were learned from")

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(seen, right, "o-")
ax.set(xlabel="texts seen", ylabel="share of the next 200 predicted right")
