"""Matrix factorisation with power-law items: what rare items gain from each method."""

import numpy as np
import pytest
from numba import njit

import adaptopt as ao

USERS, ITEMS, WIDTH, BATCH, STEPS = 2_000, 5_000, 8, 256, 4_000


@njit
def gradients(U, V, users, items, ratings, gu, gv):
    """Write the gradients of the squares' mean over a batch, a row for each rating."""
    for k in range(users.size):
        i, j = users[k], items[k]
        r = -ratings[k]
        for c in range(WIDTH):
            r += U[i, c] * V[j, c]
        r /= users.size
        for c in range(WIDTH):
            gu[k, c] = r * V[j, c]
            gv[k, c] = r * U[i, c]


def make_ratings():
    """Ratings of two true factors; the k-th item is rated in proportion to 1 / k."""
    rng = np.random.default_rng(0)
    true_users = rng.standard_normal((USERS, 4)) / 2
    true_items = rng.standard_normal((ITEMS, 4))
    popularity = 1.0 / np.arange(1, ITEMS + 1)
    popularity /= popularity.sum()

    def draw(count, p):
        users, items = rng.integers(0, USERS, count), rng.choice(ITEMS, count, p=p)
        return users, items, np.sum(true_users[users] * true_items[items], axis=1)

    train = draw(BATCH * STEPS, popularity)
    return train, draw(40_000, None)


@pytest.fixture(scope="module")
def ratings():
    return make_ratings()


def errors(method, ratings, lazy="exact"):
    """Return mean squares of errors on held-out ratings: of the 200 first items, of the rest."""
    rng = np.random.default_rng(1)
    opt = ao.Optimizer(
        {
            "users": 0.3 * rng.standard_normal((USERS, WIDTH)),
            "items": 0.3 * rng.standard_normal((ITEMS, WIDTH)),
        },
        method,
        lazy=lazy,
    )
    U, V = opt.params["users"], opt.params["items"]
    train, (users, items, truth) = ratings
    gu, gv = np.empty((BATCH, WIDTH)), np.empty((BATCH, WIDTH))
    for step in range(STEPS):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        u, v = train[0][batch], train[1][batch]
        gradients(U, V, u, v, train[2][batch], gu, gv)
        opt.step({"users": (u, gu), "items": (v, gv)})
    opt.flush()
    square = (np.sum(U[users] * V[items], axis=1) - truth) ** 2
    frequent = items < 200
    return square[frequent].mean(), square[~frequent].mean()


# Each at the best rate for rare items of a grid that has better and worse neighbours, but for SGD:
# at twice its rate it diverges. docs/sparse_rows.rst has the figures.


def test_rare_items_are_learned_better_by_adagrad_than_by_sgd(ratings):
    adagrad, sgd = errors(ao.AdaGrad(0.6), ratings), errors(ao.SGD(20.0), ratings)
    assert adagrad[1] < 0.5 * sgd[1]
    assert max(adagrad[0], sgd[0]) < 0.003


def test_exact_and_touched_rmsprop_are_two_algorithms(ratings):
    method = ao.RMSProp(0.01, rho=0.999)
    exact, touched = errors(method, ratings), errors(method, ratings, "touched")
    assert max(exact[1], touched[1]) < 0.06
    assert exact[0] > 3 * touched[0]
