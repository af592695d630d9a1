"""Optimizer: one step at a time, in place, for those who write their own loop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .arrays import aligned_with, flat_view
from .kernels import DenseStep, norm_kernel, rate_kernel
from .proximal import Proximal

__all__ = ["Optimizer"]

# Loading a kernel from the disk takes 10 ms; a program uses few kernels, many times.
_dense_step = lru_cache(maxsize=256)(DenseStep)
_rate_kernel = lru_cache(maxsize=256)(rate_kernel)
_norm_kernel = lru_cache(maxsize=256)(norm_kernel)


class Optimizer:
    """Updates an array in place, one gradient at a time.

    Parameters
    ----------
    params : ndarray
        C-contiguous, writable, of any shape, float32 or float64. Updated in place; the arithmetic
        is done in its dtype.
    method : Method
        Such as ``AdaGrad(lr=0.1)``.
    prox : Proximal, optional
        A proximal map, applied to each coordinate after its step, in the same pass.

    Attributes
    ----------
    params : ndarray
        The array given.
    method : Method
        The method given.
    state : dict of str to ndarray
        The method's slots, such as AdaGrad's ``"G"``, shaped like ``params``.
    scalars : dict of str to float
        The method's numbers for the whole array, such as Nadam's ``"mu_product"``.
    t : int
        Steps taken.

    Raises
    ------
    TypeError, ValueError
        Where ``params`` is not such an array, or a hyperparameter vanishes in its dtype.

    Notes
    -----
    A step computes each coordinate alone, with correctly rounded operations: the result is the
    same to the last bit whatever the number of threads and wherever the coordinate lies.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.ones(3, dtype=np.float32)
    >>> opt = ao.Optimizer(x, ao.AdaGrad(lr=0.5))
    >>> for _ in range(2):
    ...     opt.step(2 * x)
    >>> opt.t, x.round(3)
    (2, array([0.276, 0.276, 0.276], dtype=float32))
    >>> opt.state["G"]
    array([5., 5., 5.], dtype=float32)
    """

    def __init__(self, params: np.ndarray, method: Any, prox: Proximal | None = None) -> None:
        self._x = flat_view("params", params, writable=True)
        if isinstance(method, type) or not hasattr(method, "coefficients_at"):
            raise TypeError(f"method is {method!r}, expected a Method such as AdaGrad(lr=0.1)")
        prox = Proximal() if prox is None else prox
        if not isinstance(prox, Proximal):
            raise TypeError(f"prox is {prox!r}, expected a Proximal such as Box(0, 1)")
        dtype = params.dtype
        decay_coefs, coefs = method.coefficients_at(1)
        _check_rule(method, coefs)
        for name, value in vars(method).items():
            if isinstance(value, float) and value != 0 and dtype.type(value) == 0:
                raise ValueError(
                    f"{name} is {value}, which is 0 in {dtype}, expected at least "
                    f"{np.finfo(dtype).smallest_subnormal}"
                )
        self.params = params
        self.method = method
        self.t = 0
        self.scalars = dict(zip(method.scalars, method.initial_scalars(), strict=True))
        initial = method.initial_state()
        self._slots = tuple(aligned_with(self._x, initial.get(name, 0.0)) for name in method.slots)
        self.state = {
            name: slot.reshape(params.shape)
            for name, slot in zip(method.slots, self._slots, strict=True)
        }
        self._walls, self._prox_coefs = prox.parameters(params.shape, dtype)
        # A method without a formula for its rates has every step write them down.
        self._rates = () if method.rate else (aligned_with(self._x, np.nan),)
        self._coefs = coefs
        self._step = _dense_step(
            method.decay,
            method.rule,
            prox.prox,
            (len(self._slots), len(self._walls), len(self._rates)),
            (len(decay_coefs), len(coefs), len(self._prox_coefs)),
            dtype,
        )
        self._residual = prox.residual

    def step(self, grads: np.ndarray) -> None:
        """Take one step along a gradient; updates ``params``, ``state`` and ``t`` in place.

        Parameters
        ----------
        grads : ndarray
            The gradient at ``params``, C-contiguous, of the shape and dtype of ``params``.

        Raises
        ------
        TypeError, ValueError
            Where ``grads`` is not such an array. Nothing has been modified then.
        """
        g = flat_view("grads", grads, like=self.params)
        if np.may_share_memory(g, self._x) and g.ctypes.data != self._x.ctypes.data:
            raise ValueError(
                "grads overlaps params from another start, expected an array of its own: "
                "entries would be read after they were updated"
            )
        t = self.t + 1
        scalars = ()
        if self.scalars:
            scalars = self.method.carried(t, tuple(self.scalars.values()))
        decay_coefs, coefs = self.method.coefficients_at(t, scalars)
        self._step(
            self._x,
            g,
            self._slots,
            self._walls,
            self._rates,
            decay_coefs,
            coefs,
            self._prox_coefs,
        )
        self._coefs = coefs
        if scalars:
            self.scalars = dict(zip(self.scalars, scalars, strict=True))
        self.t = t

    def learning_rates(self) -> np.ndarray:
        """Return the effective learning rate of every coordinate in the last step.

        Returns
        -------
        ndarray
            A new array, shaped like ``params``; NaN before the first step.
        """
        out = np.full(self.params.shape, np.nan, self.params.dtype)
        if self._rates:
            out[...] = self._rates[0].reshape(out.shape)
        elif self.t:
            kernel = _rate_kernel(
                self.method.rate, len(self._slots), len(self._coefs), self.params.dtype
            )
            kernel(out.reshape(-1), self._slots, self._coefs)
        return out

    def gradient_norm(self, grads: np.ndarray) -> float:
        """Return how far ``params`` is from stationary along a gradient.

        Parameters
        ----------
        grads : ndarray
            The gradient at ``params``, like that of `step`.

        Returns
        -------
        float
            The largest absolute entry of the gradient, of the projected gradient under bounds;
            NaN where an entry of ``grads`` is not finite.
        """
        g = flat_view("grads", grads, like=self.params)
        kernel = _norm_kernel(
            self._residual, len(self._walls), len(self._prox_coefs), self.params.dtype
        )
        return kernel(self._x, g, self._walls, self._prox_coefs)

    def restore(
        self, state: Mapping[str, np.ndarray], t: int, scalars: Mapping[str, float] | None = None
    ) -> None:
        """Go on from the state of another optimizer of the same method after its step ``t``."""
        for name, slot in self.state.items():
            np.copyto(slot, state[name])
        self.scalars = {name: float((scalars or {})[name]) for name in self.scalars}
        self.t = t
        values = tuple(self.scalars.values()) if t else ()
        self._coefs = self.method.coefficients_at(max(t, 1), values)[1]


def _check_rule(method: Any, coefs: tuple[float, ...]) -> None:
    """Run a rule once as plain Python: what it returns must fit the slots."""
    try:
        returned = method.rule(0.0, 1.0, *[0.0] * len(method.slots), *coefs)
    except ArithmeticError:
        return
    name = type(method).__name__
    if not (isinstance(returned, tuple) and len(returned) == 3 and isinstance(returned[2], tuple)):
        raise TypeError(f"{name}.rule returned {returned!r}, expected (x, rate, new slots)")
    if len(returned[2]) != len(method.slots):
        raise ValueError(
            f"{name}.rule returned {len(returned[2])} new slots, expected {len(method.slots)} "
            f"like slots {method.slots}"
        )
