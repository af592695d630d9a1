"""The group lasso: a penalty that ties the coordinates of each group together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import DType, read_array
from .base import Parameters
from .tying import NEWTON_STEPS, NonSeparable, newton_step, rise

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The functions of numbers have no one type.


def group_alone(v, r, lam):
    """Return the norm that a coordinate alone would keep."""
    return abs(v) - lam * r


def group_terms(v, r, s, lam):
    """Return a coordinate's square and slope."""
    denominator = s + lam * r
    w = v / denominator
    return w * w, w**2 / denominator


def group_advance(s, squares, slope, lam):
    """Return the next norm of the group; a group that the penalty removes stays at 0."""
    return rise(s, sqrt(squares), slope, 1.0)


def group_result(v, r, s, squares, lam):
    """Shrink a coordinate."""
    return v * (s / (s + lam * r))


class GroupL2(NonSeparable):
    r"""The group lasso: ``lam`` times the sum of the groups' norms, which makes whole groups zero.

    Parameters
    ----------
    lam : float
        Weight of the penalty, at least 0.
    groups : array_like of int or sequence of arrays of int
        A label for each element of the array, or a sequence with the flat indices of each group.
        Labels are a flat sequence, or a NumPy array with the shape of the parameters. Each label,
        even -1, denotes a group. Groups do not overlap. Elements in no group are not penalised.

    Notes
    -----
    The penalty is :math:`\lambda \sum_G \|x_G\|_2`. With :math:`r` the effective learning rates of
    the step, a group :math:`v` becomes 0 if :math:`\|v / r\| \le \lambda`, else

    .. math:: x_i = \frac{v_i}{1 + \lambda r_i / s},

    with :math:`s` the norm of the result: the root of :math:`\|v / (s + \lambda r)\| = 1`. That is
    the proximal map in the metric of these rates.

    References
    ----------
    Yuan & Lin, "Model selection and estimation in regression with grouped variables", Journal of
    the Royal Statistical Society B 68 (2006), eq. 2.1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0, 4.0, 0.1, 0.1])
    >>> opt = ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.GroupL2(1.0, [0, 0, 1, 1]))
    >>> opt.step(np.zeros(4))
    >>> x.round(6)
    array([2.4, 3.2, 0. , 0. ])
    """

    has_penalty = True
    alone = staticmethod(group_alone)
    terms = staticmethod(group_terms)
    advance = staticmethod(group_advance)
    result = staticmethod(group_result)

    def __init__(self, lam: float, groups: ArrayLike) -> None:
        if not (np.isfinite(lam) and lam >= 0):
            raise ValueError(f"GroupL2.lam is {lam!r}, expected a finite number >= 0")
        self.lam = float(lam)
        self.groups, self._labels = _read_groups(groups)
        # The shape of labels that are not flat.
        self._shape = np.shape(groups) if self._labels is not None and np.ndim(groups) > 1 else None

    @property
    def number(self) -> float:
        """The weight of the penalty."""
        return self.lam

    def tied(self, size: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the coordinates of all groups, and where each starts; no group if lam is 0."""
        self._check(size)
        labels, members, count = self.groups
        if self.lam == 0:
            return members, np.zeros(1, np.int64)
        return members, np.searchsorted(labels, np.arange(count + 1))

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the minimiser."""
        v, r = x.flatten().astype(np.float64), rates.ravel()
        self._check(v.size)
        if self.lam == 0:
            return x
        labels, members, count = self.groups
        with np.errstate(over="ignore"):
            weights = np.maximum(self.lam * r[members].astype(np.float64), np.finfo(float).tiny)
        vm = v[members]
        # The norm s of the result solves norm(v / (s + lam r)) = 1. One over that norm is concave
        # in s, so Newton's method approaches the root from below.
        s = np.zeros(count)
        np.maximum.at(s, labels, np.abs(vm) - weights)
        scale = np.zeros(count)  # units of s, because its inverse may underflow
        np.maximum.at(scale, labels, np.abs(vm))
        for _ in range(NEWTON_STEPS):
            denominators = s[labels] + weights
            w = vm / denominators
            norm = _norms(w, labels, count)
            slope = _sums(w**2 * (scale[labels] / denominators), labels, count)
            alive = norm > 1.0
            step = np.where(alive, newton_step(norm, np.where(alive, slope, 1.0), 1.0), 0.0) * scale
            s += step
            if (step <= 1e-15 * s).all():
                break
        v[members] = vm * (s[labels] / (s[labels] + weights))
        return v.reshape(x.shape)

    def penalty(self, x: np.ndarray) -> float:
        """Return ``lam`` times the sum of the groups' norms."""
        labels, members, count = self.groups
        self._check(x.size)
        values = x.ravel()[members].astype(np.float64)
        unit = float(np.max(np.abs(values), initial=0.0))
        if not 0.0 < unit < math.inf:
            return self.lam * unit
        return self.lam * unit * float(_norms(values / unit, labels, count).sum())

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return no parameters, after checking that the groups fit the shape."""
        self._check(int(np.prod(shape)))
        if self._shape is not None and self._shape != tuple(shape):
            raise ValueError(
                f"GroupL2.groups is an array of shape {self._shape}, expected labels of the shape "
                f"{tuple(shape)} of the parameters; as flat indices of each group, pass "
                "groups.tolist()"
            )
        return (), ()

    def _check(self, size: int) -> None:
        if self._labels is not None and self._labels != size:
            raise ValueError(
                f"GroupL2.groups has {self._labels} labels, expected {size}: one for each element "
                "of the parameters"
            )
        members = self.groups[1]
        if members.size and int(members.max()) >= size:
            raise ValueError(
                f"GroupL2.groups has index {int(members.max())}, expected less than {size}, the "
                "size of the parameters"
            )


def _read_groups(groups: ArrayLike) -> tuple[tuple[np.ndarray, np.ndarray, int], int | None]:
    """Return each grouped element's label and flat index, and the number of groups.

    Then, for groups given by labels, the number of labels; else None.
    """
    count = None
    if isinstance(groups, Sequence) and groups and np.ndim(groups[0]) == 1:
        parts = [read_array("GroupL2.groups", part) for part in groups]
    else:
        labels = read_array("GroupL2.groups", groups)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"GroupL2.groups has dtype {labels.dtype}, expected integers")
        flat = labels.ravel()
        count = flat.size
        if labels.ndim > 1 and count > 1 and np.unique(flat).size == count:
            raise ValueError(
                f"GroupL2.groups is an array of shape {labels.shape} with another label for each "
                "element, expected equal labels in a group; as flat indices of each group, pass "
                "groups.tolist()"
            )
        parts = [np.flatnonzero(flat == label) for label in np.unique(flat)]
    if any(part.dtype.kind not in "iu" for part in parts if part.size):
        raise TypeError("GroupL2.groups holds numbers that are not integers, expected flat indices")
    members = np.concatenate([part.astype(np.intp) for part in parts])
    if count is None and not members.size:
        raise ValueError("GroupL2.groups has only empty groups, expected flat indices of elements")
    if members.size and (members.min() < 0 or np.unique(members).size != members.size):
        raise ValueError(
            "GroupL2.groups overlap or have negative indices, expected each index at most once"
        )
    labels = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    return (labels, members, len(parts)), count


def _sums(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, values, count)


def _norms(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    norms: np.ndarray = np.sqrt(_sums(values**2, labels, count))
    return norms
