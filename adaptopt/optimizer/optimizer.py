"""Optimizer: one step at a time, in place, for users who write their own loop."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from ..arrays import Array
from ..methods.base import Method
from ..placement import HOST, Backend
from ..prox.base import Proximal
from . import state as snapshot
from .arguments import Arguments, MethodLike, arguments_of_run, read_arguments, read_seed
from .buffers import ALONE, Views, label
from .clipping import Transformation
from .compatible import replaced
from .gradients import read_rows
from .parameters import Parameters
from .stateful import Stateful
from .steps import Steps


class Optimizer(Stateful):
    """Update arrays in place, one gradient at a time.

    Parameters
    ----------
    params : ndarray, CUDA array, or dict of str to them
        C-contiguous and writable, of any shape: float16, bfloat16 (from ml_dtypes), float32 or
        float64. A single array is updated in place. The arrays of a dict are copied into one flat
        buffer: from then on read and write its views, ``opt.params[name]``. A ``numpy.memmap`` is
        not copied but updated in its file. State and arithmetic are float64 for float64 arrays and
        float32 for all others. CUDA arrays of any library are accepted. Gradients, state and rates
        then lie on their device; the manual's page on CUDA says which calls wait for the device.
    method : Method, its name or class, or dict of str to these
        A method such as ``AdaGrad(lr=0.1)``, for all parameters or for each name. A name such as
        "adagrad", or a class, stands for its default hyperparameters. Parameters with equal method,
        prox and dtype form a group, which one kernel call updates.
    prox : Proximal or dict of str to Proximal, optional
        A proximal map. The kernel applies it to each coordinate after the step.
    clip_value : float, optional
        Greater than 0. Clip each entry of the gradients to ``[-clip_value, clip_value]``, after
        ``loss_scale`` and ``clip_norm``.
    clip_norm : float, optional
        Greater than 0. If the Euclidean norm of the gradients over all parameters is larger, scale
        them down to it. The norm is summed in float64, with the same bits for any number of
        threads.
    loss_scale : float, optional
        Greater than 0. Divide the gradients by it, for low precision. You may assign to this
        attribute between steps.
    state_dtype : {None, "bfloat16"}
        Store the accumulators of squared gradients (AdaGrad's G, RMSProp's E, Adam's v) in
        bfloat16, rounded stochastically. AdaGrad on float32 then moves 16 bytes per element instead
        of 20. Needs ml_dtypes.
    rounding : {"nearest", "stochastic"}
        How to round 16-bit parameters. Stochastic rounding is right on average, so that steps below
        half a unit in the last place are not lost.
    master : bool, default False
        Keep a float32 copy of 16-bit parameters. It takes the steps and is rounded to the
        parameters. The copy is made now, so later writes to the parameters are overwritten.
    seed : int, default 0
        At least 0. Stochastic rounding depends only on the seed, the step and the position in the
        group's buffer.
    lazy : {"exact", "touched"}
        How rows absent from a sparse gradient are treated. "exact": their gradient is zero, and the
        result is that of a dense gradient. The steps that a row misses are applied when it next has
        a gradient. "touched": they stay unchanged. Except for SGD and AdaGrad, this is another
        algorithm. See `step_rows`.
    nan_policy : {None, "propagate", "skip", "raise"}
        What to do if a gradient is not finite. "propagate": take the step, which puts NaN into
        parameters and state. "skip": skip the step with a RuntimeWarning, and count it in
        ``skipped``. "raise": raise FloatingPointError before anything is modified. The check takes
        one pass over the gradients. None means "skip" with ``clip_norm`` or ``loss_scale``, which
        check anyway, and otherwise "propagate". On a device only these defaults are supported.
    state_dir : path-like, optional
        A folder for the state of parameters that are ``numpy.memmap`` of mode "r+" or "w+". New
        files ``<name>.<slot>.npy`` are made there. By default the state lies in memory.
    resume : bool, default False
        Continue from the files in ``state_dir`` and those of the parameters, in place, after `save`
        without a path. Parameters in memory get their values from ``state_dir``.

    Attributes
    ----------
    params : ndarray or mapping of str to ndarray
        The given array, or views of the flat buffer. After steps on rows, rows that move without a
        gradient (under momentum, decay or a penalty) may be out of date: call `catch_up` or `flush`
        before you read them.
    method : Method or dict of str to Method
        The given method, or the one that `set` has changed it to.
    state : dict of str to ndarray, or one such dict for each name
        The method's slots, such as AdaGrad's ``"G"``, shaped like ``params``. They are views, into
        which you may write. After steps on rows they may be out of date like ``params``: call
        `flush` before you read or write them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above, or a hyperparameter becomes 0 in the dtype.

    Notes
    -----
    You cannot assign to attributes, except ``loss_scale``. `set` changes hyperparameters.
    ``copy.deepcopy`` and pickle copy an optimizer with its arrays. Use an optimizer from one thread
    at a time.

    A step computes each coordinate independently, with correctly rounded operations. The result is
    the same to the last bit for any number of threads, any grouping, and any position of the
    coordinate (except with stochastic rounding, which depends on the position).

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

    An embedding table and a dense layer:

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
        self._build(params, arguments, transformation, read_seed(seed), nan_policy)
        # What makes another one like it.
        self._made_with = {**options, "method": arguments.method}
        if isinstance(prox, Mapping):
            self._made_with["prox"] = dict(prox)
        if resume:
            self._resume()

    @classmethod
    def _of_run(cls, x: Array, method: Method, prox: Proximal, backend: Backend) -> Optimizer:
        """Return the optimizer of a run, which has checked its array, method and map."""
        optimizer = cls.__new__(cls)
        transformation = Transformation(None, None, None)
        optimizer._build(x, arguments_of_run(x, method, prox, backend), transformation, 0, None)
        optimizer._made_with = {"method": method, "prox": prox}
        return optimizer

    def _build(
        self,
        params: Array | Mapping[str, Array],
        arguments: Arguments,
        transformation: Transformation,
        seed: int,
        nan_policy: str | None,
    ) -> None:
        """Make everything from checked arguments."""
        self._files, self._lies_in_files = arguments.files, bool(arguments.in_files)
        self._parameters = Parameters(arguments, transformation)
        self._steps = Steps(self._parameters, transformation, seed, nan_policy)
        self._backend, self._counts = self._parameters.backend, self._steps.counts
        self._show(params, arguments.method)
        self._follow_groups()

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
        """Take one step along a gradient. Updates ``params``, ``state`` and ``t`` in place.

        Parameters
        ----------
        grads : ndarray, pair, CSR matrix, or dict of str to these
            The gradient at ``params``, with the same structure, shapes and dtypes, C-contiguous.
            Gradients of 16-bit parameters may be float32. A pair ``(rows, grads)`` or a CSR matrix
            is a sparse gradient, as in `step_rows`. If ``params`` are CUDA arrays, so must the
            gradients be. A parameter for which a dict has None, or no entry, skips the step: the
            parameter, its state and its own count of steps stay unchanged.
        stream : stream or int, optional
            The CUDA stream to use, of Numba, CuPy or torch, or its handle. By default the one that
            the gradient's ``__cuda_array_interface__`` names, otherwise the default stream.

        Raises
        ------
        TypeError, ValueError
            If ``grads`` is not as described above. Nothing is modified then.

        Notes
        -----
        If parameters skip steps, the learning rate and the corrections of each follow its own count
        of steps. ``t`` is the largest count. ``clip_norm`` measures the given gradients.

        On the host, a step that an exception or Ctrl-C interrupts is taken completely or not at
        all. ``t`` shows which.
        """
        alone = self._alone
        if alone is not None and stream is None and alone.takes(grads):
            counts = self._counts
            alone.step_alone(counts, alone.method.coefficients_at(counts.t + 1), grads)
            return
        gs, apart = self._parameters.read_gradients(grads, stream)
        if self._files is not None:
            self._files.unseal()
        self._steps.take(gs, apart)

    def step_rows(
        self, rows: object, grads: object = None, name: str | None = None, *, stream: object = None
    ) -> None:
        """Take one step of one parameter along a gradient that is nonzero only in some rows.

        The cost depends on these rows, not on the size of the table.

        Parameters
        ----------
        rows : array_like of int32 or int64, or CSR matrix
            The row numbers, in any order. The gradients of a repeated row are summed, in their
            order. Alternatively a CSR matrix of the parameter's shape, which contains the gradient;
            its rows are those that are not empty. If ``params`` are CUDA arrays, row numbers on the
            host are sent to the device, and row numbers on a device are read back, which waits for
            the device. A matrix is not supported there.
        grads : ndarray or CUDA array, optional
            The gradients of the rows, of shape ``(len(rows), *shape[1:])``, with the parameter's
            dtype or a 16-bit one. They lie where ``params`` lie.
        name : str, optional
            The name of the parameter, if there are several.
        stream : stream or int, optional
            As for `step`.

        Raises
        ------
        TypeError, ValueError, KeyError
            If an argument is not as described above, or the method, the prox and ``lazy`` do not
            allow steps on rows. Nothing is modified then.

        Notes
        -----
        The other parameters stay unchanged, as if each name had its own optimizer. Each counts its
        own steps, which determine its learning rate and corrections, and ``t`` is the largest
        count. A training step of several parameters is ``opt.step({"table": (rows, grads), "w":
        g})``.

        With ``lazy="exact"`` the steps that a row misses must have a closed form. There is one for
        SGD, Momentum, AdaGrad, RMSProp, AdaGradDA and AdaGradNorm, under a schedule too unless it
        is outside a momentum buffer; with bounds; with decoupled decay, but for momentum; with a
        penalty (L1, L2, elastic net) for SGD and AdaGrad at a constant rate. 16-bit numbers are
        rounded when a row has a gradient, not in each step.

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
        """Apply to some rows, in place, the steps that they have missed. Call it before reading.

        Parameters
        ----------
        rows : array_like of int32 or int64
            The row numbers, in any order; repeats have no effect. As in `step_rows`, they may lie
            on the host or on the device.
        name : str, optional
            The name of the parameter, if there are several.
        stream : stream or int, optional
            The CUDA stream to use. By default Numba's default stream.
        """
        counted, k, params = self._parameters.find(name)
        found = read_rows("rows", rows, params, self._backend, stream)
        stream = self._backend.stream_for(stream)
        counted.catch_up(k, found, self.t, self._steps.seed, stream)

    def set(self, name: str | None = None, **hyperparameters: object) -> None:
        """Change hyperparameters between steps. They take effect in the next step.

        Parameters
        ----------
        name : str, optional
            The name of a parameter, if there are several. By default all of them.
        **hyperparameters
            New values of the method's fields, such as ``lr=0.01`` or a schedule.

        Raises
        ------
        TypeError, ValueError, KeyError
            If a method has no such field, a value is out of its range, or the method would need
            another state: for example if momentum is switched on or off, or if the initial
            accumulator or the position of the learning rate changes. Nothing is modified then.

        Notes
        -----
        The result is that of loading the state into an optimizer made with the new values. No state
        is lost, a schedule is next evaluated at step ``t + 1``, and `learning_rates` uses the new
        values. Deferred updates of table rows are first applied with the old values.

        A checkpoint holds no hyperparameters. A program that continues from one must set them
        again. If updates of rows are deferred, it must do so before it loads, because these updates
        depend on them. Copies and pickles of the optimizer contain the hyperparameters.

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
