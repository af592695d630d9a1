"""Optimizer: one step at a time, in place, for those who write their own loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np

from . import placement, snapshot
from .groups import Group
from .kernels import step_key
from .packing import ALONE, for_each, group_names, label, pack, read_params
from .placement import flat_view
from .precision import read_precision
from .proximal import Proximal
from .transformation import Transformation

__all__ = ["Optimizer"]


class Optimizer:
    """Updates arrays in place, one gradient at a time.

    Parameters
    ----------
    params : ndarray, CUDA array, or dict of str to them
        C-contiguous, writable, of any shape, float16, bfloat16 (of ml_dtypes), float32 or float64.
        One array is updated in place. Those of a dict are copied into one flat buffer: from then
        on read and write ``opt.params[name]``, views of it. State and arithmetic are float64 for
        float64, else float32. CUDA arrays of any library are taken too: gradients, state and rates
        then lie on their device, and the manual's page on CUDA says what waits for it.
    method : Method or dict of str to Method
        Such as ``AdaGrad(lr=0.1)``, for all parameters or for each name. Parameters whose method,
        prox and dtype are equal make a group, which one kernel call updates.
    prox : Proximal or dict of str to Proximal, optional
        A proximal map, applied to each coordinate after its step, in the same pass.
    clip_value : float, optional
        Greater than 0. Clip each entry of the gradients to ``[-clip_value, clip_value]``, after
        what follows.
    clip_norm : float, optional
        Greater than 0. Scale the gradients down where their Euclidean norm, over all parameters, is
        larger. The norm is summed in float64, to the same bits for any number of threads.
    loss_scale : float, optional
        Greater than 0. Divide the gradients by it, for low precision. It is an attribute, which may
        be set between steps.
    state_dtype : {None, "bfloat16"}
        Keep the accumulators of squared gradients (AdaGrad's G, RMSProp's E, Adam's v) in bfloat16,
        rounded stochastically: AdaGrad on float32 then moves 16 bytes an element instead of 20.
        Needs ml_dtypes.
    rounding : {"nearest", "stochastic"}
        How 16-bit parameters are rounded. Stochastic rounding is right on average: steps below half
        a unit in the last place are not lost.
    master : bool, default False
        Keep a float32 copy of 16-bit parameters, which takes the steps and is rounded to them. It
        is made here: what is written to the parameters later is overwritten.
    seed : int, default 0
        At least 0. Stochastic rounding depends on it, on the step and on the place in the group's
        buffer, and on nothing else.

    Attributes
    ----------
    params : ndarray or mapping of str to ndarray
        The array given, or views of the flat buffer.
    method : Method or dict of str to Method
        As given.
    state : dict of str to ndarray, or one such dict for each name
        The method's slots, such as AdaGrad's ``"G"``, shaped like ``params``.
    t : int
        Steps taken.
    skipped : int
        Steps left out because a gradient was not finite, under ``loss_scale`` or ``clip_norm``. A
        RuntimeWarning says so each time.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as above, or a hyperparameter vanishes in the dtype.

    Notes
    -----
    A step computes each coordinate alone, with correctly rounded operations: the result is the
    same to the last bit whatever the number of threads, the grouping, and wherever the coordinate
    lies (but for stochastic rounding, which depends on the place).

    References
    ----------
    Clipping by the norm: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent
    neural networks", ICML 2013, algorithm 1. Loss scales and master copies: Micikevicius et al.,
    "Mixed precision training", ICLR 2018, sections 3.1 and 3.2. Stochastic rounding: Gupta et al.,
    "Deep learning with limited numerical precision", ICML 2015, section 3.1.

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

    An embedding table beside a dense layer:

    >>> params = {"emb": np.zeros((4, 2)), "w": np.ones((2, 2))}
    >>> opt = ao.Optimizer(params, {"emb": ao.AdaGrad(lr=0.5), "w": ao.RMSProp(lr=0.01)})
    >>> opt.step({"emb": np.eye(4, 2), "w": np.ones((2, 2))})
    >>> opt.params["emb"][0]
    array([-0.5,  0. ])
    >>> opt.state["w"]["E"][0].round(3)
    array([0.1, 0.1])
    """

    def __init__(
        self,
        params: np.ndarray | Mapping[str, np.ndarray],
        method: Any,
        prox: Proximal | Mapping[str, Proximal] | None = None,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        loss_scale: float | None = None,
        state_dtype: Any = None,
        rounding: str = "nearest",
        master: bool = False,
        seed: int = 0,
    ) -> None:
        self._named = isinstance(params, Mapping)
        given = read_params(params)
        methods = for_each("method", method, given)
        for name, value in methods.items():
            if isinstance(value, type) or not hasattr(value, "coefficients_at"):
                what = label("method", name if isinstance(method, Mapping) else ALONE)
                raise TypeError(f"{what} is {value!r}, expected a Method such as AdaGrad(lr=0.1)")
        proxes = for_each("prox", prox, given, default=Proximal())
        for name, value in proxes.items():
            if not isinstance(value, Proximal):
                what = label("prox", name if isinstance(prox, Mapping) else ALONE)
                raise TypeError(f"{what} is {value!r}, expected a Proximal such as Box(0, 1)")
        self._transformation = Transformation(clip_value, clip_norm, loss_scale)
        if clip_value is not None and any(m.measures for m in methods.values()):
            raise ValueError(
                f"clip_value is {clip_value!r} with a method that measures the gradient's norm, "
                "expected None: the norm is that of the gradient before it is clipped"
            )
        self._seed = _read_seed(seed)
        precision = read_precision(
            state_dtype,
            rounding,
            master,
            [array.dtype for array in given.values()],
            list(methods.values()),
        )
        self._members = group_names(given, methods, proxes)
        flats = {name: array.reshape(array.size) for name, array in given.items()}
        for array in given.values():
            placement.wait(array)
        buffers = pack(flats, self._members) if self._named else [flats[ALONE]]
        self._groups = [
            Group(
                buffer,
                [given[name].shape for name in names],
                methods[names[0]],
                proxes[names[0]],
                precision,
                self._transformation,
            )
            for buffer, names in zip(buffers, self._members, strict=True)
        ]
        for group in self._groups:
            placement.wait(group.flat)
        self._names = list(given)
        self._draws = any(group.draws for group in self._groups)
        entries = self._entries()
        self.method = method
        self.params: Any = params
        if self._named:
            self.params = MappingProxyType({name: e["params"] for name, e in entries.items()})
        self.state: dict[str, Any] = self._outward({n: e["state"] for n, e in entries.items()})
        # What gradients are compared with: params, as Numba sees them on a device.
        self._like = self.params if self._named else given[ALONE]
        self.t = self.skipped = 0

    def step(self, grads: Any, *, stream: Any = None) -> None:
        """Take one step along a gradient; updates ``params``, ``state`` and ``t`` in place.

        Parameters
        ----------
        grads : ndarray or dict of str to ndarray
            The gradient at ``params``, of the same structure: C-contiguous, of the same shapes and
            dtypes. Gradients of 16-bit parameters may be float32. CUDA arrays where ``params`` are.
        stream : stream or int, optional
            The CUDA stream on which to work, of Numba, CuPy or torch, or its handle. By default
            that which the gradient's ``__cuda_array_interface__`` names, else the default stream.

        Raises
        ------
        TypeError, ValueError
            Where ``grads`` is not such a thing. Nothing has been modified then.
        """
        gs = self._read_grads(grads, stream)
        t = self.t + 1
        coefs: tuple[float, ...] = ()
        if self._transformation.count:
            found = self._transformation.coefficients([g for group in gs for g in group])
            if found is None:
                self._skip()
                return
            coefs = found
        factor = coefs[0] if coefs else 1.0
        prepared = [group.prepare(t, gs[k], factor) for k, group in enumerate(self._groups)]
        key = step_key(self._seed, t) if self._draws else 0
        # Before: a Ctrl-C during a kernel is raised right after it, when the step has been taken.
        self.t = t
        for k, group in enumerate(self._groups):
            group.step(gs[k], prepared[k], coefs, key)

    def learning_rates(self, name: str | None = None) -> Any:
        """Return the effective learning rate of every coordinate in the last step.

        Parameters
        ----------
        name : str, optional
            Of which parameter, where they have names; all of them by default.

        Returns
        -------
        ndarray or dict of str to ndarray
            New arrays, shaped like the parameters, in the dtype of the arithmetic; NaN before the
            first step.
        """
        if name is None:
            return self._outward(self._by_name(lambda group: group.learning_rates(self.t)))
        if not self._named or name not in self._names:
            known = ", ".join(map(repr, self._names)) if self._named else "no names"
            raise KeyError(f"name is {name!r}, expected one of {known}")
        names, group = next(
            (names, group)
            for names, group in zip(self._members, self._groups, strict=True)
            if name in names
        )
        return group.learning_rates(self.t)[names.index(name)]

    @property
    def grads(self) -> Any:
        """Places for gradients, of the structure of ``params``.

        Those that are computed there go through one kernel call a group, without being copied.
        """
        places = self._by_name(lambda group: group.gradients())
        return MappingProxyType(places) if self._named else places[ALONE]

    @property
    def scalars(self) -> Any:
        """What the method carries through time besides the slots: name to number."""
        return self._outward({name: e["scalars"] for name, e in self._entries().items()})

    @property
    def loss_scale(self) -> float | None:
        """What gradients are divided by; it may be set between steps."""
        return self._transformation.loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float | None) -> None:
        self._transformation.loss_scale = value

    def gradient_norm(self, grads: np.ndarray | Mapping[str, np.ndarray]) -> float:
        """Return how far ``params`` is from stationary along a gradient.

        Parameters
        ----------
        grads : ndarray or dict of str to ndarray
            The gradient at ``params``, like that of `step`.

        Returns
        -------
        float
            The largest absolute entry of the gradient, of the projected gradient under bounds;
            NaN where an entry of ``grads`` is not finite.
        """
        norms = [
            norm
            for group, g in zip(self._groups, self._read_grads(grads), strict=True)
            for norm in group.gradient_norms(g)
        ]
        return math.nan if any(map(math.isnan, norms)) else max(norms)

    def _skip(self) -> None:
        self.skipped += 1
        scale = "" if self.loss_scale is None else f" (loss_scale is {self.loss_scale:g})"
        warnings.warn(
            f"step {self.t + 1} was skipped: a gradient is not finite{scale}",
            RuntimeWarning,
            stacklevel=3,
        )

    # -- going on ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all that is needed to go on exactly.

        Returns
        -------
        dict
            ``version``, ``t``, ``skipped``, ``seed``, ``loss_scale`` and ``parameters``: for each
            name ("" for an array without one) its ``method``'s name, ``params``, ``state``,
            ``scalars`` and ``hidden`` (master copies). Hyperparameters are not in it.
        """
        numbers = {
            "t": self.t,
            "skipped": self.skipped,
            "seed": self._seed,
            "loss_scale": self.loss_scale,
        }
        return snapshot.take(numbers, self._entries())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` of an optimizer of the same parameters and methods returned.

        Raises
        ------
        TypeError, ValueError
            Where it does not fit. Nothing has been modified then.
        """
        self._go_on(state, "state")

    def save(self, path: str | PathLike[str]) -> None:
        """Write `state_dict` to an .npz file, atomically and without pickle.

        Parameters
        ----------
        path : str or path-like
            Where to. A file of that name is replaced by a complete new one, or stays as it is.
        """
        snapshot.save(path, self.state_dict())

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a file that `save` wrote.

        Raises
        ------
        TypeError, ValueError
            Where the file is damaged, is something else, or does not fit. Nothing has been modified
            then.
        """
        self._go_on(snapshot.load(path), str(path))

    def _go_on(self, taken: Mapping[str, Any], source: str) -> None:
        before = self.loss_scale
        if isinstance(taken, Mapping):
            self.loss_scale = taken.get("loss_scale", before)
        try:
            snapshot.restore(taken, self._entries(), source)
        except (TypeError, ValueError):
            self.loss_scale = before
            raise
        self.t, self.skipped, self._seed = taken["t"], taken["skipped"], taken["seed"]
        for group, names in zip(self._groups, self._members, strict=True):
            scalars = taken["parameters"][names[0]]["scalars"]
            group.go_on(self.t, tuple(scalars[name] for name in group.method.scalars))

    # -- names outside, groups inside --------------------------------------------------------------

    def _by_name(self, of: Callable[[Group], list[Any]]) -> dict[str, Any]:
        """Return what there is of each parameter of the groups, by name, in the order given."""
        found: dict[str, Any] = {}
        for names, group in zip(self._members, self._groups, strict=True):
            found.update(zip(names, of(group), strict=True))
        return {name: found[name] for name in self._names}

    def _entries(self) -> dict[str, snapshot.Entry]:
        return self._by_name(lambda group: group.entries())

    def _outward(self, by_name: dict[str, Any]) -> Any:
        return by_name if self._named else by_name[ALONE]

    # -- gradients ---------------------------------------------------------------------------------

    def _read_grads(self, grads: Any, stream: Any = None) -> list[list[np.ndarray]]:
        """Return the flat gradients of each group, checked."""
        if not self._named:
            g = flat_view("grads", grads, like=self._like, stream=stream)
            self._groups[0].refuse_overlap("grads", g, 0)
            return [[g]]
        if not isinstance(grads, Mapping) or grads.keys() != self.params.keys():
            has = list(grads) if isinstance(grads, Mapping) else type(grads).__name__
            raise ValueError(f"grads is {has}, expected a dict of the names {self._names}")
        flats = []
        for names, group in zip(self._members, self._groups, strict=True):
            flats.append(
                [
                    flat_view(label("grads", n), grads[n], like=self._like[n], stream=stream)
                    for n in names
                ]
            )
            for k, (name, g) in enumerate(zip(names, flats[-1], strict=True)):
                group.refuse_overlap(label("grads", name), g, k)
        return flats


def _read_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed is {seed!r}, expected a whole number >= 0")
    if seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    return int(seed)
