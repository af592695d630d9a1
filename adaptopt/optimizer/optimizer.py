"""Optimizer: one step at a time, in place, for those who write their own loop."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from ..arrays import Array
from ..methods.base import Method
from ..placement import HOST
from ..prox.base import Proximal
from . import state as snapshot
from .arguments import MethodLike, read_arguments, read_seed
from .buffers import ALONE, Views, label
from .clipping import Transformation
from .compatible import replaced
from .gradients import read_rows
from .parameters import Parameters
from .stateful import Stateful
from .steps import Steps


class Optimizer(Stateful):
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

    def __init__(
        self,
        params: Array | Mapping[str, Array],
        method: MethodLike | Mapping[str, MethodLike],
        prox: Proximal | Mapping[str, Proximal] | None = None,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        loss_scale: float | None = None,
        state_dtype: object = None,
        rounding: str = "nearest",
        master: bool = False,
        seed: int = 0,
        lazy: str = "exact",
        nan_policy: str | None = None,
        state_dir: str | PathLike[str] | None = None,
        resume: bool = False,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "params", "method")}
        transformation = Transformation(clip_value, clip_norm, loss_scale)
        arguments = read_arguments(
            *(params, method, prox, transformation, state_dtype, rounding, master, lazy),
            *(state_dir, resume),
        )
        seed = read_seed(seed)
        self._files, self._lies_in_files = arguments.files, bool(arguments.in_files)
        self._parameters = Parameters(arguments, transformation)
        self._steps = Steps(self._parameters, transformation, seed, nan_policy)
        self._backend, self._counts = self._parameters.backend, self._steps.counts
        # What makes another one like it.
        self._made_with = {**options, "method": arguments.method}
        if isinstance(prox, Mapping):
            self._made_with["prox"] = dict(prox)
        self._show(params, arguments.method)
        self._follow_groups()
        if resume:
            self._resume()

    def _show(self, params: Array, method: Method | dict[str, Method]) -> None:
        """Set the attributes that a user sees."""
        parameters, entries = self._parameters, self._parameters.entries(0)
        if parameters.is_named:
            params = Views("opt.params", {name: e["params"] for name, e in entries.items()})
            parameters.like = params
        states = {name: Views(label("opt.state", name), e["state"]) for name, e in entries.items()}
        self._put(
            method=self._methods_view(method) if isinstance(method, Mapping) else method,
            params=params,
            state=Views("opt.state", states) if parameters.is_named else states[ALONE],
        )

    def _methods_view(self, methods: Mapping[str, Method]) -> Views:
        return Views("opt.method", methods, "opt.set(name, lr=...), which changes hyperparameters")

    def _follow_groups(self) -> None:
        """Note which group steps alone, and quickly: that of a parameter without a name."""
        parameters = self._parameters
        self._alone = None if parameters.is_named else parameters.groups[0].group

    def step(self, grads: object, *, stream: object = None) -> None:
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
        alone = self._alone
        if alone is not None and stream is None and alone.takes(grads):
            counts = self._counts
            alone.step_alone(counts, alone.method.coefficients_at(counts.t + 1), grads)
            return
        gs, apart = self._parameters.read(grads, stream)
        if self._files is not None:
            self._files.unseal()
        self._steps.take(gs, apart)

    def step_rows(
        self, rows: object, grads: object = None, name: str | None = None, *, stream: object = None
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
        gs = self._parameters.read_rows_of(rows, grads, name, stream)
        if self._files is not None:
            self._files.unseal()
        self._steps.take(gs, apart=True, alone=len(self._parameters.names) > 1)

    def catch_up(self, rows: object, name: str | None = None, *, stream: object = None) -> None:
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
        counted, k, params = self._parameters.find(name)
        found = read_rows("rows", rows, params, self._backend, stream)
        stream = self._backend.stream_for(stream)
        counted.catch_up(k, found, self.t, self._steps.seed, stream)

    def set(self, name: str | None = None, **hyperparameters: object) -> None:
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
        parameters = self._parameters
        methods = parameters.methods()
        if name is not None:
            parameters.find(name)
        new: dict[int, Method] = {}  # by the method it replaces, as thousands of names share one
        for key in methods if name is None or not parameters.is_named else [name]:
            old = methods[key]
            if id(old) not in new:
                new[id(old)] = replaced(label("method", key), old, hyperparameters)
            methods[key] = new[id(old)]
        self._change(methods)

    def _change(self, methods: Mapping[str, Method]) -> None:
        """Let parameters have other methods of the same state."""
        self._steps.put_back()
        self._steps.settle()
        t = self._counts.t
        members, changed = self._parameters.with_methods(methods, t)
        self._bring_up()
        for counted in changed:
            counted.all_current(t)
        self._parameters.replace(members, changed)
        self._follow_groups()
        first, *others = methods.values()
        several = isinstance(self.method, Mapping) or any(method != first for method in others)
        self._put(method=self._methods_view(methods) if several else first)
        self._steps.follow_groups()

    def reset(self) -> None:
        """Forget all steps: the state is that of a new optimizer, and ``t`` is 0.

        Parameters, hyperparameters and the loss scale stay as they are; rows that wait are brought
        up first.
        """
        self._steps.put_back()
        self._steps.settle()
        self._bring_up()
        if self._files is not None:
            self._files.unseal()
        for counted in self._parameters.groups:
            counted.reset()
        self._counts.t = self._counts.skipped = 0
        self._steps.tell_device()
        self._backend.wait(self._parameters.near)

    # -- copies ------------------------------------------------------------------------------------

    def __copy__(self) -> Optimizer:
        raise TypeError(
            "an Optimizer is copied with its arrays, expected copy.deepcopy: the steps of a "
            "shallow copy would move the same parameters"
        )

    def __reduce__(self) -> tuple[object, ...]:
        if self._backend is not HOST:
            raise TypeError(
                "params are CUDA arrays, expected arrays of the host to copy or pickle an "
                "Optimizer: state_dict() returns copies on the host"
            )
        if self._lies_in_files:
            raise TypeError(
                "params lie in files (numpy.memmap), expected arrays in memory to copy or pickle "
                "an Optimizer: two would write to one file; save() and resume=True go on from it"
            )
        is_named, entries = self._parameters.is_named, self._entries()
        for name, entry in entries.items():  # the same objects, so that they are copied once
            entry["params"] = self.params[name] if is_named else self.params
        params = dict(self.params) if is_named else self.params
        methods = self._parameters.methods()
        own = {}
        if type(self) is not Optimizer:
            ours = vars(Optimizer(np.zeros(1), next(iter(methods.values()))))
            own = {name: value for name, value in vars(self).items() if name not in ours}
        state = snapshot.view(self._numbers(), entries)
        return _rebuilt, (type(self), params, self._made_with, methods, state), own or None


def _rebuilt(
    kind: type[Optimizer],
    params: Array,
    made_with: dict[str, Any],
    methods: Mapping[str, Method],
    state: Mapping[str, object],
) -> Optimizer:
    """Return an optimizer like the one that was copied or pickled."""
    optimizer = kind.__new__(kind)
    Optimizer.__init__(optimizer, params, **made_with)
    optimizer._change(methods)
    optimizer.load_state_dict(state)
    return optimizer
