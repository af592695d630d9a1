"""
A pipeline and a grid search
============================

Linear models in scikit-learn's tools: columns are scaled in a pipeline, and a grid search chooses
the penalties. There is no learning rate in the grid. L1 makes coefficients exactly zero: pixels
that a digit does not need.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from adaptopt.estimators import LinearClassifier

X, y = load_digits(return_X_y=True)
X, held, y, answers = train_test_split(X, y, test_size=0.3, random_state=0)

pipeline = make_pipeline(MinMaxScaler(), LinearClassifier(l2=0.0))
strengths = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
search = GridSearchCV(pipeline, {"linearclassifier__l1": strengths}, cv=3)
search.fit(X, y)

scores = search.cv_results_["mean_test_score"]
coef = search.best_estimator_[-1].coef_
print(f"l1={search.best_params_['linearclassifier__l1']:g}, ", end="")
print(f"{search.score(held, answers):.1%} right on held-out digits, ", end="")
print(f"{np.mean(coef == 0):.0%} of the coefficients are 0")

widths = [2, 1, 1, 1, 1]
figure, axes = plt.subplots(1, 5, figsize=(9, 2.4), layout="constrained", width_ratios=widths)
axes[0].semilogx(strengths, scores, "o-")
axes[0].set(xlabel="l1", ylabel="accuracy, 3 folds")
largest = abs(coef).max()
for digit, ax in enumerate(axes[1:]):
    ax.imshow(coef[digit].reshape(8, 8), cmap="RdBu", vmin=-largest, vmax=largest)
    ax.set(title=f"for {digit}", xticks=[], yticks=[])
