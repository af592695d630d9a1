"""Proximal maps that tie coordinates together, in the metric of the step's own rates.

A Euclidean projection after an adaptive step solves another problem and loses the method's
guarantee. These solve the right one: they minimise ``penalty(u) + sum((u - x)**2 / (2 * rates))``.
All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .proximal import Box, Proximal

__all__ = ["GroupL2", "L2Ball", "NonSeparable", "Simplex"]

# Newton's method on a concave increasing function rises to the root in some ten steps.
NEWTON_STEPS = 100


class NonSeparable(Proximal):
    """A proximal map that is applied after the kernel, with the rates that it has written down."""

    is_separable = False

    def within(self, box: Box) -> Proximal:
        """Refuse: the projection onto both is not one after the other."""
        raise ValueError(
            f"bounds are given with {type(self).__name__}, expected one of them: clipping after "
            "a map that ties coordinates together is not the projection onto both"
        )


class Simplex(NonSeparable):
    r"""Projection onto the simplex ``x >= 0, sum(x) == total``, over the whole array.

    Parameters
    ----------
    total : float, default 1.0
        Greater than 0.

    Notes
    -----
    In the metric of the rates :math:`r`: :math:`x = [v - \tau r]_+`, with :math:`\tau` by sorting
    :math:`v / r` (Duchi, Shalev-Shwartz, Singer & Chandra, ICML 2008, Figure 1, for equal rates).

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> costs = np.array([3.0, 1.0, 2.0])
    >>> res = ao.minimize(lambda x: (costs @ x, costs), np.ones(3) / 3, jac=True,
    ...                   method="adagrad", prox=ao.Simplex(), options={"lr": 1.0})
    >>> res.x
    array([0., 1., 0.])
    """

    def __init__(self, total: float = 1.0) -> None:
        self.total = _positive("Simplex.total", total)

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        v, r = x.ravel(), rates.ravel()
        order = np.argsort(-(v / r), kind="stable")
        tau = (np.cumsum(v[order]) - self.total) / np.cumsum(r[order])
        last = np.flatnonzero(v[order] / r[order] > tau)[-1]
        projected: np.ndarray = np.maximum(x - tau[last] * rates, 0.0)
        return projected

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest point of the simplex."""
        nearest = self.solve(x.astype(np.float64), np.ones(x.shape))
        return nearest.astype(x.dtype)


class L2Ball(NonSeparable):
    r"""Projection onto the ball ``sqrt(sum(x**2)) <= radius``, over the whole array.

    Parameters
    ----------
    radius : float
        Greater than 0.

    Notes
    -----
    In the metric of the rates :math:`r`: :math:`x = v / (1 + \theta r)`, with :math:`\theta` the
    root of :math:`\|x\| = \text{radius}`.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([0.0, 0.0])
    >>> ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.L2Ball(5.0)).step(np.array([-6.0, -8.0]))
    >>> x.round(6)
    array([3., 4.])
    """

    def __init__(self, radius: float) -> None:
        self.radius = _positive("L2Ball.radius", radius)

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        if np.linalg.norm(x) <= self.radius:
            return x
        # Newton's method on 1 / norm - 1 / radius, which is nearly linear in theta and concave.
        theta = 0.0
        for _ in range(NEWTON_STEPS):
            u = x / (1.0 + theta * rates)
            norm = np.linalg.norm(u)
            step = (
                (norm / self.radius - 1.0) * norm**2 / np.sum(u**2 * rates / (1.0 + theta * rates))
            )
            theta += step
            if step <= 1e-15 * theta:
                break
        u = x / (1.0 + theta * rates)
        return u * min(1.0, self.radius / float(np.linalg.norm(u)))

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest point of the ball."""
        nearest = self.solve(x.astype(np.float64), np.ones(x.shape))
        return nearest.astype(x.dtype)


class GroupL2(NonSeparable):
    r"""The penalty ``lam * sum over groups of sqrt(sum(x**2))``, which makes whole groups zero.

    Parameters
    ----------
    lam : float
        At least 0.
    groups : array_like of int or sequence of arrays of int
        A label for each element of the array (flat order), or the flat indices of each group;
        elements in no group are not penalised. Groups do not overlap.

    Notes
    -----
    Group lasso (Yuan & Lin 2006). In the metric of the rates :math:`r` a group becomes 0 where
    :math:`\|v / r\| \le \lambda`, else :math:`v / (1 + \lambda r / s)` with :math:`s` its own
    norm, the root of :math:`\|v / (s + \lambda r)\| = 1`.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0, 4.0, 0.1, 0.1])
    >>> opt = ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.GroupL2(1.0, [0, 0, 1, 1]))
    >>> opt.step(np.zeros(4))
    >>> x.round(6)
    array([2.4, 3.2, 0. , 0. ])
    """

    def __init__(self, lam: float, groups: Any) -> None:
        if not (np.isfinite(lam) and lam >= 0):
            raise ValueError(f"GroupL2.lam is {lam!r}, expected a finite number >= 0")
        self.lam = float(lam)
        self.groups = _read_groups(groups)

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the minimiser."""
        v, r = x.flatten(), rates.ravel()
        self._check(v.size)
        if self.lam == 0:
            return x
        labels, members, count = self.groups
        vm, weights = v[members], self.lam * r[members]
        alive = _norms(vm / weights, labels, count) > 1.0
        # The norm s of what is left is the root of norm(v / (s + lam r)) = 1. One over that norm is
        # concave in s, so Newton's method rises to the root from 0.
        s = np.zeros(count)
        for _ in range(NEWTON_STEPS):
            denominators = s[labels] + weights
            w = vm / denominators
            norm = _norms(w, labels, count)
            slope = np.where(alive, _sums(w**2 / denominators, labels, count), 1.0)
            step = np.where(alive, (norm - 1.0) * norm**2 / slope, 0.0)
            s += step
            if (step <= 1e-15 * s).all():
                break
        v[members] = vm * s[labels] / (s[labels] + weights)
        return v.reshape(x.shape)

    def penalty(self, x: np.ndarray) -> float:
        """Return ``lam`` times the sum of the groups' norms."""
        labels, members, count = self.groups
        self._check(x.size)
        values = x.ravel()[members].astype(np.float64)
        return self.lam * float(_norms(values, labels, count).sum())

    def _check(self, size: int) -> None:
        members = self.groups[1]
        if members.size and int(members.max()) >= size:
            raise ValueError(
                f"GroupL2.groups has index {int(members.max())}, expected less than {size}, the "
                "size of the parameters"
            )


def _read_groups(groups: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the label of each member, its flat index, and how many groups there are."""
    if isinstance(groups, Sequence) and groups and np.ndim(groups[0]) == 1:
        parts = [np.asarray(part) for part in groups]
    else:
        labels = np.asarray(groups)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"GroupL2.groups has dtype {labels.dtype}, expected integers")
        flat = labels.ravel()
        parts = [np.flatnonzero(flat == label) for label in np.unique(flat)]
    if any(part.dtype.kind not in "iu" for part in parts if part.size):
        raise TypeError("GroupL2.groups holds numbers that are not integers, expected flat indices")
    members = np.concatenate([part.astype(np.intp) for part in parts])
    if members.size and (members.min() < 0 or np.unique(members).size != members.size):
        raise ValueError(
            "GroupL2.groups overlap or have negative indices, expected each index at most once"
        )
    labels = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    return labels, members, len(parts)


def _sums(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, values, count)


def _norms(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    norms: np.ndarray = np.sqrt(_sums(values**2, labels, count))
    return norms


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return float(value)
