"""The base class of all optimizers: checked hyperparameters, and names of scalar functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import UserFunction
from ..scalar import ScalarFunction
from . import decay, hyperparameters
from .hyperparameters import SignatureOfInit, as_float, read_hyperparameter, without_defaults

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


# Properties of the rates, which depend on rule and coefficients; and properties of the rule.
_OF_RATES = ("rates_only_fall", "regret_bound")
_OF_RULE = (
    *("rate", "idle", "rests", "idle_moves_x", "idle_needs_constant_lr", "rate_is_linear"),
    *("additive", *_OF_RATES),
)


@cache
def _keep(count: int) -> ScalarFunction:
    """Return a ``carry`` that returns the last ``count`` of its arguments unchanged."""
    if not count:
        return _keep_none
    first = -count  # compiled code accepts a number here, but no expression

    def keep(t, *values):  # type: ignore[no-untyped-def]
        return values[first:]

    return keep


def _keep_none(t, *values):  # type: ignore[no-untyped-def]
    return ()


@dataclass(frozen=True)
class Method:
    """The base class of all optimizers. Subclass it as a frozen dataclass to add your own.

    A subclass declares its hyperparameters as fields, and names its scalar functions. These are
    plain Python functions that use only the module ``math``:

    ``rule(x, g, *slots, *coefficients) -> (x, rate, slots)``
        One step of one coordinate. A class with its own rule does not inherit ``rate``, ``idle``,
        ``rests`` and ``additive``, which belong to the rule of its parent.
    ``slots``
        Names of the numbers kept for each coordinate. They start at ``initial_state()``, by
        default 0.
    ``coefficients(t, *hyperparameters) -> tuple``
        The numbers that all coordinates share in step ``t`` (counted from 1), computed in float64.
        The arguments are the fields of the subclass in their order, with ``lr`` evaluated at ``t``.
        By default these are the coefficients.
    ``rate(*slots, *coefficients) -> rate``
        The effective learning rate as a function of the new slots. Without it, each step writes
        the rates to an array, which means more memory traffic.
    ``scalars`` and ``carry(t, *hyperparameters, *scalars) -> scalars``
        Numbers that the run carries along, each for all coordinates, in float64. ``scalars`` maps
        their names to their values before the first step. ``carry`` computes their values for step
        ``t``, at its start, and ``coefficients`` gets them after the hyperparameters. By default
        there are no scalars, and ``carry`` leaves them unchanged.
    ``measures``
        Further arguments of ``carry``, after the scalars. The only one so far is "squared_norm",
        the sum of the squared gradients of all parameters of the group. By default none.
    ``idle(k, x, *slots, *coefficients) -> (x, slots)``
        The exact effect of ``k`` steps without a gradient, if there is a closed form. The
        coefficients are those of the last of these steps. ``rests`` says that neither ``x`` nor the
        rate changes, ``idle_moves_x`` whether ``x`` moves (by default unless ``rests``), and
        ``idle_needs_constant_lr`` whether the form needs a constant ``lr`` (by default if ``x``
        moves). With these, the cost of steps on sparse rows depends only on the rows used.
        ``rate_is_linear`` says that the rate is ``lr`` times what does not depend on it.
    ``rowwise``
        Whether each slot has one number per row of a table. The rule is then evaluated once per
        row, with the root mean square of the row's gradient, and gives the rate of the whole row.
        By default False.
    ``additive``
        Whether each slot is a sum over the steps, and ``x`` is such a sum too or follows from the
        slots by ``idle``. Steps of several threads then add up. By default False.
    ``state_name``
        The name of states in checkpoints. States with another name are not loaded. Include in it
        each option that decides what the slots hold. By default the name of the class.
    ``from_sums``
        Whether each step computes ``x`` from sums of gradients, as dual averaging does. The step
        then discards the effect of an earlier proximal map. Maps that only restrict the point to a
        set are allowed, and penalties are not. By default False.
    ``second_moments``
        Names of the slots that hold averages, sums or maxima of squares or magnitudes, which are
        never negative. By default none.

    Parameters
    ----------
    weight_decay : float, default 0.0
        At least 0. Add ``weight_decay * x`` to the gradient (coupled decay; L2 regularisation). The
        objective then has the penalty ``weight_decay / 2 * sum(x**2)``.
    decoupled : bool, default False
        Apply ``x *= 1 - lr * weight_decay`` before the step instead. This is the gradient of no
        function, so it is not a part of the objective.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of its range or has the wrong type.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np, adaptopt as ao
    >>> def sign_descent(x, g, lr):
    ...     return x - (lr if g > 0 else -lr), lr, ()
    >>> @dataclass(frozen=True)
    ... class SignDescent(ao.Method):
    ...     lr: float = 1e-2
    ...     rule = staticmethod(sign_descent)
    >>> x = np.array([1.0, -2.0])
    >>> ao.Optimizer(x, SignDescent(lr=0.5)).step(x)
    >>> x
    array([ 0.5, -1.5])
    """

    __signature__ = SignatureOfInit()
    _: KW_ONLY
    weight_decay: float = 0.0
    decoupled: bool = False

    rate: ClassVar[ScalarFunction | None] = None
    rests: ClassVar[bool] = False
    rate_is_linear: ClassVar[bool] = False
    rowwise: ClassVar[bool] = False
    scalars: ClassVar[Mapping[str, float]] = {}
    measures: ClassVar[tuple[str, ...]] = ()
    additive: ClassVar[bool] = False
    from_sums: ClassVar[bool] = False
    # Whether an effective rate can only fall, for any gradients.
    rates_only_fall: ClassVar[bool] = False
    # Whether lr="auto" leaves eps as it is: others need no bound on a rate that is searched for.
    search_keeps_eps: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the numbers kept for each coordinate."""
        return ()

    @property
    def second_moments(self) -> tuple[str, ...]:
        """Names of the slots that are never negative: averages or sums of squares."""
        return ()

    @property
    def state_name(self) -> str:
        """The name of states. A method can load the states of methods with the same name.

        It is the name of the class, with the options that decide what the slots hold.
        """
        return type(self).__name__

    @property
    def rule(self) -> ScalarFunction:
        """The scalar function of one step."""
        raise NotImplementedError(f"{type(self).__name__} names no rule")

    @staticmethod
    def coefficients(t: int, *hyperparameters: Any) -> tuple[float, ...]:
        """Return the arguments of the rule after the slots, in step ``t``."""
        return hyperparameters

    @property
    def idle(self) -> ScalarFunction | None:
        """The scalar function of steps without a gradient, or None."""
        return None

    @property
    def idle_moves_x(self) -> bool:
        """Whether ``x`` moves in steps without a gradient."""
        return not self.rests

    @property
    def idle_needs_constant_lr(self) -> bool:
        """Whether ``idle`` is exact only for a constant learning rate."""
        return self.idle_moves_x

    @property
    def takes_tied_maps(self) -> bool:
        """Whether proximal maps that tie coordinates together may follow the steps.

        They may not if a step from sums includes ``l1`` or ``l2``, because its rates are then not
        the metric.
        """
        own = [getattr(self, name, None) for name in ("l1", "l2")]
        return not (self.from_sums and any(own))

    @property
    def carry(self) -> ScalarFunction:
        """The scalar function that computes the scalars of the next step."""
        return _keep(len(self.scalars))

    def initial_state(self) -> dict[str, float]:
        """Return the values of slots before the first step, except those that are 0."""
        return {}

    def initial_scalars(self) -> tuple[float, ...]:
        """Return the values of the scalars before the first step."""
        return tuple(float(value) for value in self.scalars.values())

    @property
    def decay(self) -> ScalarFunction:
        """The scalar function that applies weight decay before the rule."""
        if not self.weight_decay:
            return decay.no_decay
        return decay.decoupled_decay if self.decoupled else decay.coupled_decay

    @property
    def decay_coefficients(self) -> ScalarFunction:
        """The scalar function that computes the decay's coefficients from ``lr`` and its weight."""
        if not self.weight_decay:
            return decay.no_decay_coefficients
        if self.decoupled:
            return decay.decoupled_decay_coefficients
        return decay.coupled_decay_coefficients

    @property
    def penalty(self) -> tuple[float, float]:
        """``l1, l2`` of the method's own penalty, ``l1 * abs(x) + l2 / 2 * x**2``.

        It is a part of the objective. Coupled weight decay is ``l2``.
        """
        return 0.0, 0.0 if self.decoupled else self.weight_decay

    @property
    def has_objective(self) -> bool:
        """Whether the steps minimise a function: decoupled decay is the gradient of none."""
        return not (self.decoupled and self.weight_decay)

    def penalty_at(self, x: np.ndarray) -> float:
        """Return the method's own penalty at a point on the host."""
        l1, l2 = self.penalty
        if not (l1 or l2):
            return 0.0
        wide = x.reshape(-1).astype("float64")
        return float(l1 * abs(wide).sum() + 0.5 * l2 * (wide * wide).sum())

    def carried(
        self, t: int, scalars: tuple[float, ...], measured: tuple[float, ...] = ()
    ) -> tuple[float, ...]:
        """Return the scalars of step ``t``, from those of the previous step and the measures."""
        if not self.scalars:
            return ()
        new = self.carry(t, *self._hyperparameters_at(t), *scalars, *measured)
        if not (isinstance(new, tuple) and len(new) == len(self.scalars)):
            raise ValueError(
                f"{type(self).__name__}.carry returned {new!r}, expected a tuple of "
                f"{len(self.scalars)} like scalars {tuple(self.scalars)}"
            )
        return new

    def coefficients_at(
        self, t: int, scalars: tuple[float, ...] = ()
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the coefficients of the decay and of the rule for step ``t``, in float64.

        ``scalars`` are those of step ``t``, as `carried` returns them; step 1 needs none.
        """
        if len(scalars) != len(self.scalars):
            if scalars or t != 1:
                raise ValueError(
                    f"scalars are {scalars}, expected {tuple(self.scalars)} as "
                    f"{type(self).__name__}.carried returns them for step {t}"
                )
            scalars = self.carried(1, self.initial_scalars(), (0.0,) * len(self.measures))
        coefs = self.coefficients(t, *self._hyperparameters_at(t), *scalars)
        if not self.weight_decay:
            return (), coefs
        lr = self.lr_at(t) if self.decoupled else math.nan
        return self.decay_coefficients(lr, self.weight_decay), coefs

    def _hyperparameters_at(self, t: int) -> tuple[Any, ...]:
        """Return the hyperparameters from which the coefficients of step ``t`` are computed."""
        values, schedule = self._hyperparameters
        if schedule is None:
            return values
        return (*values[:schedule], self.lr_at(t), *values[schedule + 1 :])

    @cached_property
    def _hyperparameters(self) -> tuple[tuple[Any, ...], int | None]:
        """The values of the subclass's fields, and the index of ``lr`` if it is a schedule."""
        names = self.own_fields()
        scheduled = "lr" in names and (self.searches or callable(self.lr))  # type: ignore[attr-defined]
        values = tuple(getattr(self, name) for name in names)
        return values, names.index("lr") if scheduled else None

    def own_fields(self) -> list[str]:
        """Return the names of the subclass's fields, in their order."""
        return [*hyperparameters.fields_beyond(type(self), Method)]  # type: ignore[arg-type]

    @property
    def numbers_after_lr(self) -> tuple[bool | float, ...] | None:
        """The hyperparameters after ``lr``, if ``lr`` comes first and they are numbers and flags.

        Otherwise None: kernels that compute the coefficients themselves take no other ones.
        """
        if self.own_fields()[:1] != ["lr"]:
            return None
        others = self._hyperparameters[0][1:]
        return others if all(isinstance(value, bool | float) for value in others) else None

    @property
    def searches(self) -> bool:
        """Whether the learning rate is searched for, by values of the objective."""
        return bool(getattr(self, "lr", None) == "auto")

    @property
    def range_decay(self) -> float | None:
        """How ``lr="auto"`` averages squared steps; their root gives a coordinate back its unit."""
        return 0.99 if self.second_moments else None

    def __getstate__(self) -> dict[str, object]:
        """Return the fields for a copy, without values derived from them."""
        return {k: v for k, v in vars(self).items() if k != "_hyperparameters"}

    def lr_at(self, t: int) -> float:
        """Return the learning rate of step ``t``."""
        lr = self.lr  # type: ignore[attr-defined]
        if not callable(lr):
            if lr == "auto":
                raise ValueError("lr is 'auto', expected a number: only minimisers find a rate")
            return lr  # type: ignore[no-any-return]
        value = as_float(given := lr(t))
        if value is None:
            raise TypeError(f"lr({t}) is {given!r:.60}, expected a number")
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"lr({t}) is {value}, expected a finite number >= 0")
        return value

    def regret_bound(self, squared_gradients: np.ndarray, diameters: np.ndarray) -> float | None:
        """Return the theoretical bound on the regret of a run in a box, or None if none is known.

        Parameters
        ----------
        squared_gradients : ndarray
            The sum over the run of the squared gradient of each coordinate.
        diameters : ndarray
            The widths of the box.
        """
        return None

    def __new__(cls, *values: object, **fields: object) -> Any:
        """Explain the error of ``scipy.optimize.minimize(..., method=AdaGrad)``."""
        if "hessp" in fields:
            raise TypeError(f"method is the class {cls.__name__}, expected {cls.__name__}(...)")
        return super().__new__(cls)

    def __init_subclass__(cls, **options: object) -> None:
        """Keep a class with its own rule from inheriting the properties of its parent's rule."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if "__repr__" not in own:
            cls.__repr__ = without_defaults  # type: ignore[method-assign]  # dataclass keeps it
        known = _OF_RULE if "rule" in own else _OF_RATES if "coefficients" in own else ()
        for name in known:
            if name not in own and getattr(cls, name) is not getattr(Method, name):
                setattr(cls, name, vars(Method)[name])

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(
                self, field.name, read_hyperparameter(name, field.name, value, field.default)
            )
        if self.decoupled and self.weight_decay and not hasattr(self, "lr"):
            raise ValueError(
                f"{name}.decoupled is True, expected False: it has no lr to multiply the decay by"
            )
        slots = self.slots
        if len(set(slots)) < len(slots):
            raise ValueError(f"{name}.slots is {slots}, expected each name once")
        starts, squares = self.initial_state(), self.second_moments
        for what, given in (("initial_state()", starts), ("second_moments", squares)):
            if not set(given) <= set(slots):
                raise ValueError(f"{name}.{what} is {given}, expected names of slots {slots}")
        for function in (self.rule, self.rate, self.coefficients, self.carry, self.idle):
            if function is not None and not isinstance(function, FunctionType):
                raise TypeError(
                    f"{type(self).__name__}.{getattr(function, '__name__', 'rule')} is "
                    f"{function!r}, expected a plain function wrapped in staticmethod"
                )

    def _demand_positive(self, *names: str) -> None:
        """Raise an error if all terms that keep a denominator above zero are zero."""
        if any(getattr(self, name) for name in names):
            return
        others = "".join(f" with {name} 0.0" for name in names[1:])
        expected = f"expected {'one of them' if others else names[0]} > 0"
        raise ValueError(
            f"{type(self).__name__}.{names[0]} is 0.0{others}, {expected}: "
            "a zero gradient would divide by zero"
        )

    def __call__(
        self,
        fun: UserFunction,
        x0: ArrayLike,
        args: tuple[object, ...] = (),
        jac: object = None,
        hess: object = None,
        hessp: object = None,
        bounds: object = None,
        constraints: object = (),
        callback: Callable[..., object] | None = None,
        **options: object,
    ) -> OptimizeResult:
        """Minimise ``fun`` as a custom method of `scipy.optimize.minimize`.

        SciPy passes ``jac="3-point"`` and ``"cs"`` as None. Choose finite differences by
        ``options={"fd_method": "3-point"}`` instead.

        The arguments are those that SciPy passes, and the options those of `adaptopt.minimize`.
        Each call starts a new run.
        """
        assert _minimiser is not None, "adaptopt puts it here at import"
        return _minimiser(
            *(self, fun, x0, args, jac, hess, hessp, bounds, constraints, callback, options),
            by_scipy=True,
        )


_Minimiser = TypeVar("_Minimiser", bound=Callable[..., object])
_minimiser: Callable[..., OptimizeResult] | None = None


def minimise_by(minimiser: _Minimiser) -> _Minimiser:
    """Have methods that are called minimise by this function, which lies above them."""
    global _minimiser
    _minimiser = minimiser
    return minimiser
