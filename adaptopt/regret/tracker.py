"""Regret of online play, and certificates of optimality."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..arrays import read_array, read_real
from ..kernels.certificate import LANES, count_kernel
from ..methods.adagrad import adagrad_bound
from ..prox.separable import Box, Domain

# The course is kept at rounds whose ratio is at least this, four for each doubling: evenly in the
# logarithm, where an exponent is fitted, and few enough to forget about.
SPACING = 2.0**0.25
# An exponent is fitted over the last two decades: what comes before is the way from the start.
FITTED = 0.01
# L-BFGS-B goes on until rounding stops it.
PRECISELY = {"ftol": 0.0, "gtol": 1e-14, "maxiter": 100_000, "maxfun": 1_000_000, "maxcor": 30}


@dataclass(eq=False)
class Sums:
    """What is remembered of all rounds, in float64; the arrays are flat.

    Attributes
    ----------
    origin : ndarray
        The first point, from which points are measured: sums near it lose no digits to where it is.
    moved : ndarray
        Sum of ``x - origin``.
    gradient_sum, squared_gradients : ndarray
        Sums of ``g`` (z) and of ``g * g`` (AdaGrad's G).
    totals : ndarray
        Sums of ``<g, x - origin>``, of ``|x|`` and of ``x * x``, over coordinates too (the last two
        make any elastic net), and of ``f``; and how many rounds there were.
    """

    origin: np.ndarray
    moved: np.ndarray
    gradient_sum: np.ndarray
    squared_gradients: np.ndarray
    totals: np.ndarray

    @classmethod
    def before(cls, x: np.ndarray) -> Sums:
        """Return what is remembered before the first round, whose point is ``x``."""
        moved, z, G = np.zeros((3, x.size))
        return cls(x.astype(np.float64).reshape(-1), moved, z, G, np.zeros(5))

    def add(self, x: np.ndarray, f: float, g: np.ndarray) -> None:
        """Remember one more round; an interrupt finds all of it added, or nothing."""
        form = "float32" if x.dtype == g.dtype == np.float32 else "float64"
        x, g = (np.ascontiguousarray(array, form).reshape(-1) for array in (x, g))
        count_kernel(form)(x, g, f, self.memory(np.empty(3 * LANES)))

    def memory(self, lanes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the arrays that a kernel adds a round to."""
        sums = self.origin, self.moved, self.gradient_sum, self.squared_gradients
        return *sums, lanes, self.totals

    @property
    def linear(self) -> float:
        """Sum of ``<g, x - origin>``."""
        return float(self.totals[0])

    @property
    def loss(self) -> float:
        """Sum of ``f``."""
        return float(self.totals[3])

    @property
    def rounds(self) -> int:
        """How many."""
        return int(self.totals[4])

    def copy(self) -> Sums:
        """Return a copy that shares nothing."""
        return deepcopy(self)

    def average(self) -> Any:
        """Return the mean of the points."""
        return self.origin + self.moved / self.rounds

    def linearised_regret(self, u: np.ndarray) -> float:
        """Return the sum of ``<g, x - u>``."""
        return self.linear - float((self.gradient_sum * (u - self.origin)).sum())

    def worst_regret(self, domain: Domain) -> float:
        """Return the largest linearised regret over a domain, with its penalty in every loss."""
        z, weight, (lo, hi, l1, l2) = self.gradient_sum, self.rounds, domain
        _, absolute, squares, _, _ = self.totals.tolist()
        u = _best_response(z, lo, hi, weight * l1, weight * l2)
        if not np.isfinite(u).all():
            return math.inf
        with np.errstate(over="ignore", invalid="ignore"):  # of bounds near the largest number
            penalty = l1 * (absolute - weight * float(np.abs(u).sum()))
            penalty += 0.5 * l2 * (squares - weight * float((u * u).sum()))
            regret = self.linearised_regret(u) + penalty
        return math.inf if math.isnan(regret) else regret


def gap(x: np.ndarray, f: float, g: np.ndarray, domain: Domain) -> float:
    """Return by how much a convex function, penalty included, is above its minimum at most.

    That is the largest regret of the one round in which ``x`` was played (Frank & Wolfe 1956).
    """
    sums = Sums.before(x)
    sums.add(x, f, g)
    return sums.worst_regret(domain)


def _best_response(
    z: np.ndarray, lo: np.ndarray, hi: np.ndarray, l1: float, l2: float
) -> np.ndarray:
    """Minimise ``z u + l1 |u| + l2 u^2 / 2`` over ``lo <= u <= hi``, each coordinate alone.

    In one dimension the constrained minimiser of a convex function is the unconstrained one,
    clipped; where there is none, it lies at infinity.
    """
    downhill = np.sign(z) * np.maximum(np.abs(z) - l1, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        u = np.divide(-downhill, l2, out=np.zeros_like(z), where=downhill != 0)
    clipped: np.ndarray = np.clip(u, lo, hi)
    return clipped


class Tracker:
    r"""Follows online convex play, and says how large its regret is and can be at most.

    Parameters
    ----------
    domain : Box, optional
        Where the comparators lie, such as ``Box(-1, 1)``; by default everywhere. The points played
        may lie elsewhere.
    lr : float, optional
        Greater than 0. The learning rate of AdaGrad, for `adagrad_bound`.
    window : int, default 0
        At least 0. Keep the regret of so many last rounds, one number each, for `windowed_regret`.
    keep : bool, default False
        Keep every point, loss and gradient: `points`, `losses` and `gradients`. Without it, memory
        grows with the logarithm of the rounds only: four rounds of each doubling are in `course`.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as above.

    Notes
    -----
    All sums are kept in float64, whatever the dtype of what is played. What is said here holds
    for convex losses, exact (sub)gradients, and up to rounding.

    References
    ----------
    Regret of gradient play, and against moving comparators: Zinkevich, "Online convex programming
    and generalized infinitesimal gradient ascent", ICML 2003, theorems 1 and 2. Linearisation and
    averages: Hazan, "Introduction to online convex optimization", Foundations and Trends in
    Optimization 2, 2016, chapters 3 and 9. AdaGrad's bound: Duchi, Hazan & Singer, "Adaptive
    subgradient methods for online learning and stochastic optimization", JMLR 12, 2011, theorem 5
    and corollary 6.

    Examples
    --------
    AdaGrad against a coin: the losses are ``g * x`` with a random sign g.

    >>> import numpy as np, adaptopt as ao
    >>> x, box = np.zeros(1), ao.Box(-1, 1)
    >>> opt = ao.Optimizer(x, ao.AdaGrad(lr=2 / 2**0.5), prox=box)
    >>> tracker = ao.regret.Tracker(box)
    >>> for g in np.random.default_rng(0).choice([-1.0, 1.0], size=(1000, 1)):
    ...     tracker.play(x, g @ x, g)
    ...     opt.step(g)
    >>> tracker.rounds
    1000
    >>> round(tracker.linearised_regret(), 3) <= round(tracker.adagrad_bound(), 3) == 89.443
    True
    """

    def __init__(
        self,
        domain: Box | None = None,
        *,
        lr: float | None = None,
        window: int = 0,
        keep: bool = False,
    ) -> None:
        if domain is not None and not isinstance(domain, Box):
            raise TypeError(f"domain is {domain!r}, expected a Box such as Box(-1, 1), or None")
        self.domain = domain
        self.lr = None if lr is None else _positive("lr", lr)
        if isinstance(window, bool) or not isinstance(window, int) or window < 0:
            raise ValueError(f"window is {window!r}, expected a whole number >= 0")
        self._keep = bool(keep)
        self._kept: list[tuple[np.ndarray, float, np.ndarray]] = []
        self._window: deque[float] = deque(maxlen=window)
        self._sums: Sums | None = None
        self._shape: tuple[int, ...] = ()
        self._walls: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))
        self._compared, self._comparator = 0, 0.0
        self._course: list[tuple[int, float, float]] = []

    def play(self, x: Any, f: float, g: Any, *, comparator: float | None = None) -> None:
        """Take in a round.

        Parameters
        ----------
        x : array_like
            The point played: finite, of any one shape.
        f : float
            The loss revealed there.
        g : array_like
            A (sub)gradient of the loss there, of the shape of ``x``.
        comparator : float, optional
            What the comparator lost in this round: ``f_t(u)`` of a fixed one, ``f_t(u_t)`` of one
            that moves.

        Raises
        ------
        ValueError
            Where something is not finite or of another shape. Nothing has been modified then.
        """
        x, g = _array("x", x), _array("g", g)
        f = _number("f", f)
        lost = None if comparator is None else _number("comparator", comparator)
        shape = x.shape if self._sums is None else self._shape
        for name, array in (("x", x), ("g", g)):
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if self._sums is None:
            self._walls, self._shape = self._read_walls(shape), shape
            self._sums = Sums.before(x)
        self._sums.add(x, f, g)
        if lost is not None:
            self._compared += 1
            self._comparator += lost
        self._window.append(math.nan if lost is None else f - lost)
        if self._keep:
            self._kept.append((x.copy(), f, g.copy()))
        if not self._course or self._sums.rounds >= SPACING * self._course[-1][0]:
            self._course.append(self._now())

    # -- sums --------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """T, how many rounds have been played."""
        return 0 if self._sums is None else self._sums.rounds

    @property
    def cumulative_loss(self) -> float:
        """What was lost in all rounds: the sum of ``f_t(x_t)``."""
        return 0.0 if self._sums is None else self._sums.loss

    @property
    def average(self) -> Any:
        """The mean of the points played."""
        return self._played().average().reshape(self._shape)

    @property
    def gradient_sum(self) -> np.ndarray:
        """The sum of the gradients, z."""
        return np.array(self._played().gradient_sum.reshape(self._shape))

    @property
    def squared_gradients(self) -> np.ndarray:
        """The sum of the squared gradients of each coordinate: AdaGrad's accumulator G."""
        return np.array(self._played().squared_gradients.reshape(self._shape))

    @property
    def points(self) -> np.ndarray:
        """All points played, along the first axis, with ``keep=True``."""
        return np.stack([x for x, _, _ in self._all()])

    @property
    def losses(self) -> np.ndarray:
        """All losses, with ``keep=True``."""
        return np.array([f for _, f, _ in self._all()])

    @property
    def gradients(self) -> np.ndarray:
        """All gradients, along the first axis, with ``keep=True``."""
        return np.stack([g for _, _, g in self._all()])

    # -- regret ------------------------------------------------------------------------------------

    def linearised_regret(self, u: Any = None) -> float:
        r"""Return the regret of the linearised losses: what the regret is at most.

        Parameters
        ----------
        u : array_like, optional
            The comparator, of the shape of the points; by default the one of the domain against
            which the regret is largest.

        Returns
        -------
        float
            Infinite where the domain leaves room for a comparator at infinity.

        Notes
        -----
        .. math:: R_T(u) = \sum_t f_t(x_t) - f_t(u) \le \sum_t \langle g_t, x_t - u \rangle

        for convex losses (Zinkevich 2003, section 2; Hazan 2016, section 3.1). In a box the worst
        comparator has a closed form: ``lo`` where z > 0, ``hi`` where z < 0.
        """
        sums = self._played()
        if u is None:
            return sums.worst_regret(Domain(*self._walls))
        return sums.linearised_regret(self._read_point(u).reshape(-1))

    def regret(self, comparator_loss: float | None = None) -> float:
        r"""Return the regret against what a comparator lost in all rounds.

        Parameters
        ----------
        comparator_loss : float, optional
            The sum of ``f_t(u)``; by default that of the ``comparator`` given in every round.

        Notes
        -----
        .. math:: R_T(u) = \sum_t f_t(x_t) - \sum_t f_t(u)

        (Hazan 2016, chapter 1). It may be negative against a comparator that is not the best.
        """
        if comparator_loss is None:
            return self.dynamic_regret
        return self.cumulative_loss - _number("comparator_loss", comparator_loss)

    @property
    def dynamic_regret(self) -> float:
        """The sum of ``f_t(x_t) - f_t(u_t)`` over the comparators given in every round.

        Against a comparator that moves it may have to grow linearly, since it is at least what the
        moves cost (Zinkevich 2003, theorem 2: the bound has the length of the comparator's path in
        it). Where the comparator was the same in all rounds, it is the regret.
        """
        if self._compared < self.rounds:
            raise ValueError(
                f"comparator was given in {self._compared} of {self.rounds} rounds, expected in "
                "all of them: play(x, f, g, comparator=...)"
            )
        return self.cumulative_loss - self._comparator

    def windowed_regret(self, w: int | None = None) -> float:
        """Return the regret of the last ``w`` rounds against the comparators given in them.

        Parameters
        ----------
        w : int, optional
            At least 1 and at most ``window``, which it is by default. Where fewer rounds have been
            played, it is the regret of those.
        """
        size = self._window.maxlen or 0
        w = size if w is None else w
        if not 1 <= w <= size:
            raise ValueError(f"w is {w!r}, expected 1 <= w <= window, which is {size}")
        total = math.fsum(list(self._window)[-w:])
        if math.isnan(total):
            raise ValueError(f"comparator was not given in all of the last {w} rounds")
        return total

    def best_fixed(
        self, fun: Callable[..., Any], x0: Any = None, bounds: Any = None
    ) -> tuple[np.ndarray, float]:
        """Find the best fixed point in hindsight, by SciPy's L-BFGS-B to high precision.

        Parameters
        ----------
        fun : callable
            ``fun(u) -> (mean loss over the rounds, gradient)``, smooth and convex, such as one of
            ``adaptopt.problems`` over the stream's rows.
        x0 : array_like, optional
            Where to start from; by default from `average`.
        bounds : Bounds or sequence of pairs, optional
            SciPy's; by default the domain.

        Returns
        -------
        u : ndarray
            The best point found, of the shape of ``x0``.
        value : float
            The mean loss there.
        """
        from scipy.optimize import Bounds, minimize

        start = self.average if x0 is None else _array("x0", x0)
        if bounds is None and self.domain is not None:
            bounds = Bounds(*self._read_walls(start.shape))

        def flat(u: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = fun(u.reshape(start.shape))
            return float(value), np.asarray(gradient, np.float64).reshape(-1)

        found = minimize(
            flat, start.reshape(-1), jac=True, method="L-BFGS-B", bounds=bounds, options=PRECISELY
        )
        return found.x.reshape(start.shape), float(found.fun)

    def regret_of(self, fun: Callable[..., Any], u: Any = None) -> float:
        """Return the regret against a fixed point, from the mean loss as a function of it.

        Parameters
        ----------
        fun : callable
            The mean of the rounds' losses as a function of the point: ``fun(u) -> mean loss``, or
            ``-> (mean loss, gradient)``.
        u : array_like, optional
            The comparator; by default `best_fixed`, which needs the gradient.

        Notes
        -----
        It is ``cumulative_loss - rounds * fun(u)``.
        """
        if u is None:
            _, value = self.best_fixed(fun)
        else:
            found = fun(self._read_point(u))
            value = _number("fun(u)", found[0] if isinstance(found, tuple) else found)
        return self.cumulative_loss - self.rounds * value

    # -- bounds ------------------------------------------------------------------------------------

    def adagrad_bound(
        self, lr: float | None = None, diameters: Any = None, *, eps: float = 0.0
    ) -> float:
        r"""Return what the regret is at most where AdaGrad has played.

        Parameters
        ----------
        lr : float, optional
            The learning rate that has played; by default the tracker's. Where that is not given
            either, the one that is best for the largest diameter, ``max(D) / sqrt(2)``.
        diameters : array_like, optional
            D, how far the points were at most from the comparator, in each coordinate or in all; by
            default the widths of the domain.
        eps : float, default 0.0
            AdaGrad's.

        Returns
        -------
        float
            A bound on `linearised_regret`, and so on the regret, against every comparator within
            ``diameters``.

        Notes
        -----
        .. math::

            R_T \le \sum_i \frac{D_i^2}{2 \eta} \left(\sqrt{G_i} + \epsilon\right) + \eta \sqrt{G_i}
            \qquad
            \eta = D / \sqrt{2}: \quad R_T \le \sqrt{2} D \sum_i \sqrt{G_i}

        Duchi, Hazan & Singer (2011), theorem 5 and corollary 6, coordinate by coordinate, which
        needs the last accumulator only. That eps adds its own term is not in the paper: a step
        divided by ``sqrt(G) + eps`` is one in that metric.
        """
        G = self._played().squared_gradients
        D = self._widths() if diameters is None else self._spread("diameters", diameters)
        if not np.isfinite(D).all():
            raise ValueError("the domain is not bounded on all sides, expected diameters")
        lr = self.lr if lr is None else _positive("lr", lr)
        if lr is None:
            largest = float(D.max(initial=0.0))
            if largest == 0:
                return 0.0
            lr = largest / math.sqrt(2.0)
        root = np.sqrt(G)
        return adagrad_bound(root, root + eps, D, lr)

    def certificate(self, *, l1: float = 0.0, l2: float = 0.0) -> float:
        r"""Return how far the average's objective is above its minimum over the domain, at most.

        Parameters
        ----------
        l1, l2 : float, default 0.0
            At least 0. Weights of the penalty ``phi(x) = l1 |x| + l2 x^2 / 2``, which each round's
            objective has besides the loss played, and whose gradient is not in ``g``.

        Returns
        -------
        float
            Infinite where neither the domain nor the penalty bounds it.

        Notes
        -----
        .. math::

            F(\bar x_T) - F^* \le \frac{1}{T} \Big[ \sum_t \langle g_t, x_t \rangle
            + \sum_t \phi(x_t) - \min_{u} \big( \langle z, u \rangle + T \phi(u) \big) \Big]

        for ``F = f + phi`` where the loss is the same convex f in every round (Hazan 2016,
        chapter 9; Jensen's inequality and `linearised_regret`); without penalty it is
        ``linearised_regret() / T``. It holds for the best point played too, since that is no worse
        than the mean. Whoever has played does not matter: it asks nothing of the method. The inner
        minimum is one of a convex, piecewise quadratic function of each coordinate: the soft
        threshold of ``-z`` at ``T l1`` over ``T l2``, clipped to the domain.

        Where the losses differ, it bounds the mean regret, and the average's gap in expectation
        over independent draws only.
        """
        sums = self._played()
        for name, value in (("l1", l1), ("l2", l2)):
            if _number(name, value) < 0:
                raise ValueError(f"{name} is {value!r}, expected a number >= 0")
        return sums.worst_regret(Domain(*self._walls, l1, l2)) / sums.rounds

    # -- growth ------------------------------------------------------------------------------------

    def course(self) -> dict[str, np.ndarray]:
        """Return the course of the regret, at four rounds of each doubling and at the last.

        Returns
        -------
        dict of str to ndarray
            The rounds ``t``; ``regret`` against the comparators given until then (NaN where there
            were rounds without); and ``linearised``, the largest linearised regret.
        """
        self._played()
        now = self._now()
        rows = self._course if self._course[-1][0] == now[0] else [*self._course, now]
        t, regret, linearised = zip(*rows, strict=True)
        return {"t": np.array(t), "regret": np.array(regret), "linearised": np.array(linearised)}

    def growth(self, of: str | None = None, *, since: int | None = None) -> float:
        """Return the exponent a of the growth of the regret, like ``T**a``.

        Parameters
        ----------
        of : {None, "regret", "linearised"}
            Which column of `course`; by default the regret where comparators were given, else the
            linearised one.
        since : int, optional
            Fit from this round on; by default from a hundredth of the rounds on.

        Returns
        -------
        float
            The slope of the least-squares line through the logarithms of the course, where it is
            positive and finite; NaN where that is at fewer than three rounds. 0.5 is the rate of
            AdaGrad's bound, and the best possible for convex losses (Hazan 2016, theorem 3.2); 1 is
            that of a player that does not learn.
        """
        course = self.course()
        if of is None:
            of = "regret" if self._compared == self.rounds else "linearised"
        if of not in ("regret", "linearised"):
            raise ValueError(f"of is {of!r}, expected 'regret', 'linearised' or None")
        t, value = course["t"], course[of]
        since = math.ceil(FITTED * self.rounds) if since is None else since
        fits = (t >= since) & np.isfinite(value) & (value > 0)
        if np.count_nonzero(fits) < 3:
            return math.nan
        return float(np.polyfit(np.log(t[fits]), np.log(value[fits]), 1)[0])

    def _now(self) -> tuple[int, float, float]:
        complete = self._compared == self.rounds
        regret = self.dynamic_regret if complete else math.nan
        return self.rounds, regret, self.linearised_regret()

    # -- reading -----------------------------------------------------------------------------------

    def _played(self) -> Sums:
        if self._sums is None:
            raise ValueError("no round has been played yet, expected at least one")
        return self._sums

    def _all(self) -> list[tuple[np.ndarray, float, np.ndarray]]:
        if not self._keep:
            raise ValueError("keep is False, expected Tracker(keep=True)")
        self._played()
        return self._kept

    def _read_walls(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the domain's bounds, flat."""
        lo, hi = (-np.inf, np.inf) if self.domain is None else (self.domain.lo, self.domain.hi)
        try:
            low, high = (np.broadcast_to(bound, shape).flatten() for bound in (lo, hi))
        except ValueError:
            raise ValueError(
                f"domain has bounds of shapes {np.shape(lo)} and {np.shape(hi)}, expected shapes "
                f"that broadcast to {shape} like x"
            ) from None
        return low, high

    def _widths(self) -> np.ndarray:
        widths: np.ndarray = self._walls[1] - self._walls[0]
        return widths

    def _spread(self, name: str, value: Any) -> np.ndarray:
        array = read_real(name, value).astype(np.float64)
        if not (array >= 0).all():
            raise ValueError(f"{name} is {value!r}, expected numbers >= 0")
        try:
            spread: np.ndarray = np.broadcast_to(array, self._shape).flatten()
        except ValueError:
            raise ValueError(
                f"{name} has shape {array.shape}, expected one that broadcasts to {self._shape}"
            ) from None
        return spread

    def _read_point(self, u: Any) -> np.ndarray:
        point = _array("u", u)
        if point.shape != self._shape:
            raise ValueError(f"u has shape {point.shape}, expected {self._shape} like x")
        return point


def _array(name: str, value: Any) -> np.ndarray:
    numbers: np.ndarray = read_real(name, value).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} has entries that are not finite, expected finite numbers")
    return numbers


def _number(name: str, value: Any) -> float:
    array = read_array(name, value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"{name} is {value!r}, expected a number")
    number = float(array.item())
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, expected a finite number")
    return number


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, expected a number > 0")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return number
