"""Optimizer: one step at a time, in place, for those who write their own loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import compute_dtype
from ..kernels.formats import step_key
from ..kernels.parallel import hands
from ..kernels.plan import Plan
from ..methods.names import read_named
from ..placement import HOST, backend_of
from ..prox.base import Proximal
from . import state as snapshot
from .buffers import (
    ALONE,
    StateFiles,
    Views,
    for_each,
    group_names,
    is_kept,
    label,
    pack,
    read_params,
)
from .clipping import Transformation
from .gradients import LAZY, Gradient, Members, is_sparse, read_row_gradient, read_rows
from .group import Group
from .precision import read_precision
from .table import RowGradient

if TYPE_CHECKING:
    from .deferred import Deferral


@dataclasses.dataclass(slots=True)
class _Counts:
    """What every step counts: apart, as assigning to an Optimizer's attribute is checked."""

    t: int = 0
    skipped: int = 0
    # What undoes a step that is under way.
    before: list[Callable[[], object]] = dataclasses.field(default_factory=list)


_call: Any = partial.__call__


def _run_all(calls: list[Callable[[], object]]) -> None:
    """Call each, in one call of compiled code."""
    deque(map(_call, calls), maxlen=0)


class Optimizer:
    """Updates arrays in place, one gradient at a time.

    Parameters
    ----------
    params : ndarray, CUDA array, or dict of str to them
        C-contiguous, writable, of any shape, float16, bfloat16 (of ml_dtypes), float32 or float64.
        One array is updated in place. Those of a dict are copied into one flat buffer, but for
        ``numpy.memmap``, which is updated in its file: from then on read and write
        ``opt.params[name]``, views of it. State and arithmetic are float64 for float64, else
        float32. CUDA arrays of any library are taken too: gradients, state and rates then lie on
        their device, and the manual's page on CUDA says what waits for it.
    method : Method, its name or class, or dict of str to these
        Such as ``AdaGrad(lr=0.1)``, for all parameters or for each name. A name such as "adagrad"
        and a class mean their default hyperparameters. Parameters whose method,
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
    lazy : {"exact", "touched"}
        What sparse gradients mean for rows that have none. "exact": that theirs is zero, so that
        the result is that of whole gradients; what those rows miss is caught up with when they are
        touched next. "touched": that they are left alone, which is another algorithm for all
        methods but SGD and AdaGrad. See `step_rows`.
    nan_policy : {None, "propagate", "skip", "raise"}
        What becomes of a step whose gradients are not all finite. "propagate": it is taken, and
        puts NaN into parameters and state. "skip": it is left out with a RuntimeWarning, and
        counted in ``skipped``. "raise": FloatingPointError, before anything is modified. To look
        costs one pass over the gradients. None skips under ``clip_norm`` and ``loss_scale``, which
        look anyway, and else propagates. On a device only these defaults are supported.
    state_dir : path-like, optional
        A folder for the state of parameters that are ``numpy.memmap`` of mode "r+" or "w+": files
        ``<name>.<slot>.npy``, new ones, are made there. By default it is in memory.
    resume : bool, default False
        Go on from the files in ``state_dir`` and those of the parameters, where they are, after
        `save` without a path. Parameters in memory get their values from there.

    Attributes
    ----------
    params : ndarray or mapping of str to ndarray
        The array given, or views of the flat buffer. After steps on rows, those that move without a
        gradient (under momentum, decay or a penalty) are what they were when touched last: call
        `catch_up` or `flush` before reading them.
    method : Method or dict of str to Method
        As given, or as `set` has left it.
    state : dict of str to ndarray, or one such dict for each name
        The method's slots, such as AdaGrad's ``"G"``, shaped like ``params``: views, which may be
        written into. They wait as ``params`` do: call `flush` before reading or writing them.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as above, or a hyperparameter vanishes in the dtype.

    Notes
    -----
    Attributes cannot be assigned to, but for ``loss_scale``: `set` changes hyperparameters.
    ``copy.deepcopy`` and pickle copy an optimizer with its arrays. One thread at a time may use it.

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

    method: Any
    params: Any
    state: dict[str, Any]

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
        lazy: str = "exact",
        nan_policy: str | None = None,
        state_dir: str | PathLike[str] | None = None,
        resume: bool = False,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "params", "method")}
        self._named = isinstance(params, Mapping)
        given = read_params(params)
        self._backend = backend_of(next(iter(given.values())))
        if isinstance(method, Mapping):
            method = {n: read_named(label("method", n), value) for n, value in method.items()}
        else:
            method = read_named("method", method)
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
        if lazy not in LAZY:
            raise ValueError(f"lazy is {lazy!r}, expected one of {', '.join(LAZY)}")
        files = {name for name, array in given.items() if is_kept(array)}
        self._files = files
        if state_dir is not None and not files:
            raise ValueError(
                f"state_dir is {str(state_dir)!r} with params in memory, expected numpy.memmap "
                "of mode 'r+' or 'w+'"
            )
        if resume not in (True, False):
            raise TypeError(f"resume is {resume!r}, expected True or False")
        if resume and state_dir is None:
            raise ValueError("resume is True without state_dir, expected the folder of the state")
        self._state_files = None if state_dir is None else StateFiles(state_dir, bool(resume))
        self._sealed = False  # whether `save` without a path holds for what is in the files
        self._members = group_names(given, methods, proxes)
        for array in given.values():
            self._backend.wait(array)
        flats = {name: array.reshape(array.size) for name, array in given.items()}
        buffers = pack(given, self._members, self._backend) if self._named else [flats[ALONE]]
        with self._state_files or contextlib.nullcontext() as state_files:
            self._groups = [
                Group(
                    buffer,
                    [given[name].shape for name in names],
                    methods[names[0]],
                    proxes[names[0]],
                    precision,
                    self._transformation,
                    self._backend,
                    state_files.allocator(names[0]) if state_files and names[0] in files else None,
                    resume and names[0] in files,
                )
                for buffer, names in zip(buffers, self._members, strict=True)
            ]
        for group in self._groups:
            self._backend.wait(group.flat)
        self._names = list(given)
        self._know_groups()
        self._rows = [
            Members(group, [label("params", name) for name in names], lazy)
            for group, names in zip(self._groups, self._members, strict=True)
        ]
        # What does not wait for a device, where steps depend on the gradients there.
        self._deferral: Deferral | None = None
        self._counts = _Counts()
        self._nan_policy = self._read_nan_policy(nan_policy)
        self._draws = any(group.draws for group in self._groups)
        self._looks = self._transformation.looks or any(m.measures for m in methods.values())
        entries = self._entries()
        method = dict(methods) if isinstance(method, Mapping) else method
        # What makes another one like it.
        self._made_with = {**options, "method": method}
        if isinstance(prox, Mapping):
            self._made_with["prox"] = dict(prox)
        if self._named:
            params = Views("opt.params", {name: e["params"] for name, e in entries.items()})
        states: dict[str, Any] = {
            name: Views(label("opt.state", name), e["state"]) for name, e in entries.items()
        }
        state = Views("opt.state", states) if self._named else states[ALONE]
        if isinstance(method, Mapping):
            method = self._methods_view(methods)
        self._put(method=method, params=params, state=state)
        # What gradients are compared with: params, as Numba sees them on a device.
        self._like = self.params if self._named else given[ALONE]
        self._places: Any = None
        if self._backend.is_asynchronous:
            self._go_to_device()
        if resume:
            self._resume()

    def _methods_view(self, methods: Mapping[str, Any]) -> Views:
        return Views("opt.method", methods, "opt.set(name, lr=...), which changes hyperparameters")

    def _put(self, **attributes: Any) -> None:
        """Set attributes that a user may not; `vars(self)` would slow down every step."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in Optimizer.__annotations__ or hasattr(Optimizer, name)
        ours = type(self) is Optimizer or known  # a subclass may have attributes of its own
        allowed = name.startswith("_") or name == "loss_scale" or not ours
        same = name in ("params", "state") and getattr(self, name, None) is value
        if not (allowed or same):  # the same after `opt.params -= 1`
            raise AttributeError(f"opt.{name} cannot be assigned to, expected {self._way_to(name)}")
        super().__setattr__(name, value)

    def _way_to(self, name: str) -> str:
        """Return what a user can do who wants to assign to an attribute."""
        if name in ("params", "state"):
            return f"to write into its arrays, as in opt.{name}[...] = value"
        if name in ("t", "skipped", "scalars"):
            return "opt.reset() or opt.load_state_dict(...)"
        if name == "method" or any(hasattr(group.method, name) for group in self._groups):
            change = "lr=0.1" if name == "method" else f"{name}=..."
            return f"opt.set({change}), which changes hyperparameters"
        return "one of the attributes that the documentation names"

    def _read_nan_policy(self, policy: Any) -> str | None:
        """Return what there is to look for in gradients, or None if nothing is, or it is anyway."""
        looks = self._transformation.looks
        if policy not in (None, "propagate", "skip", "raise"):
            raise ValueError(f"nan_policy is {policy!r}, expected None, propagate, skip or raise")
        if policy == "propagate" and looks:
            raise ValueError(
                "nan_policy is 'propagate' with clip_norm or loss_scale, expected skip or raise: "
                "the norm of such a gradient is NaN"
            )
        if policy in (None, "propagate") or (policy == "skip" and looks):
            return None
        if self._backend.is_asynchronous:
            raise ValueError(
                f"nan_policy is {policy!r} for CUDA arrays, expected None: each step would have to "
                "wait for the device"
            )
        for group in self._groups:
            group.looks_closely = True
        return str(policy)

    def _know_groups(self) -> None:
        """Note what steps ask of all groups."""
        self._largest = max(group.flat.size for group in self._groups)
        self._tied = [group for group in self._groups if group.is_tied]
        self._tied_first = sorted(enumerate(self._groups), key=lambda pair: not pair[1].is_tied)
        first, *others = self._groups
        first.remember()
        for group in others:
            group.remember()
            first.owners |= group.owners
            first.memory += group.memory
        for group in others:
            group.owners, group.memory = first.owners, first.memory

    def _go_to_device(self) -> None:
        """Compile what the steps run there."""
        from .deferred import defer  # imports numba.cuda

        self._deferral = defer(self._groups, self._transformation)
        if self._deferral is None:
            for group in self._groups:
                group.compile()
        self._backend.wait(self._groups[0].flat)  # for what was copied there, as in `_go_on`

    def step(self, grads: Any, *, stream: Any = None) -> None:
        """Take one step along a gradient; updates ``params``, ``state`` and ``t`` in place.

        Parameters
        ----------
        grads : ndarray, pair, CSR matrix, or dict of str to these
            The gradient at ``params``, of the same structure: C-contiguous, of the same shapes and
            dtypes. Gradients of 16-bit parameters may be float32. A pair ``(rows, grads)`` or a CSR
            matrix is a sparse gradient, as in `step_rows`. CUDA arrays where ``params`` are.
            A parameter that a dict gives None for, or does not name, skips the step: it, its state
            and its own count of steps stay as they are.
        stream : stream or int, optional
            The CUDA stream on which to work, of Numba, CuPy or torch, or its handle. By default
            that which the gradient's ``__cuda_array_interface__`` names, else the default stream.

        Raises
        ------
        TypeError, ValueError
            Where ``grads`` is not such a thing. Nothing has been modified then.

        Notes
        -----
        The learning rate and the corrections of a parameter that skipped steps follow the number of
        steps that it took; ``t`` is the largest of these numbers. ``clip_norm`` measures the
        gradients there are.

        On the host, a step that an exception or Ctrl-C ends early has been taken as a whole, or not
        at all: ``t`` tells which.
        """
        first = self._groups[0]
        if not self._named and not self._rows[0].lags and stream is None and first.takes(grads):
            counts = self._counts
            first.step_alone(counts, first.method.coefficients_at(counts.t + 1), grads)
            return
        gs, apart = self._read_grads(grads, stream)
        if self._sealed:
            self._unseal()
        if apart or any(rows.are_apart for rows in self._rows):
            self._step_apart(gs)
            return
        if self._deferral is not None:
            self._deferral.step(gs, self._seed)
            self._counts.t += 1  # at most: which steps were skipped is read when it is asked for
            return
        t = self._counts.t + 1
        coefs: tuple[float, ...] = ()
        if self._nan_policy and self._leaves_out([g for group in gs for g in group]):
            return
        if self._looks:
            gs = [group.together(g) for group, g in zip(self._groups, gs, strict=True)]
        if self._transformation.count:
            pairs = list(zip(self._groups, gs, strict=True))
            found = self._transformation.coefficients(
                lambda factor: [s for group, g in pairs for s in group.squares(g, factor)]
            )
            if found is None:
                self._skip()
                return
            coefs = found
        factor = coefs[0] * coefs[1] if coefs else 1.0
        prepared = [
            group.prepare(t, g, factor, group.scalars)
            for group, g in zip(self._groups, gs, strict=True)
        ]
        key = step_key(self._seed, t) if self._draws else 0
        with hands(self._largest) as threads:
            calls: list[Callable[[], object]] = []
            for k, group in self._tied_first:
                calls += group.calls(gs[k], 0, len(gs[k]), prepared[k], coefs, key, threads)
            for k, group in self._tied_first:
                calls += group.standing(prepared[k])
            self._take(calls, t)

    def _take(self, calls: list[Callable[[], object]], t: int) -> None:
        """Take a step: all of it or, if it is interrupted, nothing.

        Python looks for a Ctrl-C between its own instructions. On the host the calls are of
        compiled code, and one call makes them all. A map that ties coordinates together is Python:
        it comes first, and what it has changed is put back if it does not end.
        """
        counts = self._counts
        if counts.before:
            self._put_back()
        calls.append(partial(setattr, counts, "t", t))
        if not self._tied:
            _run_all(calls)
            return
        calls.append(partial(setattr, counts, "before", []))
        try:
            counts.before = [
                partial(array.__setitem__, ..., array.copy())
                for group in self._tied
                for array in group.written()
            ]
            _run_all(calls)
        except BaseException:
            self._put_back()
            raise

    def _put_back(self) -> None:
        """Undo what there is of a step that was interrupted twice."""
        if self._counts.before:
            _run_all([*self._counts.before, partial(setattr, self._counts, "before", [])])

    def step_rows(
        self, rows: Any, grads: Any = None, name: str | None = None, *, stream: Any = None
    ) -> None:
        """Take one step of one parameter along a gradient that is zero in all but some rows.

        The cost is that of the rows touched, whatever the size of the table.

        Parameters
        ----------
        rows : array_like of int32 or int64, or CSR matrix
            Which rows, in any order. The gradients of a row that is there more than once are
            summed, in their order. A CSR matrix of the parameter's shape is a gradient by itself;
            it touches the rows that are not empty. Where ``params`` are CUDA arrays, numbers on
            the host are sent to the device, and those on a device are waited for and read; a matrix
            is refused there.
        grads : ndarray or CUDA array, optional
            Their gradients, of shape ``(len(rows), *shape[1:])`` and the dtype of the parameter's
            or of 16 bits; where ``params`` are.
        name : str, optional
            Of which parameter, where there are several.
        stream : stream or int, optional
            As for `step`.

        Raises
        ------
        TypeError, ValueError, KeyError
            Where an argument is not as above, or the method, the prox and ``lazy`` do not allow it.
            Nothing has been modified then.

        Notes
        -----
        The other parameters stay as they are, as if each name had an optimizer of its own: each
        counts its own steps, which its learning rate and corrections follow, and ``t`` is the
        largest of these counts. A training step of several parameters is
        ``opt.step({"table": (rows, grads), "w": g})``.

        With ``lazy="exact"`` there has to be a closed form of what a row misses. There is one for
        SGD, Momentum, AdaGrad, RMSProp, AdaGradDA and AdaGradNorm, under a schedule too unless it
        is outside a momentum buffer; with bounds; with decoupled decay, but for momentum; with a
        penalty (L1, L2, elastic net) for SGD and AdaGrad at a constant rate. 16-bit numbers are
        rounded when a row is touched, not in each step.

        Examples
        --------
        >>> import numpy as np, adaptopt as ao
        >>> table = np.zeros((5, 2))
        >>> opt = ao.Optimizer(table, ao.AdaGrad(lr=0.5))
        >>> opt.step_rows([3, 1, 3], np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
        >>> table[3], opt.state["G"][[1, 3]].tolist()
        (array([-0.5, -0.5]), [[4.0, 4.0], [16.0, 16.0]])
        """
        members, k, params = self._find(name)
        given = rows if grads is None else (rows, grads)
        if not is_sparse(given):
            raise TypeError(f"grads is None with rows {rows!r}, expected a CSR matrix for rows")
        g = read_row_gradient("grads", given, params, self._backend, stream)
        gs: list[list[Gradient]] = [[None] * len(names) for names in self._members]
        gs[members][k] = g
        if self._sealed:
            self._unseal()
        self._step_apart(gs, alone=len(self._names) > 1)

    def _step_apart(self, gs: list[list[Gradient]], alone: bool = False) -> None:
        """Take a step in which each parameter has a gradient of its own kind, or none."""
        if self._deferral is not None:  # by rows, parameters count their own steps: on the host
            self._settle()
            self._deferral = None
        pairs = list(zip(self._rows, gs, strict=True))
        seen: list[Any] = []
        for rows, group in pairs:
            for k, g in enumerate(group):
                if isinstance(g, RowGradient):
                    table = rows.admit(k, self.t, alone)
                    repeats = g.order.size > g.rows.size  # and a sum may overflow
                    summed = table.sums(g) if self._looks or (self._nan_policy and repeats) else g
                    group[k] = summed if self._looks else g
                    seen.append(summed.values)
                elif g is not None:
                    seen.append(g)
        coefs: tuple[float, ...] = ()
        if self._nan_policy and self._leaves_out(seen):
            return
        if self._transformation.count:
            found = self._transformation.coefficients(
                lambda factor: [self._backend.sum_of_squares(g, factor) for g in seen]
            )
            if found is None:
                self._skip()
                return
            coefs = found
        for rows, group in pairs:
            rows.prepare(group, self.t, coefs[0] * coefs[1] if coefs else 1.0)
        by = any(
            g is not None and not behind
            for rows, group in pairs
            for g, behind in zip(group, rows.behind, strict=True)
        )
        for rows, group in pairs:
            rows.bring_up(group, self._seed)
        with hands(self._largest) as threads:
            calls: list[Callable[[], object]] = []
            for k, _ in self._tied_first:
                calls += self._rows[k].calls(gs[k], coefs, self._seed, threads)
            for rows, group in pairs:
                calls += rows.standing(group, by)
            self._take(calls, self.t + by)

    def catch_up(self, rows: Any, name: str | None = None, *, stream: Any = None) -> None:
        """Bring rows up to the last step, in place, before they are read.

        Parameters
        ----------
        rows : array_like of int32 or int64
            Which rows, in any order; repeats do not count. As in `step_rows`, they may lie on
            either side.
        name : str, optional
            Of which parameter, where there are several.
        stream : stream or int, optional
            The CUDA stream on which to work, by default Numba's default stream.
        """
        members, k, params = self._find(name)
        found = read_rows("rows", rows, params, self._backend, stream)
        stream = self._backend.stream_for(stream)
        self._rows[members].catch_up(k, found, self.t, self._seed, stream)

    def flush(self, *, stream: Any = None) -> None:
        """Bring all rows of all parameters up to the last step, in place.

        Parameters
        ----------
        stream : stream or int, optional
            As for `catch_up`.
        """
        stream = self._backend.stream_for(stream)
        for rows in self._rows:
            rows.flush(self.t, self._seed, stream)

    def _bring_up(self) -> None:
        """Bring all rows up to the last step, once what was started on any stream is done."""
        self._backend.wait(self._groups[0].flat)
        if any(rows.lags for rows in self._rows):
            self.flush()
            self._backend.wait(self._groups[0].flat)

    def _find(self, name: str | None) -> tuple[int, int, Any]:
        """Return the group of a parameter, its place there, and the parameter."""
        if name is None and len(self._names) == 1:
            name = self._names[0]
        elif name not in self._names or not self._named:
            known = ", ".join(map(repr, self._names)) if self._named else "no names"
            raise KeyError(f"name is {name!r}, expected one of {known}")
        group = next(k for k, names in enumerate(self._members) if name in names)
        params = self._like[name] if self._named else self._like
        return group, self._members[group].index(name), params

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
        self._settle()
        self._bring_up()
        if name is None:
            return self._outward(self._by_name(lambda rows: rows.learning_rates(self.t)))
        members, k, _ = self._find(name)
        rates: np.ndarray = self._rows[members].learning_rates(self.t)[k]
        return rates

    @property
    def grads(self) -> Any:
        """Places for gradients, of the structure of ``params``.

        Those that are computed there go through one kernel call a group, without being copied.
        """
        if self._places is None:
            places = self._by_name(lambda rows: rows.group.gradients())
            self._places = Views("opt.grads", places) if self._named else places[ALONE]
        return self._places

    @property
    def scalars(self) -> Any:
        """What the method carries through time besides the slots: name to number."""
        way = self._way_to("scalars")
        found = {
            name: Views(label("opt.scalars", name), entry["scalars"], way)
            for name, entry in self._entries().items()
        }
        return Views("opt.scalars", found, way) if self._named else found[ALONE]

    @property
    def loss_scale(self) -> float | None:
        """What gradients are divided by; it may be set between steps."""
        return self._transformation.loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float | None) -> None:
        self._transformation.loss_scale = value

    def gradient_norm(self, grads: Any) -> float:
        """Return how far ``params`` is from stationary along a gradient.

        Parameters
        ----------
        grads : ndarray or dict of str to ndarray
            The gradient at ``params``, like that of `step`: times the loss scale, if there is one.
            Parameters without a gradient are left out.

        Returns
        -------
        float
            The largest absolute entry of the gradient, of the projected gradient under bounds;
            coupled weight decay is a part of it. NaN if an entry of ``grads`` or ``params`` is not
            finite.
        """
        gs = self._read_grads(grads)[0]
        self._bring_up()
        if self.loss_scale is not None:
            gs = [[self._divided(g, self.loss_scale) for g in group] for group in gs]
        norms = [
            norm for rows, g in zip(self._rows, gs, strict=True) for norm in rows.gradient_norms(g)
        ]
        if not norms:
            raise ValueError("grads holds no gradient, expected that of a parameter")
        return math.nan if any(map(math.isnan, norms)) else max(norms)

    @property
    def t(self) -> int:
        """Steps taken; by the parameter that has taken most, where rows were stepped by name.

        Where a device decides which steps are skipped, reading it waits for the device.
        """
        if self._deferral is not None:
            self._settle_count()
        return self._counts.t

    def plan(self) -> Plan:
        """Return what steps are made of, for a loop that takes them itself; of one array only."""
        (group,) = self._groups
        return group.plan()

    def _position(self) -> tuple[int, tuple[float, ...]]:
        """Return how many steps were taken, and the method's scalars after the last; see `plan`."""
        (group,) = self._groups
        return self.t, group.scalars

    def _move_to(self, t: int, scalars: tuple[float, ...]) -> None:
        """Take over the position after the steps that such a loop has taken."""
        (group,) = self._groups
        self._counts.t = t
        group.go_on(t, scalars)

    @property
    def skipped(self) -> int:
        """Steps left out because a gradient was not finite, under a loss scale or a largest norm.

        A RuntimeWarning says so each time; on a device, which decides by itself, when this or ``t``
        is read.
        """
        self._settle_count()
        return self._counts.skipped

    def _settle_count(self) -> None:
        if self._deferral is not None and self._deferral.may_skip:
            self._settle()

    def _settle(self) -> None:
        """Learn what a device has decided and computed, for which it is waited."""
        if self._deferral is None:
            return
        counts, before = self._counts, self._counts.skipped
        counts.t, counts.skipped, last = self._deferral.read()
        if counts.skipped > before:
            self._warn_of(last, counts.skipped - before)

    def _leaves_out(self, gradients: list[Any]) -> bool:
        """Tell whether a step is left out for its gradients, or say what is wrong with them."""
        if all(map(self._backend.is_finite, gradients)):
            return False
        if self._nan_policy == "raise":
            raise FloatingPointError(
                f"grads of step {self._counts.t + 1} hold a value that is not finite, expected "
                "finite ones (nan_policy is 'raise')"
            )
        self._skip()
        return True

    def _skip(self) -> None:
        self._counts.skipped += 1
        self._warn_of(self._counts.t + 1, 1)

    def _warn_of(self, last: int, count: int) -> None:
        which = (
            f"step {last} was" if count == 1 else f"{count} steps, the last of them {last}, were"
        )
        scale = "" if self.loss_scale is None else f" (loss_scale is {self.loss_scale:g})"
        warnings.warn(
            f"{which} skipped: a gradient is not finite{scale}", RuntimeWarning, stacklevel=4
        )

    # -- changing ----------------------------------------------------------------------------------

    def set(self, name: str | None = None, **hyperparameters: Any) -> None:
        """Change hyperparameters between steps; they count from the next step on.

        Parameters
        ----------
        name : str, optional
            Of which parameter, if there are several; all of them by default.
        **hyperparameters
            New values of the method's fields, such as ``lr=0.01`` (a schedule too).

        Raises
        ------
        TypeError, ValueError, KeyError
            If a method has no such field, a value is out of its range, or the method would keep
            another state with it: momentum that is switched on or off, for example, another initial
            accumulator, or a learning rate inside the buffer. Nothing has been modified then.

        Notes
        -----
        It is as if the state were loaded into an optimizer made with the new values: no state is
        lost, a schedule is asked for step ``t + 1`` next, and `learning_rates` speaks of the new
        values. Rows of tables that wait are brought up to the last step with the old ones first.

        A checkpoint holds no hyperparameters: a program that goes on from one sets them again,
        before it loads if rows wait, because what they miss is computed with them. Copies and
        pickles of the optimizer have them.

        Examples
        --------
        >>> import numpy as np, adaptopt as ao
        >>> opt = ao.Optimizer({"w": np.zeros(2), "b": np.zeros(1)}, ao.SGD(lr=0.1))
        >>> opt.set(lr=0.01)
        >>> opt.set("b", lr=0.5)
        >>> opt.step({"w": np.ones(2), "b": np.ones(1)})
        >>> opt.params["w"], opt.params["b"]
        (array([-0.01, -0.01]), array([-0.5]))
        """
        if not hyperparameters:
            raise TypeError("set got no hyperparameter, expected one such as lr=0.1")
        methods = self._methods()
        if name is not None:
            self._find(name)
        new: dict[int, Any] = {}  # by the method that it replaces, as thousands of names share one
        for key in methods if name is None or not self._named else [name]:
            old = methods[key]
            if id(old) not in new:
                new[id(old)] = _replaced(label("method", key), old, hyperparameters)
            methods[key] = new[id(old)]
        self._change(methods)

    def _change(self, methods: Mapping[str, Any]) -> None:
        """Let parameters have other methods of the same state."""
        self._put_back()
        self._settle()
        t = self._counts.t
        members, changed = [], []
        for names, rows in zip(self._members, self._rows, strict=True):
            first = 0
            for method, same in groupby(names, key=methods.__getitem__):
                end = first + len(list(same))
                members.append(names[first:end])
                changed.append(rows.with_method(method, first, end, t))
                first = end
        self._bring_up()
        for rows in changed:
            rows.all_current(t)
        self._members, self._rows = members, changed
        self._groups = [rows.group for rows in changed]
        self._know_groups()
        first, *others = methods.values()
        several = isinstance(self.method, Mapping) or any(method != first for method in others)
        self._put(method=self._methods_view(methods) if several else first)
        if self._backend.is_asynchronous:
            apart = self._deferral is None
            self._go_to_device()
            if apart:
                self._deferral = None
            elif self._deferral is not None:
                self._deferral.stand(t, self._counts.skipped)

    def reset(self) -> None:
        """Forget all steps: the state is that of a new optimizer, and ``t`` is 0.

        Parameters, hyperparameters and the loss scale stay as they are; rows that wait are brought
        up first.
        """
        self._put_back()
        self._settle()
        self._bring_up()
        self._unseal()
        for rows in self._rows:
            rows.reset()
        self._counts.t = self._counts.skipped = 0
        if self._deferral is not None:
            self._deferral.stand(0, 0)
        self._backend.wait(self._groups[0].flat)

    # -- copies ------------------------------------------------------------------------------------

    def __copy__(self) -> Optimizer:
        raise TypeError(
            "an Optimizer is copied with its arrays, expected copy.deepcopy: the steps of a "
            "shallow copy would move the same parameters"
        )

    def __reduce__(self) -> Any:
        if self._backend is not HOST:
            raise TypeError(
                "params are CUDA arrays, expected arrays of the host to copy or pickle an "
                "Optimizer: state_dict() returns copies on the host"
            )
        if self._files:
            raise TypeError(
                "params lie in files (numpy.memmap), expected arrays in memory to copy or pickle "
                "an Optimizer: two would write to one file; save() and resume=True go on from it"
            )
        entries = self._entries()
        for name, entry in entries.items():  # the same objects, so that they are copied once
            entry["params"] = self.params[name] if self._named else self.params
        params = dict(self.params) if self._named else self.params
        own = {}
        if type(self) is not Optimizer:
            ours = vars(Optimizer(np.zeros(1), self._groups[0].method))
            own = {name: value for name, value in vars(self).items() if name not in ours}
        state = snapshot.view(self._numbers(), entries)
        return _rebuilt, (type(self), params, self._made_with, self._methods(), state), own or None

    # -- going on ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all that is needed to go on exactly.

        Returns
        -------
        dict
            ``version``, ``t``, ``skipped``, ``seed``, ``loss_scale`` and ``parameters``: for each
            name ("" for an array without one) its ``method``'s ``state_name``, ``params``,
            ``state``, ``scalars`` and ``hidden`` (master copies, and the steps up to which rows
            have been brought). Hyperparameters are not in it.
        """
        return snapshot.take(self._numbers(), self._entries(), self._backend)

    def _numbers(self) -> dict[str, Any]:
        return {
            "t": self.t,
            "skipped": self.skipped,
            "seed": self._seed,
            "loss_scale": self.loss_scale,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` of an optimizer of the same parameters and methods returned.

        Raises
        ------
        TypeError, ValueError
            Where it does not fit, or rows wait in it for steps that were taken with other
            hyperparameters. Nothing has been modified then.
        """
        self._go_on(snapshot.well_formed(state, "state"), "state")

    def save(self, path: str | PathLike[str] | None = None) -> None:
        """Write `state_dict` to an .npz file, atomically and without pickle.

        Parameters
        ----------
        path : str or path-like, optional
            Where to. A file of that name is replaced by a complete new one, or stays as it is.
            Without it, what does not lie in files already is written to ``state_dir``, as
            ``optimizer.npz``, and the files are brought to the disk: ``resume=True`` goes on from
            there. The next step removes it, because the files have then moved on.
        """
        if path is None:
            self._seal()
            return
        # What lies on a device is copied to the host; what lies there, or in a file, is not.
        if self._backend is HOST:
            snapshot.save(path, snapshot.view(self._numbers(), self._entries()))
        else:
            snapshot.save(path, self.state_dict())

    def _seal(self) -> None:
        if self._state_files is None:
            raise TypeError("path is None without state_dir, expected where to save to")
        entries = self._entries()
        for name in self._files:
            entry = entries[name]
            for array in (entry["params"], *entry["state"].values(), *entry["hidden"].values()):
                _bring_to_disk(array)
        taken = snapshot.view(self._numbers(), entries)
        snapshot.save_beside(self._state_files.rest, taken, sorted(self._files))
        self._sealed = True

    def _unseal(self) -> None:
        """Remove what `save` wrote to the folder of the state, which is about to move on."""
        if self._state_files is not None and self._sealed:
            self._state_files.rest.unlink(missing_ok=True)
            self._sealed = False

    def _resume(self) -> None:
        """Go on from the files of the state."""
        assert self._state_files is not None
        files, path = self._state_files, self._state_files.rest

        def ours(name: str, waits: bool) -> snapshot.Entry:
            if name not in self._files:
                raise ValueError(f"{path} has {name!r} in a file, expected one of {self._files}")
            members, k, params = self._find(name if self._named else None)
            entry = self._rows[members].entries(0)[k]
            if waits:
                entry["hidden"]["last"] = files.waiting(name, params.shape[0])
            return entry

        try:
            with snapshot.opened_beside(path, ours) as taken:
                self._go_on(taken, str(path))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"state_dir has no {path.name}, expected that of save() after the last step: the "
                "files may lie between two steps (delete the state and load a checkpoint)"
            ) from None
        self._sealed = True

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a file that `save` wrote.

        Raises
        ------
        TypeError, ValueError
            Where the file is damaged, is something else, or does not fit. Nothing has been modified
            then.
        """
        with snapshot.opened(path) as taken:
            self._go_on(taken, str(path))

    def _go_on(self, taken: Mapping[str, Any], source: str) -> None:
        given = taken["parameters"]
        if given.keys() != set(self._names):
            snapshot.copies(taken, self._entries(), source)  # raises
        self._put_back()
        self._settle()
        by_group = [[given[name] for name in names] for names in self._members]
        snapshot.copies(taken, self._entries_like(by_group, wait=False), source)
        pairs = list(zip(self._rows, by_group, strict=True))
        scale = self._transformation.read_loss_scale(taken["loss_scale"])
        positions = []
        for rows, theirs in pairs:
            scalars = rows.scalars_of(theirs, source)
            behind = min(scalars)
            if taken["t"] > behind:  # a schedule may raise
                rows.group.method.coefficients_at(taken["t"] - behind, scalars[behind])
            rows.refuse_other_waits(theirs, taken["t"], scalars, source)
            positions.append(scalars)
        copies = snapshot.copies(taken, self._entries_like(by_group, wait=True), source)
        # Nothing is wrong with it: from here on things are modified.
        self._unseal()
        self._backend.wait(self._groups[0].flat)
        snapshot.restore(copies, self._backend)
        self._transformation.loss_scale = scale
        self._seed = taken["seed"]
        counts = self._counts
        counts.t, counts.skipped = taken["t"], taken["skipped"]
        for (rows, theirs), scalars in zip(pairs, positions, strict=True):
            rows.go_on(theirs, counts.t, scalars)
        if self._deferral is not None:
            self._deferral.stand(counts.t, counts.skipped)
        # A copy from the host may still go on when it has returned, and the streams of other
        # libraries are not in order with it.
        self._backend.wait(self._groups[0].flat)

    # -- names outside, groups inside --------------------------------------------------------------

    def _by_name(self, of: Callable[[Members], list[Any]]) -> dict[str, Any]:
        """Return what there is of each parameter of the groups, by name, in the order given."""
        found: dict[str, Any] = {}
        for names, rows in zip(self._members, self._rows, strict=True):
            found.update(zip(names, of(rows), strict=True))
        return {name: found[name] for name in self._names}

    def _entries_like(
        self, by_group: list[list[snapshot.Entry]], wait: bool
    ) -> dict[str, snapshot.Entry]:
        taken = iter(by_group)
        return self._by_name(lambda rows: rows.entries_like(next(taken), wait))

    def _methods(self) -> dict[str, Any]:
        return self._by_name(lambda rows: [rows.group.method] * len(rows.behind))

    def _entries(self) -> dict[str, snapshot.Entry]:
        self._put_back()
        self._settle()
        return self._by_name(lambda rows: rows.entries(self._counts.t))

    def _outward(self, by_name: dict[str, Any]) -> Any:
        return by_name if self._named else by_name[ALONE]

    # -- gradients ---------------------------------------------------------------------------------

    def _read_grads(self, grads: Any, stream: Any = None) -> tuple[Any, bool]:
        """Return the gradients of each group, flat or of rows, checked; and if any is of rows."""
        stream = self._backend.read_stream(stream)
        if not self._named:
            if grads is None:
                raise TypeError(
                    "grads is a NoneType, expected a gradient: to leave the array as it is, "
                    "take no step"
                )
            return [[self._read_one("grads", grads, self._like, stream, 0, 0)]], is_sparse(grads)
        if not isinstance(grads, Mapping):
            raise ValueError(
                f"grads is {type(grads).__name__}, expected a dict of the names {self._names}"
            )
        if not grads.keys() <= self.params.keys():
            raise ValueError(
                f"grads is {list(grads)}, expected a dict of the names {self._names}, of which "
                "those without a gradient may be None or missing"
            )
        gs: list[list[Gradient]] = []
        apart = False
        for members, (names, group) in enumerate(zip(self._members, self._groups, strict=True)):
            given = list(map(grads.get, names))
            read = group.read(given) if stream is None else None
            if read is not None:
                gs.append(read)  # type: ignore[arg-type]
                continue
            apart = apart or any(g is None or is_sparse(g) for g in given)
            gs.append(
                [
                    None
                    if g is None
                    else self._read_one(
                        label("grads", name), g, self._like[name], stream, members, k
                    )
                    for k, (name, g) in enumerate(zip(names, given, strict=True))
                ]
            )
        return gs, apart

    def _divided(self, g: Gradient, scale: float) -> Gradient:
        """Return a gradient divided by the loss scale."""
        if g is None:
            return None
        if isinstance(g, RowGradient):
            values: Any = self._divided(g.values, scale)
            return g._replace(values=values)
        numbers = self._backend.to_host(g)
        quotient = numbers.astype(compute_dtype(numbers.dtype)) / scale
        return self._backend.from_host(quotient, g)  # type: ignore[no-any-return]

    def _read_one(
        self, what: str, given: Any, params: Any, stream: Any, members: int, k: int
    ) -> np.ndarray | RowGradient:
        """Return one gradient, checked."""
        if is_sparse(given):
            g: Any = read_row_gradient(what, given, params, self._backend, stream)
            flat = g.values
        else:
            flat = g = self._backend.flat_view(what, given, like=params, stream=stream)
        self._groups[members].refuse_overlap(what, flat, k if g is flat else None)
        return g  # type: ignore[no-any-return]


def _bring_to_disk(array: Any) -> None:
    """Have a file hold what was written to the array that lies in it."""
    while array is not None and not hasattr(array, "flush"):
        array = getattr(array, "base", None)
    if array is not None:
        array.flush()


def _rebuilt(
    kind: type[Optimizer], params: Any, made_with: Any, methods: Any, state: Any
) -> Optimizer:
    """Return an optimizer like the one that was copied or pickled."""
    optimizer = kind.__new__(kind)
    Optimizer.__init__(optimizer, params, **made_with)
    optimizer._change(methods)
    optimizer.load_state_dict(state)
    return optimizer


def _replaced(what: str, method: Any, hyperparameters: Mapping[str, Any]) -> Any:
    """Return a method with other hyperparameters, which keeps the same state."""
    name = type(method).__name__
    fields = [field.name for field in dataclasses.fields(method) if field.init]
    for key in hyperparameters:
        if key not in fields:
            raise TypeError(
                f"set got {key!r}, which {what}, {name}, does not have: expected "
                f"one of {', '.join(fields)}"
            )
    new = dataclasses.replace(method, **hyperparameters)
    for aspect in _KEPT:
        old, other = getattr(method, aspect), getattr(new, aspect)
        old, other = (v() if callable(v) else v for v in (old, other))
        if old != other:
            raise ValueError(
                f"set would change {what} to {new}, whose {aspect.replace('_', ' ')} would be "
                f"{other!r}, expected {old!r} as it is: make another Optimizer for it"
            )
    if (new.rate is None) != (method.rate is None):
        raise ValueError(f"set would change how {what} keeps its rates: make another Optimizer")
    return new


# What of a method is in the arrays of an optimizer.
_KEPT = (
    "slots",
    "initial_state",
    "scalars",
    "measures",
    "rowwise",
    "second_moments",
    "state_name",
)


def _read_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed is {seed!r}, expected a whole number >= 0")
    if seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    return int(seed)
