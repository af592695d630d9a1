"""An optimizer between steps: what can be seen of it, saved, and gone on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

from ..arrays import Array
from ..kernels.plan import Plan
from ..placement import HOST, Backend
from . import state as snapshot
from .buffers import ALONE, Views, label
from .files import StateFiles
from .parameters import Parameters
from .state import Entry, Taken
from .steps import Counts, Steps

SHOWN = 4  # parameters in the line that an optimizer prints as


class Stateful:
    """What an optimizer is between steps: its attributes are those of `Optimizer`."""

    method: Any
    params: Any
    state: Views

    _backend: Backend
    _parameters: Parameters
    _steps: Steps
    _counts: Counts
    _files: StateFiles | None

    # -- attributes --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """Return one line: steps taken, as far as the host knows, and parameters with methods."""
        params = self.params if self._parameters.is_named else {ALONE: self.params}
        methods = {name: self._parameters.methods()[name] for name in params}
        lines = [
            (f"{name}: " if name != ALONE else "") + f"{array.dtype} {array.shape} by {method!r}"
            for (name, array), method in zip(params.items(), methods.values(), strict=True)
        ]
        more = f", and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        return f"<{type(self).__name__}: step {self._counts.t}, {', '.join(lines[:SHOWN])}{more}>"

    def _put(self, **attributes: object) -> None:
        """Set attributes that a user may not; `vars(self)` would slow down every step."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        if not (name.startswith("_") or name == "loss_scale"):
            package = f"{__package__}."
            ours = next(kind for kind in type(self).__mro__ if kind.__module__.startswith(package))
            known = name in Stateful.__annotations__ or hasattr(ours, name)
            same = name in ("params", "state") and getattr(self, name, None) is value
            # The same after `opt.params -= 1`; and a subclass may have attributes of its own.
            if (known or type(self) is ours) and not same:
                way = self._way_to(name)
                raise AttributeError(f"opt.{name} cannot be assigned to, expected {way}")
        super().__setattr__(name, value)

    def _way_to(self, name: str) -> str:
        """Return what a user can do who wants to assign to an attribute."""
        if name in ("params", "state"):
            return f"to write into its arrays, as in opt.{name}[...] = value"
        if name in ("t", "skipped", "scalars"):
            return "opt.reset() or opt.load_state_dict(...)"
        if name == "method" or any(
            hasattr(method, name) for method in self._parameters.methods().values()
        ):
            change = "lr=0.1" if name == "method" else f"{name}=..."
            return f"opt.set({change}), which changes hyperparameters"
        return "one of the attributes that the documentation names"

    @property
    def t(self) -> int:
        """The number of steps taken: the largest count if parameters have separate counts.

        If a device decides which steps are skipped, reading ``t`` waits for the device.
        """
        if self._backend.is_asynchronous:
            self._steps.settle_count()
        return self._counts.t

    @property
    def skipped(self) -> int:
        """The number of steps skipped because a gradient was not finite.

        Each skipped step gives a RuntimeWarning. If a device decides, the warning appears when you
        read this attribute or ``t``.
        """
        self._steps.settle_count()
        return self._counts.skipped

    @property
    def grads(self) -> Array:
        """Buffers for gradients, with the structure of ``params``.

        Gradients that you compute in them take one kernel call per group and no copy.
        """
        if not hasattr(self, "_grads"):
            places = self._parameters.by_name(lambda counted: counted.group.places.make())
            is_named = self._parameters.is_named
            self._grads = Views("opt.grads", places) if is_named else places[ALONE]
        return self._grads

    @property
    def scalars(self) -> Views:
        """The numbers that the method keeps for all coordinates together, by name."""
        way = self._way_to("scalars")
        found = {
            name: Views(label("opt.scalars", name), entry["scalars"], way)
            for name, entry in self._entries().items()
        }
        is_named = self._parameters.is_named
        return Views("opt.scalars", found, way) if is_named else found[ALONE]

    @property
    def loss_scale(self) -> float | None:
        """The divisor of the gradients. You may assign to it between steps."""
        return self._steps.transformation.loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float | None) -> None:
        self._steps.transformation.loss_scale = value

    def learning_rates(self, name: str | None = None) -> Array:
        """Return the effective learning rate of each coordinate in the last step.

        Parameters
        ----------
        name : str, optional
            The name of a parameter. By default all of them.

        Returns
        -------
        ndarray or dict of str to ndarray
            New arrays, shaped like the parameters, in the dtype of the arithmetic. They are NaN
            before the first step.
        """
        parameters = self._parameters
        self._steps.settle()
        self._bring_up()
        if name is None:
            rates = parameters.by_name(lambda counted: counted.learning_rates(self.t))
            return rates if parameters.is_named else rates[ALONE]
        counted, k, _ = parameters.find(name)
        return counted.learning_rates(self.t)[k]

    def gradient_norm(self, grads: object) -> float:
        """Return the largest entry of a gradient, a measure of the distance to stationarity.

        Parameters
        ----------
        grads : ndarray or dict of str to ndarray
            The gradient at ``params``, as for `step`: multiplied by the loss scale, if there is
            one. Parameters without a gradient are left out.

        Returns
        -------
        float
            The largest absolute entry of the gradient, or of the projected gradient if there are
            bounds. Coupled weight decay is included. NaN if an entry of ``grads`` or ``params`` is
            not finite.
        """
        parameters, scale = self._parameters, self.loss_scale
        gs = parameters.read_gradients(grads)[0]
        self._bring_up()
        if scale is not None:
            gs = [[parameters.divided(g, scale) for g in each] for each in gs]
        norms = [
            norm
            for counted, g in zip(parameters.groups, gs, strict=True)
            for norm in counted.gradient_norms(g)
        ]
        if not norms:
            raise ValueError("grads holds no gradient, expected that of a parameter")
        return math.nan if any(map(math.isnan, norms)) else max(norms)

    def flush(self, *, stream: object = None) -> None:
        """Apply to all rows of all parameters, in place, the steps that they have missed.

        Parameters
        ----------
        stream : stream or int, optional
            As for `catch_up`.
        """
        stream = self._backend.stream_for(stream)
        for counted in self._parameters.groups:
            counted.flush(self.t, self._steps.seed, stream)

    # -- for loops that take the steps themselves --------------------------------------------------

    def _plan(self) -> Plan:
        """Return what steps are made of, for a loop that takes them itself; of one array only."""
        (counted,) = self._parameters.groups
        return counted.group.plan()

    def _position(self) -> tuple[int, tuple[float, ...]]:
        """Return how many steps were taken, and the method's scalars after them; see `_plan`."""
        (counted,) = self._parameters.groups
        return self.t, counted.group.scalars

    def _move_to(self, t: int, scalars: tuple[float, ...]) -> None:
        """Take over the position after the steps that such a loop has taken."""
        (counted,) = self._parameters.groups
        self._counts.t = t
        counted.group.go_on(t, scalars)

    # -- going on ----------------------------------------------------------------------------------

    def state_dict(self) -> Taken:
        """Return copies of everything that is needed to continue exactly.

        Returns
        -------
        dict
            ``version``, ``t``, ``skipped``, ``seed``, ``loss_scale`` and ``parameters``: for each
            name ("" for an array without one) its ``method``'s ``state_name``, ``params``,
            ``state``, ``scalars`` and ``hidden`` (master copies, and the last step applied to each
            row). It does not contain hyperparameters.
        """
        return snapshot.take(self._numbers(), self._entries(), self._backend)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from the `state_dict` of an optimizer with the same parameters and methods.

        Raises
        ------
        TypeError, ValueError
            If it does not fit, or if updates of rows were deferred under other hyperparameters.
            Nothing is modified then.
        """
        self._go_on(snapshot.well_formed(state, "state"), "state")

    def save(self, path: str | PathLike[str] | None = None) -> None:
        """Write `state_dict` to an .npz file, atomically and without pickle.

        Parameters
        ----------
        path : str or path-like, optional
            The file. An existing file is replaced by a complete new one, or stays unchanged.
            Without a path, everything that does not lie in files is written to ``optimizer.npz`` in
            ``state_dir``, and the files are flushed to the disk. ``resume=True`` continues from
            there. The next step removes ``optimizer.npz``, because it changes the files.
        """
        if path is None:
            if self._files is None:
                raise TypeError("path is None without state_dir, expected where to save to")
            self._files.seal(self._numbers(), self._entries())
        elif self._backend is HOST:
            snapshot.save(path, snapshot.view(self._numbers(), self._entries()))
        else:
            snapshot.save(path, self.state_dict())

    def load(self, path: str | PathLike[str]) -> None:
        """Continue from a file that `save` wrote.

        Raises
        ------
        TypeError, ValueError
            If the file is damaged, is something else, or does not fit. Nothing is modified then.
        """
        with snapshot.opened(path) as taken:
            self._go_on(taken, str(path))

    def reset(self) -> None:
        """Forget all steps: the state becomes that of a new optimizer, and ``t`` becomes 0.

        Parameters, hyperparameters and the loss scale stay unchanged. Deferred updates of rows are
        applied first.
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

    def _numbers(self) -> dict[str, object]:
        return {
            "t": self.t,
            "skipped": self.skipped,
            "seed": self._steps.seed,
            "loss_scale": self.loss_scale,
        }

    def _entries(self) -> dict[str, Entry]:
        self._steps.put_back()
        self._steps.settle()
        return self._parameters.entries(self._counts.t)

    def _bring_up(self) -> None:
        """Bring all rows up to the last step, once what was started on any stream is done."""
        self._backend.wait(self._parameters.near)
        if self._parameters.lag:
            self.flush()
            self._backend.wait(self._parameters.near)

    def _resume(self) -> None:
        """Go on from the files of the state."""
        assert self._files is not None
        files, path = self._files, self._files.rest

        def ours(name: str, waits: bool) -> Entry:
            if name not in files.names:
                raise ValueError(f"{path} has {name!r} in a file, expected one of {files.names}")
            parameters = self._parameters
            counted, k, params = parameters.find(name if parameters.is_named else None)
            entry = counted.entries(0)[k]
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
        files.mark_sealed()

    def _go_on(self, taken: Taken, source: str) -> None:
        """Go on from what was taken, or say why it does not fit; then nothing is modified."""
        parameters, given = self._parameters, taken["parameters"]
        if given.keys() != set(parameters.names):
            snapshot.copies(taken, self._entries(), source)  # raises
        self._steps.put_back()
        self._steps.settle()
        by_group = [[given[name] for name in names] for names in parameters.members]
        snapshot.copies(taken, parameters.entries_like(by_group, wait=False), source)
        pairs = list(zip(parameters.groups, by_group, strict=True))
        transformation = self._steps.transformation
        scale = transformation.read_loss_scale(taken["loss_scale"])
        positions = []
        for counted, theirs in pairs:
            scalars = counted.scalars_of(theirs, source)
            behind = min(scalars)
            if taken["t"] > behind:  # a schedule may raise
                counted.group.method.coefficients_at(taken["t"] - behind, scalars[behind])
            counted.refuse_other_waits(theirs, taken["t"], scalars, source)
            positions.append(scalars)
        copies = snapshot.copies(taken, parameters.entries_like(by_group, wait=True), source)
        # Nothing is wrong with it: from here on things are modified.
        if self._files is not None:
            self._files.unseal()
        self._backend.wait(parameters.near)
        snapshot.restore(copies, self._backend)
        transformation.loss_scale = scale
        self._steps.seed = taken["seed"]
        counts = self._counts
        counts.t, counts.skipped = taken["t"], taken["skipped"]
        for (counted, theirs), scalars in zip(pairs, positions, strict=True):
            counted.go_on(theirs, counts.t, scalars)
        self._steps.tell_device()
        # A copy from the host may continue after its call, and the streams of other libraries are
        # not ordered with it.
        self._backend.wait(parameters.near)
