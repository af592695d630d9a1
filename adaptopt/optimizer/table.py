"""A table: a parameter whose rows can be stepped separately, with deferred steps."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from math import log, prod
from typing import NamedTuple

import numpy as np

from ..arrays import Array, DType, Stream, storage
from ..kernels.plan import Part
from ..kernels.step import Layout
from ..kernels.table import scratch_width
from ..methods.base import Method
from ..methods.momentum import sgd, sgd_rate, stays
from ..placement import HOST, Backend, Functions, Kernel
from ..prox.base import Proximal
from ..scalar import LONGEST

Call = Callable[[], object]

_NO_PLACES, _NO_NUMBERS = np.zeros(0, np.int64), np.zeros(0)


class RowGradient(NamedTuple):
    """A gradient of some rows: ``values`` at the positions of a batch; see `kernels.batch_rows`.

    The values lie where the table lies, the positions on the host.
    """

    rows: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    values: np.ndarray


def misses_steps(method: Method, prox: Proximal) -> bool:
    """Return whether steps without a gradient change a coordinate."""
    return not (method.rests and prox.is_projection) or bool(method.weight_decay)


def moves_alone(method: Method, prox: Proximal) -> bool:
    """Return whether steps without a gradient move a coordinate, not only its state."""
    return method.idle_moves_x or not prox.is_projection or bool(method.weight_decay)


def sums_rates(method: Method, prox: Proximal) -> bool:
    """Return whether the missed maps at rates that change are one at the sum of the rates."""
    return callable(getattr(method, "lr", None)) and method.rate_is_linear and prox.repeat_sums


def why_not_exact(method: Method, prox: Proximal, with_sums: bool = False) -> str | None:
    """Return why missed steps of a coordinate have no closed form, or None if they have one.

    Tables of rows and epochs over sparse rows both use it; epochs know the sums of the rates
    (``with_sums``).
    """
    name = type(method).__name__
    if method.idle is None:
        return f"{name} has no closed form of steps without a gradient"
    if method.weight_decay and not (method.decoupled or (with_sums and method.rule is sgd)):
        return (
            f"{name}.weight_decay is coupled: it is a gradient for every row in every step, which "
            "has no closed form (decoupled=True has one)"
        )
    penalty = not prox.is_projection
    scheduled = callable(getattr(method, "lr", None))
    if method.weight_decay and method.idle_moves_x:
        return f"under {name} a row without a gradient moves, which decay changes in every step"
    if method.weight_decay and penalty:
        return "decay and a penalty in turn have no closed form (a penalty with L2 in it has one)"
    if scheduled and method.idle_needs_constant_lr:
        inside = " (lr_inside=True has one)" if hasattr(method, "lr_inside") else ""
        return f"under {name} a row without a gradient moves at rates that change{inside}"
    if penalty and (method.rate is None or not method.rests):
        return f"under {name} the rate of a row without a gradient changes, which the penalty takes"
    if penalty and scheduled and not (with_sums and sums_rates(method, prox)):
        return "a penalty at rates that change has no closed form"
    if method.rowwise and not method.rests:
        return f"{name} has one accumulator a row, which changes without a gradient"
    if method.rate is None and not method.rests:
        return f"{name} names no rate"
    return None


class Table:
    """One parameter, by rows.

    Parameters
    ----------
    part : Part
        The arrays of the parameter.
    shape : tuple of int
        The shape of the parameter.
    method, prox
        The method of the steps, and the map after each step.
    functions, layout, coefs
        Functions and layout of the group's kernels, and the coefficients of the prox.
    allocate : callable
        ``allocate(name, n, dtype)`` makes an array.
    backend : Backend
        The backend of the arrays.

    Attributes
    ----------
    count, width : int
        Number of rows, and of coordinates in each.
    lazy : bool
        Whether steps of rows are deferred.
    last : ndarray
        If ``lazy``, the last step applied to each row.
    """

    def __init__(
        self,
        part: Part,
        shape: tuple[int, ...],
        method: Method,
        prox: Proximal,
        functions: Functions,
        layout: Layout,
        coefs: tuple[float, ...],
        allocate: Callable[..., np.ndarray],
        backend: Backend,
    ) -> None:
        self._part, self._prox, self._coefs = part, prox, coefs
        self._allocate, self._backend = allocate, backend
        self._upload, self._mirror = backend.upload(part.x), backend.mirror(part.x)
        self.count = shape[0] if shape else 1
        self.width = prod(shape[1:])
        self.lazy = False
        self.last = self._backend.empty(0, np.int64, part.x)
        self._follow(method, functions, layout)
        self._past = _Past(0)
        self._scratch = _NO_NUMBERS
        self._sums: Array = self._backend.empty(0, self._number, part.x)
        self._no_sums = self._sums

    def _follow(self, method: Method, functions: Functions, layout: Layout) -> None:
        self._method, self._functions, self._layout = method, functions, layout
        self._misses = misses_steps(method, self._prox)
        rate = method.rate or sgd_rate
        self._late = (method.idle or stays, rate, self._prox.repeat)
        self._steps: dict[tuple[str, bool], Kernel] = {}

    def with_method(
        self, part: Part, method: Method, functions: Functions, layout: Layout
    ) -> Table:
        """Return the table with another method, its functions and layout, and the same arrays."""
        new = copy(self)
        new._part = part
        new._follow(method, functions, layout)
        return new

    @property
    def misses(self) -> bool:
        """Whether steps without a gradient change rows."""
        return self._misses

    def wait(self, t: int | None) -> None:
        """Start deferring updates of idle rows at step ``t``, if steps change them.

        Without a step, ``last`` is about to be written.
        """
        if self._misses and not self.lazy:
            self.last = self._allocate("last", self.count, np.int64)
            if t is not None:
                self._backend.fill(self.last, t)
                self._backend.wait(self.last)
                self._past = _Past(t)
            self.lazy = True

    def mark(self, t: int, stream: Stream = None) -> None:
        """Mark all rows as current at step ``t``. Without a stream, this waits for a device."""
        for call in self.marks(t, stream):
            call()
        if stream is None:
            self._backend.wait(self.last)

    def marks(self, t: int, stream: Stream) -> list[Call]:
        """Return the call that marks all rows as current at step ``t``."""
        if not self.lazy:
            return []
        last = self._backend.bound(self.last, stream)
        return [self._backend.filling(last, t), partial(setattr, self, "_past", _Past(t))]

    def go_on(self) -> None:
        """Adopt the position in ``last``, which has been written."""
        self._past = _Past(int(self._backend.to_host(self.last).min()) if self.count else 0)

    # -- a step ------------------------------------------------------------------------------------

    def look_ahead(self, t: int) -> None:
        """Prepare the missed steps of rows up to ``t``, before anything is modified."""
        if self._fades:
            self._past.extend(t, self._method)

    def waits_long(self, t: int) -> bool:
        """Return whether a row would miss more steps before ``t`` than can be deferred."""
        return self.lazy and t - self._past.base > LONGEST

    def kernel(self, form: str) -> Kernel:
        """Return the compiled step along gradients of a format."""
        kind = (form, self.lazy)
        if kind not in self._steps:
            shared, layout = self._method.rowwise, self._layout._replace(gradient=form)
            made = self._backend.row_step(
                self._functions, self._late, sgd, layout, self.lazy, shared, self._fades
            )
            self._backend.prepare(made, self._part.x)
            self._steps[kind] = made
        return self._steps[kind]

    def call(
        self,
        g: RowGradient,
        t: int,
        before: tuple[float, ...],
        noise: tuple[int, ...],
        coefs: tuple[tuple[float, ...], ...],
        threads: int,
    ) -> Call:
        """Return the call that takes step ``t`` on the rows of a gradient, or on all rows.

        ``before`` are the rule's coefficients of the previous step, ``coefs`` those of this step:
        of transformation, decay and rule.
        """
        stream = self._backend.stream_of(g.values)
        count = g.rows.size or (self.count if not g.starts.size else 0)
        if not count * self.width:
            return _nothing
        stride = scratch_width(self.width)
        lanes = max(threads, 2) * stride
        if self._scratch.size < lanes:
            # Only on the host: a device keeps the sums in registers.
            self._scratch = HOST.empty(lanes, self._number, self._scratch)
        x, slots, walls, rates, copies, start, _ = self._part
        noise = (*noise, start) if noise else ()
        places = self._upload((g.rows, g.order, g.starts), stream)
        made: Call = self.kernel(g.values.dtype.name).call(
            threads, count * self.width, count, x, storage(g.values), slots, walls, rates, copies,
            noise, *coefs, self._coefs, *places, self.width, self.last, self._decay_logs(stream),
            self._past.base, t, before, self._scratch, stride, 0.0,
        )  # fmt: skip
        return made

    def sums(self, g: RowGradient) -> RowGradient:
        """Return the gradient with repeated rows summed."""
        kernel = self._backend.row_sums(g.values.dtype.name, self._number.name)
        n, stream = g.rows.size * self.width, self._backend.stream_of(g.values)
        if self._sums.size < n:
            self._sums = self._backend.empty(n, self._number, self._part.x)
        out = self._backend.bound(self._sums[:n] if n else self._no_sums, stream)
        if n:
            places = self._upload((g.order, g.starts), stream)
            kernel.run(
                g.order.size * self.width, g.rows.size, storage(g.values), *places, self.width, out
            )
        each = np.arange(g.rows.size + 1)
        return RowGradient(g.rows, each[:-1], each, out)

    # -- missed steps of rows ----------------------------------------------------------------------

    def flush(
        self, t: int, before: tuple[float, ...], noise: tuple[int, ...], stream: Stream
    ) -> None:
        """Apply missed steps to all rows, up to step ``t``."""
        if self.lazy:
            self.catch_up(_NO_PLACES, t, before, noise, stream)
            self._past = _Past(t)

    def catch_up(
        self,
        rows: np.ndarray,
        t: int,
        before: tuple[float, ...],
        noise: tuple[int, ...],
        stream: Stream,
    ) -> None:
        """Apply missed steps to distinct rows, up to step ``t``; to all rows if none are given."""
        if not (self.lazy and self.count * self.width):
            return
        self.look_ahead(t)
        x, slots, walls, _, copies, start, _ = self._part
        noise = (*noise, start) if noise else ()
        count = rows.size or self.count
        (places,) = self._upload((rows,), stream)
        last = self._backend.bound(self.last, stream)
        self.late_kernel().run(
            count * self.width, count, x, slots, walls, copies, noise, self._coefs, places,
            self.width, last, self._decay_logs(stream), self._past.base, t + 1, before, 0.0,
        )  # fmt: skip

    def late_kernel(self) -> Kernel:
        """Return the kernel that applies missed steps to rows."""
        return self._backend.catch_up(self._late, self._layout, self._method.rowwise, self._fades)

    @property
    def _number(self) -> DType:
        return np.dtype(np.float64 if self._layout.x == "float64" else np.float32)

    @property
    def _fades(self) -> bool:
        return self.lazy and bool(self._method.weight_decay)

    def _decay_logs(self, stream: Stream) -> Array:
        logs, known, *_ = self._past.sums
        if not self._fades:
            return self._mirror(_NO_NUMBERS, 0, stream)
        return self._mirror(logs, known, stream)


_nothing = partial(bool)


class _Past:
    """The factor of decay of a row since a step: sums of logarithms, one for each step."""

    def __init__(self, base: int) -> None:
        self.base = base
        # The sums, the number of steps, the last sum and its rounding error: in one tuple, so that
        # an interrupt finds a step added completely or not at all.
        self.sums = np.zeros(64), 1, 0.0, 0.0

    def extend(self, t: int, method: Method) -> None:
        """Add the steps up to ``t``."""
        logs, known, whole, lost = self.sums
        while known <= t - self.base:
            if known == logs.size:
                logs = np.concatenate([logs, np.zeros(logs.size)])
            lr = method.lr_at(self.base + known)
            (keep,) = method.decay_coefficients(lr, method.weight_decay)
            if keep <= 0:
                raise ValueError(
                    f"lr * weight_decay is {lr * method.weight_decay:g}, expected less than 1: "
                    "nothing would be left of a row"
                )
            # Neumaier's summation: differences of the sums are as accurate as the logarithms.
            change, before = log(keep), whole
            whole = before + change
            small, large = sorted((before, change), key=abs)
            lost += small - (whole - large)
            logs[known] = whole + lost
            known += 1
            self.sums = logs, known, whole, lost
