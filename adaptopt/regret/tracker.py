"""Regret of online play."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import UserFunction, read_real
from ..methods.adagrad import adagrad_bound
from ..prox.base import Domain
from .rounds import Rounds, read_finite, read_number, read_positive

# An exponent is fitted over the last two decades, without the transient at the start.
FITTED = 0.01
# L-BFGS-B continues until rounding stops it.
PRECISELY = {"ftol": 0.0, "gtol": 1e-14, "maxiter": 100_000, "maxfun": 1_000_000, "maxcor": 30}


class Tracker(Rounds):
    r"""Follow online convex optimisation: compute its regret, and bounds on it.

    Parameters
    ----------
    domain : Box, optional
        The set of comparators, such as ``Box(-1, 1)``. By default the whole space. The points
        played may lie outside.
    lr : float, optional
        AdaGrad's learning rate, greater than 0, for `adagrad_bound`.
    window : int, default 0
        Number of last rounds, at least 0, whose regret is kept for `windowed_regret`.
    keep : bool, default False
        Keep all `points`, `losses` and `gradients`. If False, memory grows only with the logarithm
        of the number of rounds, because `course` records four rounds per doubling.
    points : bool, optional
        Sum the points played, for `average` and for a `certificate` with a penalty. False saves a
        pass over all coordinates in rounds with sparse gradients. None sums them, except in epochs
        over sparse rows in which coordinates move without a gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above.

    Notes
    -----
    All sums are float64, for points and gradients of any dtype. The bounds hold for convex losses
    and exact (sub)gradients, up to rounding.

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
    AdaGrad against random signs: the losses are ``g * x`` with a random sign g.

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

    # -- regret ------------------------------------------------------------------------------------

    def linearised_regret(self, u: ArrayLike | None = None) -> float:
        r"""Return the regret of the linearised losses, an upper bound on the regret.

        Parameters
        ----------
        u : array_like, optional
            The comparator, of the shape of the points. By default the one in the domain with the
            largest regret.

        Returns
        -------
        float
            Infinite if the regret is unbounded over the domain.

        Notes
        -----
        .. math:: R_T(u) = \sum_t f_t(x_t) - f_t(u) \le \sum_t \langle g_t, x_t - u \rangle

        for convex losses (Zinkevich 2003, section 2; Hazan 2016, section 3.1). In a box the worst
        comparator has a closed form, with z the sum of the gradients: ``lo`` where z > 0, ``hi``
        where z < 0.
        """
        sums = self._played()
        if u is None and self.domain is None:
            return math.inf if sums.gradient_sum.any() else sums.linear
        if u is None:
            return sums.worst_regret(Domain(*self._bounds))
        return sums.linearised_regret(self._read_point(u).reshape(-1))

    def regret(self, comparator_loss: float | None = None) -> float:
        r"""Return the regret against a comparator, from its total loss.

        Parameters
        ----------
        comparator_loss : float, optional
            The sum of ``f_t(u)``. By default the sum of the ``comparator`` losses of all rounds.

        Notes
        -----
        .. math:: R_T(u) = \sum_t f_t(x_t) - \sum_t f_t(u)

        (Hazan 2016, chapter 1). It may be negative if the comparator is not the best one.
        """
        if comparator_loss is None:
            return self.dynamic_regret
        return self.cumulative_loss - read_number("comparator_loss", comparator_loss)

    @property
    def dynamic_regret(self) -> float:
        """The sum of ``f_t(x_t) - f_t(u_t)`` over the comparators given in every round.

        Against a comparator that moves, linear growth may be unavoidable: the bound contains the
        length of the comparator's path (Zinkevich 2003, theorem 2). If the comparator is the same
        in all rounds, this is the regret.
        """
        if self._compared < self.rounds:
            raise ValueError(
                f"comparator was given in {self._compared} of {self.rounds} rounds, expected in "
                "all of them: play(x, f, g, comparator=...)"
            )
        return self.cumulative_loss - self._comparator

    def windowed_regret(self, w: int | None = None) -> float:
        """Return the regret of the last ``w`` rounds against their comparators.

        Parameters
        ----------
        w : int, optional
            At least 1 and at most ``window``, its default. If fewer rounds have been played, the
            result is their regret.
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
        self,
        fun: UserFunction | None = None,
        x0: ArrayLike | None = None,
        bounds: object = None,
    ) -> tuple[np.ndarray, float]:
        """Find the best fixed point in hindsight, by SciPy's L-BFGS-B to high precision.

        Parameters
        ----------
        fun : callable, optional
            ``fun(u) -> (mean loss over the rounds, gradient)``, smooth and convex, such as one of
            ``adaptopt.problems`` over the stream's rows. By default the mean loss of the batches
            that `minimize_finite_sum` has played.
        x0 : array_like, optional
            Starting point; by default `average`, or the first point played if that is unknown.
        bounds : Bounds or sequence of pairs, optional
            Bounds as SciPy takes them. By default the domain.

        Returns
        -------
        u : ndarray
            The best point found, of the shape of ``x0``.
        value : float
            The mean loss at ``u``.
        """
        from scipy.optimize import Bounds, minimize

        fun = self._mean_of_runs() if fun is None else fun
        start = self._center() if x0 is None else read_finite("x0", x0)
        if bounds is None and self.domain is not None:
            bounds = Bounds(*self._read_bounds(start.shape))

        def flat(u: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = fun(u.reshape(start.shape))
            return float(value), np.asarray(gradient, np.float64).reshape(-1)

        found = minimize(
            flat, start.reshape(-1), jac=True, method="L-BFGS-B", bounds=bounds, options=PRECISELY
        )
        return found.x.reshape(start.shape), float(found.fun)

    def regret_of(self, fun: UserFunction | None = None, u: ArrayLike | None = None) -> float:
        """Return the regret against a fixed point, given the mean loss as a function of the point.

        Parameters
        ----------
        fun : callable, optional
            The mean loss of the rounds as a function of the point: ``fun(u) -> mean loss`` or
            ``fun(u) -> (mean loss, gradient)``. By default as for `best_fixed`.
        u : array_like, optional
            The comparator. By default the result of `best_fixed`, which needs the gradient.

        Notes
        -----
        The result is ``cumulative_loss - rounds * fun(u)``.
        """
        if u is None:
            _, value = self.best_fixed(fun)
        else:
            fun = self._mean_of_runs() if fun is None else fun
            found = fun(self._read_point(u))
            value = read_number("fun(u)", found[0] if isinstance(found, tuple) else found)
        return self.cumulative_loss - self.rounds * value

    def _mean_of_runs(self) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Return the mean loss of all rounds, if all were played by runs over rows of data."""
        known = sum(run.rounds for run in self._runs)
        if not self.rounds == known > 0:
            raise ValueError(
                f"fun is None, and {known} of {self.rounds} rounds were played by "
                "minimize_finite_sum, expected all, or fun(u) -> (mean loss, gradient)"
            )

        def mean(u: np.ndarray) -> tuple[float, np.ndarray]:
            values, gradients = zip(*(run.losses(u) for run in self._runs), strict=True)
            return math.fsum(values) / known, sum(gradients[1:], gradients[0]) / known

        return mean

    def _center(self) -> np.ndarray:
        """Return the mean of the points played, or the first one."""
        sums = self._played()
        return self.average if sums.has_points else sums.origin.reshape(self._shape)

    # -- bounds ------------------------------------------------------------------------------------

    def adagrad_bound(
        self, lr: float | None = None, diameters: ArrayLike | None = None, *, eps: float = 0.0
    ) -> float:
        r"""Return AdaGrad's bound on the regret.

        Parameters
        ----------
        lr : float, optional
            AdaGrad's learning rate; by default the tracker's. If neither is given, the one that is
            best for the largest diameter, ``max(D) / sqrt(2)``.
        diameters : array_like, optional
            D, the largest distance of the points from the comparator: one number, or one for each
            coordinate. By default the widths of the domain.
        eps : float, default 0.0
            AdaGrad's ``eps``.

        Returns
        -------
        float
            A bound on `linearised_regret`, and so on the regret, for every comparator within
            ``diameters``.

        Notes
        -----
        .. math::

            R_T \le \sum_i \frac{D_i^2}{2 \eta} \left(\sqrt{G_i} + \epsilon\right) + \eta \sqrt{G_i}
            \qquad
            \eta = D / \sqrt{2}: \quad R_T \le \sqrt{2} D \sum_i \sqrt{G_i}

        Duchi, Hazan & Singer (2011), theorem 5 and corollary 6, applied to each coordinate. The
        bound needs only the last accumulator. The term with eps is not in the paper: it follows
        because a step divided by ``sqrt(G) + eps`` is a step in that metric.
        """
        G = self._played().squared_gradients
        D = self._widths() if diameters is None else self._spread("diameters", diameters)
        if not np.isfinite(D).all():
            raise ValueError("the domain is not bounded on all sides, expected diameters")
        lr = self.lr if lr is None else read_positive("lr", lr)
        if lr is None:
            largest = float(D.max(initial=0.0))
            if largest == 0:
                return 0.0
            lr = largest / math.sqrt(2.0)
        root = np.sqrt(G)
        return adagrad_bound(root, root + eps, D, lr)

    def certificate(self, *, l1: float = 0.0, l2: float = 0.0) -> float:
        r"""Return a bound on how far the objective at the average is above its minimum.

        Parameters
        ----------
        l1, l2 : float, default 0.0
            Weights, at least 0, of the penalty ``phi(x) = l1 |x| + l2 x^2 / 2``. It is a part of
            each round's objective, and its gradient is not included in ``g``.

        Returns
        -------
        float
            Infinite if neither the domain nor the penalty gives a bound.

        Notes
        -----
        .. math::

            F(\bar x_T) - F^* \le \frac{1}{T} \Big[ \sum_t \langle g_t, x_t \rangle
            + \sum_t \phi(x_t) - \min_{u} \big( \langle z, u \rangle + T \phi(u) \big) \Big]

        Here ``F = f + phi``, and the loss is the same convex f in all rounds. The bound follows
        from Jensen's inequality and `linearised_regret` (Hazan 2016, chapter 9). Without penalty it
        is ``linearised_regret() / T``. It holds for every method, and also for the best point
        played, which is at least as good as the mean. The inner minimum is that of a convex,
        piecewise quadratic function of each coordinate. It lies at the soft threshold of ``-z`` at
        ``T l1``, divided by ``T l2`` and clipped to the domain.

        If the losses differ, the result bounds the mean regret. It then bounds the objective of the
        average only in expectation over independent draws.
        """
        sums = self._played()
        for name, value in (("l1", l1), ("l2", l2)):
            if read_number(name, value) < 0:
                raise ValueError(f"{name} is {value!r}, expected a number >= 0")
        if l1 or l2:
            self._with_points("a certificate with a penalty")
        return sums.worst_regret(Domain(*self._bounds, l1, l2)) / sums.rounds

    # -- growth ------------------------------------------------------------------------------------

    def course(self) -> dict[str, np.ndarray]:
        """Return the regret over time, at four rounds per doubling and at the last round.

        Returns
        -------
        dict of str to ndarray
            The rounds ``t``; ``regret`` against the comparators up to then, or NaN if one was
            missing; and ``linearised``, the largest linearised regret.
        """
        self._played()
        now = self._now()
        rows = self._course if self._course[-1][0] == now[0] else [*self._course, now]
        t, regret, linearised = zip(*rows, strict=True)
        return {"t": np.array(t), "regret": np.array(regret), "linearised": np.array(linearised)}

    def growth(self, of: str | None = None, *, since: int | None = None) -> float:
        """Return the exponent a of the regret's growth, which is like ``T**a``.

        Parameters
        ----------
        of : {None, "regret", "linearised"}
            Column of `course`; by default "regret" if every round had a comparator, else
            "linearised".
        since : int, optional
            Fit from this round on; by default from a hundredth of the rounds on.

        Returns
        -------
        float
            The slope of the least-squares line through the logarithms of the recorded values that
            are positive and finite, or NaN if there are fewer than three. AdaGrad's bound has 0.5,
            the best possible exponent for convex losses (Hazan 2016, theorem 3.2). A player that
            does not learn has 1.
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

    def _widths(self) -> np.ndarray:
        widths: np.ndarray = self._bounds[1] - self._bounds[0]
        return widths

    def _spread(self, name: str, value: ArrayLike) -> np.ndarray:
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
