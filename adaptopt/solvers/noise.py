"""What follows the search for a learning rate if values are noisy: steps at a rate from distances.

With noise a search comes to a point where no step lowers the objective. The distance that it has
travelled tells the rate for the rest of the run, as it does in `minimize_finite_sum`. The answer is
an average of the iterates: the best value seen would be the luckiest.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..methods.base import Method
from ..methods.in_units import in_units
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .descent import DescentRun, Evaluated
from .distance import LEAST, DistanceRate, Segment, least_distance, rates_at_one
from .noise_state import NoiseState
from .rise import falls_nearby, follows_gradient, rises_around
from .search import SearchRun
from .searchable import with_rate
from .state import DescentState
from .stopping import CONVERGED, LINE_SEARCH, ROUNDING, SUCCESS, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

PATH = "Python loop: values are noisy"
MUCH = 3.0  # times the difference of two values at one point: more is no noise


def why_no_rate(method: Method, objective: Objective) -> str | None:
    """Say with what no rate follows from a distance; None if one does."""
    if method.search_keeps_eps:
        return f"{type(method).__name__}, which finds the unit of its steps itself"
    if objective.cost > 1:
        return "finite differences of noisy values, which are no gradients: give jac"
    return None


def why_not_converged(run: SearchRun, stop: Stop) -> str | None:
    """Say why a search is not believed that says that it has converged; None if it is.

    A test that the user has asked for is met, whatever the objective does nearby.
    """
    gradient = f"whose largest entry is {np.abs(run.monitor.best_jac).max(initial=0.0):.2g}"
    if stop.here and run.norm > 0.0:
        return None
    if not (stop.here or follows_gradient(run)):
        return (
            "Stalled: steps lower f no further, but around x it does not change as its gradient "
            f"says, {gradient}. The gradient jumps, is noisy, or is not that of fun."
        )
    if falls_nearby(run):
        return (
            f"Stalled: steps lower f no further, but it falls near x. The gradient, {gradient}, is "
            "not that of fun, or x is a saddle."
        )
    return None


def after_search(
    run: SearchRun, stop: Stop, method: Method, prox: Proximal, average: str | None
) -> tuple[DescentRun, Stop | None]:
    """See why no step lowers the objective: because of noise, or because it is least there.

    Return the run that goes on if values are noisy, else the same run and why it has ended. A
    search that says that it has converged is believed if its last gradient is that of the
    objective.
    """
    failed = stop.status == LINE_SEARCH
    if not failed:
        wrong = why_not_converged(run, stop)
        if wrong is None:
            return run, stop
        stop = Stop(LINE_SEARCH, wrong)
    left = run.monitor.evaluations_left(run.objective.nfev)
    if left is None or left > 0:
        first, g = run.f, run.g
        again, g_again = run.again()
        if is_noisy((first, g), (again, g_again)):
            why = why_no_rate(method, run.objective)
            if why is None:
                noise = NoiseState(run._flat.copy(), g_again.copy(), first, again, run.t)
                path = f"{run.path}, then {PATH}"
                other = DistanceRun(
                    method, prox, run.objective, run.monitor, average, noise, run.start, path
                )
                other.begin(run.nit)
                return other, None
            stop = stop._replace(
                message=f"{stop.message} They are noisy: evaluated twice at one point, "
                f"{_both(first, again)}. No rate follows from distances with {why}."
            )
        elif failed and rises_around(run) and not falls_nearby(run):
            stop = Stop(
                CONVERGED,
                "Converged to rounding: no step lowers f, and it rises on both sides of x as at "
                f"a smooth minimum; the gradient norm is {run.norm:.2g}.",
            )
    run.failed = None
    return run, stop


def is_noisy(first: tuple[float, np.ndarray], again: tuple[float, np.ndarray]) -> bool:
    """Tell whether two evaluations at one point differ by more than rounding."""
    (f, g), (other_f, other_g) = first, again
    most = ROUNDING * float(np.finfo(g.dtype).eps)
    near = abs(other_f - f) <= most * abs(f)
    return not (near and bool((np.abs(other_g - g) <= most * np.abs(g).max(initial=0.0)).all()))


def _both(first: float, again: float) -> str:
    """Say how two evaluations at one point differ."""
    if first == again:
        return f"f was {first:.6g}, and its gradient two different ones"
    return f"f was {first:.6g} and {again:.6g}"


class DistanceRun(DescentRun):
    """A run that goes on after a search, at rates that follow from the distance travelled.

    Parameters
    ----------
    method : Method
        The method of the search.
    prox : Proximal
        The map of the run.
    objective, monitor
        Those of the search.
    average : str or None
        The kind of the average; None is the polynomial one.
    noise : NoiseState
        Where the search ended.
    start : ndarray
        The start of the run, flat.
    path : str
        What the result says of the loop.
    """

    def __init__(
        self,
        method: Method,
        prox: Proximal,
        objective: Objective,
        monitor: Monitor,
        average: str | None,
        noise: NoiseState,
        start: np.ndarray,
        path: str = PATH,
    ) -> None:
        at_one = with_rate(method, 1.0)
        self._noise, self._rate = noise, DistanceRate(method, follows_way=True)
        self._rate.distance = noise.distance
        self._has_units = method.range_decay is not None
        if self._has_units:
            at_one = in_units(at_one)
        # Sums of squares begin with the gradient at the start of the run: from empty ones, the
        # first step would be as long as all that has been travelled.
        self._opens = method.rates_only_fall
        exchange = objective.exchange
        optimizer = Optimizer._of_run(exchange.x, at_one, prox, exchange.backend)
        super().__init__(
            optimizer, objective, monitor, None, average=average or "polynomial", path=path
        )
        self.start = start
        self._given = 1.0
        self._opening: np.ndarray | None = None
        self._averaged = False

    @classmethod
    def before(
        cls,
        method: Method,
        prox: Proximal,
        objective: Objective,
        monitor: Monitor,
        average: str | None,
        state: DescentState,
    ) -> DistanceRun:
        """Return a run that is to go on from a state."""
        noise, start = state.noise, state.start
        assert noise is not None
        if start is None:
            raise ValueError("state.start is None with noise, expected the start of the run")
        noise = replace(noise, end=noise.end.copy(), end_jac=noise.end_jac.copy())
        return cls(method, prox, objective, monitor, average, noise, start.copy())

    @property
    def t(self) -> int:
        """Steps, with those of the search."""
        return self._noise.steps + max(self.optimizer.t - self._opens, 0)

    def begin(self, nit: int) -> None:
        """Stand where the search ended, after so many steps of this call."""
        noise, m = self._noise, self.monitor
        self.nit, self._averaged_t = nit, self.t
        np.copyto(self._flat, noise.end)
        self.at = Evaluated(self.t, noise.again, noise.end_jac)
        m.best_x, m.best_jac = noise.end.copy(), noise.end_jac.copy()
        m.best_fun, m.best_t, m.previous_fun = math.inf, self.t, math.nan

    def evaluate(self) -> Stop | None:
        """Evaluate the objective if that is still to do, and check the iterate."""
        if math.isnan(self._noise.distance):
            if stop := self.limit():
                return stop
            self._opening = self.objective(self.start)[1].copy()
            self._settle()
        return super().evaluate()

    def limit(self) -> Stop | None:
        """Say whether the budget forbids one more step, and the evaluation of the average."""
        return self.monitor.limit(self.nit, self.objective.nfev + 1, self.objective.cost)

    # -- the rate ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        if self._opening is not None:
            self._open(self._opening)
            self._opening = None
        super()._settle()

    def _open(self, g: np.ndarray) -> None:
        """Begin with units, a distance and an empty state; this may be repeated."""
        noise, rate, optimizer = self._noise, self._rate, self.optimizer
        scale, size = 1.0, np.abs(g, dtype=np.float64)
        size[~np.isfinite(size)] = 0.0
        optimizer.reset()
        if self._has_units:
            units = self._units(size)
            largest = float((units * size).max(initial=0.0))
            scale = 1.0 / largest if largest > 0.0 else 1.0
            self._plan.slots[0][:] = units * scale
            distance = 1.0
        else:
            distance = rate.between(noise.end, self.start, np.ones(size.size))
            if not distance > 0.0:
                distance = least_distance(self.start)
        if self._opens:
            np.copyto(self._flat, self.start)
            optimizer.step(self.objective.exchange.shaped(np.where(np.isfinite(g), g, 0.0)))
        np.copyto(self._flat, noise.end)
        squares = float((size * size).sum())
        self._noise = replace(noise, distance=distance, scale=scale, squares=squares)
        rate.distance = distance

    def _units(self, size: np.ndarray) -> np.ndarray:
        """Return how far each coordinate has come; of one that has not moved, what it may mean.

        A coordinate that has not moved gets a thousandth of what would change the objective by as
        much as the others, by the sizes of the gradient at the start.
        """
        units = np.abs(np.subtract(self._noise.end, self.start, dtype=np.float64))
        moved = units > 0.0
        others = np.full(units.size, least_distance(self.start))
        if moved.any():
            usual = LEAST * float((units * size)[moved].mean())
            with np.errstate(all="ignore"):
                found = usual / size
            others = np.where(np.isfinite(found) & (found > 0.0), found, others)
        return np.where(moved, units, others)

    def _step(self, checked: bool = True) -> None:
        self._choose_rate()
        super()._step(checked)

    def _choose_rate(self) -> None:
        """Give the method the rate of its next step."""
        noise, rate, t = self._noise, self._rate, self.optimizer.t
        segment = Segment.without_epochs(t)
        if segment.first == t:
            self._measure_way()
            noise = self._noise
        if rate.is_proportional:
            if noise.squares_t < t and math.isfinite(self.norm):
                g = self.g.astype(np.float64, copy=False)
                squares = noise.squares + float(np.dot(g, g))
                self._noise = noise = replace(noise, squares=squares, squares_t=t)
            lr = rate.over_squares(noise.squares)
        else:
            lr = rate.of(segment)
        lr /= self._noise.scale
        if lr != self._given:
            self.optimizer.set(lr=lr)
            self._given = lr

    def _measure_way(self) -> None:
        units = None
        if self._has_units:
            units = self._plan.slots[0].astype(np.float64) / self._noise.scale
            units[units == 0.0] = 1.0  # too small for its dtype: that coordinate stays
        self._rate.measure(self._flat, self.start, rates_at_one(self.optimizer), units)
        self._noise = replace(self._noise, distance=self._rate.distance)

    # -- state and result --------------------------------------------------------------------------

    def state(self) -> DescentState:
        """Return the state of the run."""
        state = super().state()
        state.start = self.start.copy()
        state.noise = replace(
            self._noise, end=self._noise.end.copy(), end_jac=self._noise.end_jac.copy()
        )
        return state

    def restore(self, state: Any) -> None:
        """Go on from a state, or say why it does not fit; then nothing has been modified."""
        assert state.noise is not None
        super().restore(state)
        self.start, self._given = state.start.copy(), math.nan

    def _answer(self, stop: Stop) -> tuple[Array, float, Array]:
        """Return the average, unless it is above where the search ended by more than noise."""
        if stop.status in SUCCESS:
            return super()._answer(stop)
        noise, average = self._noise, self._average
        assert average is not None
        if average.count and np.isfinite(average.mean).all():
            x, f, g = super()._answer(stop)
            if f <= noise.again + MUCH * abs(noise.again - noise.first):
                self._averaged = True
                return x, f, g
        return noise.end, noise.again, noise.end_jac

    def result(self, stop: Stop) -> OptimizeResult:
        """Return the result of a run that has ended."""
        found, noise = super().result(stop), self._noise
        found.lr = self._rate.lr
        found.message = found.message.partition(" x is the best finite iterate")[0] + (
            f" Values are noisy: evaluated twice where the search ended, after {noise.steps} "
            f"steps, {_both(noise.first, noise.again)}. From then on the rate came from the "
            "distance travelled."
        )
        if not found.success:
            found.message += (
                " x is an average of the iterates since."
                if self._averaged
                else " x is where the search ended: the average of the iterates since is no better."
            )
        return found

    def _diagnosis(self) -> str:
        return ""
