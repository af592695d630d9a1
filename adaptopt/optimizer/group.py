"""A group: parameters that share a method and a proximal map, in one flat buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Protocol, TypeGuard

import numpy as np

from ..arrays import Array, DType, check_fits, compute_dtype, storage
from ..kernels.parallel import THREADED_FROM, hands
from ..kernels.plan import Part, Penalty, Plan
from ..kernels.step import DenseStep, Layout
from ..methods.base import Method
from ..placement import Backend, Kernel
from ..prox.base import Proximal
from ..prox.separable import cost_with_penalty, with_penalty
from .clipping import Transformation, total
from .compatible import check_method, parameters_of_map
from .memory import Memory, owner_of
from .places import Places
from .precision import Precision, bfloat16_bits
from .table import RowGradient, Table

# The rows, places and starts of a gradient of all rows.
_ALL_ROWS = (np.zeros(0, np.int64),) * 3

Call = Callable[[], object]
# The numbers that all coordinates of a step share: scalars, coefficients of decay and rule.
Prepared = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


class Counter(Protocol):
    """The counter of steps."""

    t: int


class Group:
    """Parameters that share a method and a proximal map.

    Parameters
    ----------
    flat : Array
        All elements of the parameters, updated in place.
    shapes : sequence of tuple of int
        Shapes of the parameters, in their order in ``flat``.
    method : Method
        The method of the steps.
    prox : Proximal
        The proximal map after each step.
    precision : Precision
        The formats of parameters and state.
    transformation : Transformation
        The transformation of gradients before a step.
    backend : Backend
        The backend of the arrays.
    allocate : callable, optional
        ``allocate(name, n, dtype)`` makes the arrays of the state. By default in memory.
    resumed : bool
        Whether these arrays already hold a state from which to continue.
    """

    def __init__(
        self,
        flat: Array,
        shapes: Sequence[tuple[int, ...]],
        method: Method,
        prox: Proximal,
        precision: Precision,
        transformation: Transformation,
        backend: Backend,
        allocate: Callable[..., Array] | None = None,
        resumed: bool = False,
    ) -> None:
        backend.check_map(prox)
        self.flat, self.backend = flat, backend
        self._penalty: Penalty | None = None
        self.checks_gradients = False  # whether steps check gradients for nonfinite entries
        self.number = compute_dtype(flat.dtype)
        self.places = Places(flat, shapes, backend)
        self.method, self.prox = method, prox
        self.scalars: tuple[float, ...] = method.initial_scalars()
        self._slot_forms = precision.slot_forms(method, self.number)
        decay_coefs, self.coefs = check_method(method, prox, self.number)
        for name, limit in zip(("clip_value",), transformation.limits, strict=False):
            check_fits(name, limit, self.number)
        given, self.prox_coefs = parameters_of_map(prox, shapes, flat.dtype)

        narrow = flat.dtype.itemsize == 2
        n, x, copies = flat.size, storage(flat), tuple[Array, ...]()
        self.has_master = precision.master and narrow
        if self.has_master:
            make = allocate or (lambda name, n, dtype: backend.empty(n, dtype, flat))
            copies, x = (x,), make("master", n, self.number)
            if not resumed:
                backend.widen(x, flat)
        self._allocate = allocate or (lambda name, n, dtype: backend.empty(n, dtype, x))
        # With one accumulator per row, each parameter has its own group.
        kept = (shapes[0] or (1,))[0] if method.rowwise else n
        slots = tuple(
            self._allocate(name, kept, "uint16" if form == "bfloat16" else form)
            for name, form in zip(method.slots, self._slot_forms, strict=True)
        )
        # Steps store their rates if there is no formula for them, or if a map needs them.
        stores = not method.rate or not prox.is_separable
        stored_rates = tuple(self._allocate("rates", n, self.number) for _ in range(stores))
        prox_arrays = tuple(backend.from_host(array, flat) for array in given)
        self.whole = Part.of(x, slots, prox_arrays, stored_rates, copies, 0)
        self._parts = {(0, n): self.whole}
        if not resumed:
            self._fill_state(keep_zeros=allocate is not None)
        self._tables: dict[int, Table] = {}
        self._maps: list[Callable[..., None]] | None = None
        # Whether a step needs Python on the host, for a map that ties coordinates together.
        self.is_tied = not (prox.is_separable or backend.is_asynchronous)
        stochastic = precision.rounding == "stochastic" and narrow
        self.draws = stochastic or "bfloat16" in self._slot_forms
        self.functions = (transformation.function, method.decay, method.rule, prox.prox)
        counts = transformation.count, len(decay_coefs), len(self.coefs), len(self.prox_coefs)
        self.layout = Layout(
            x=self.number.name if copies else flat.dtype.name,
            gradient=flat.dtype.name,
            slots=self._slot_forms,
            prox_arrays=len(prox_arrays),
            rates=len(stored_rates),
            copies=(flat.dtype.name,) if copies else (),
            rounding="stochastic" if stochastic else "nearest",
            noise=self.draws,
            coefs=counts,
        )
        self._make_kernels()
        self._is_plain = owner_of(flat) is not None and not (
            len(shapes) > 1
            or narrow
            or method.rowwise
            or method.scalars
            or transformation.count
            or not prox.is_separable
            or self.draws
        )

    @property
    def penalty(self) -> Penalty:
        """What the objective has beside the user's function: of the map, and the method's own."""
        if self._penalty is None:
            prox, penalty = self.prox, self.method.penalty
            residual, cost, coefs = prox.residual, prox.cost, self.prox_coefs
            if any(penalty):
                residual, cost = with_penalty(prox.residual), cost_with_penalty(prox.cost)
                coefs = (*coefs, *penalty)
            layout = self.layout._replace(coefs=(*self.layout.coefs[:3], len(coefs)))
            is_zero = not any(penalty) and prox.cost is Proximal.cost
            self._penalty = Penalty(cost, residual, layout, coefs, is_zero)
        return self._penalty

    def _make_kernels(self) -> None:
        self._penalty = None
        # By the dtype of the gradient, because getting its name takes 2 us.
        self._norms: dict[DType, Callable[..., float]] = {}
        self._steps: dict[DType, Kernel] = {}
        if not self.method.rowwise:
            self._step: DenseStep = self.backend.dense_step(self.functions, self.layout)
            self._steps[self.flat.dtype] = self._step

    def _fill_state(self, keep_zeros: bool = False) -> None:
        """Write the initial state. New files already hold zeros."""
        initial, fill = self.method.initial_state(), self.backend.fill
        for name, slot, form in zip(
            self.method.slots, self.whole.slots, self._slot_forms, strict=True
        ):
            value = initial.get(name, 0.0)
            if value or not keep_zeros:
                fill(slot, bfloat16_bits(value) if form == "bfloat16" else value)
        for array in self.whole.stored_rates:
            fill(array, np.nan)

    def reset(self) -> None:
        """Forget all steps."""
        self._fill_state()
        self.scalars = self.method.initial_scalars()
        self.coefs = self.method.coefficients_at(1)[1]

    def go_on(self, t: int, scalars: tuple[float, ...]) -> None:
        """Adopt a position after step ``t``, whose state is already in the arrays."""
        self.scalars = scalars
        if t:
            self.coefs = self.method.coefficients_at(t, scalars)[1]

    def with_method(self, method: Method, first: int, end: int) -> Group:
        """Return a group of some of the parameters, in the same arrays, with another method.

        The method has the same state, and uses the same random numbers.
        """
        new, spans = copy(self), self.places.spans
        lo, hi = (spans[first][0], spans[end - 1][1]) if end > first else (0, 0)
        new.flat = self.flat[lo:hi]
        new.places = self.places.some(new.flat, first, end)
        # A state with one number per row belongs to the whole group.
        new.whole = self.whole if (lo, hi) == (0, self.flat.size) else self.whole.between(lo, hi)
        new._parts, new._maps = {(0, hi - lo): new.whole}, None
        new.method = method
        decay_coefs, new.coefs = check_method(method, self.prox, self.number)
        transform, _, _, prox = self.functions
        new.functions = (transform, method.decay, method.rule, prox)
        before, *_, after = self.layout.coefs
        coefs = (before, len(decay_coefs), len(new.coefs), after)
        new.layout = self.layout._replace(coefs=coefs)
        new._make_kernels()
        new._tables = {
            k - first: table.with_method(
                new.part(*new.places.spans[k - first]), method, new.functions, new.layout
            )
            for k, table in self._tables.items()
            if first <= k < end
        }
        return new

    def compile(self) -> None:
        """Compile a device's step. The host's is compiled when it is taken."""
        if self.method.rowwise:
            self.table(0).kernel(self.flat.dtype.name)
        else:
            self.backend.prepare(self._step, self.flat)
        self.compile_map()

    def compile_map(self) -> None:
        """Compile the proximal map of a device."""
        if not self.prox.is_separable:
            self._tying_maps()

    def plan(self) -> Plan:
        """Return the plan of the steps, for a group of one parameter."""
        (shape,) = self.places.shapes
        return Plan(
            self.method,
            self.prox,
            shape,
            self.functions,
            self.layout,
            *self.whole[:5],
            self.prox_coefs,
            self.penalty,
        )

    # -- a step ------------------------------------------------------------------------------------

    def takes(self, g: object) -> TypeGuard[np.ndarray]:
        """Return whether a gradient is valid for `step_alone`.

        False means that a longer check is needed.
        """
        if not (
            self._is_plain
            and not self._tables
            and not self.checks_gradients
            and type(g) is np.ndarray
            and g.dtype == self.flat.dtype
            and g.shape == self.places.shapes[0]
        ):
            return False
        flags = g.flags
        if not (flags.c_contiguous and flags.aligned):
            return False
        return self.memory.is_apart(g) or any(g is place for place in self.places.shaped)

    def step_alone(
        self, counts: Counter, prepared: tuple[tuple[float, ...], tuple[float, ...]], g: np.ndarray
    ) -> None:
        """Step along the gradient of the only parameter, if `takes` accepts it, and count the step.

        It avoids overhead that takes longer than the kernel does for 10,000 elements.
        """
        decay, coefs = prepared
        part = self.whole
        x, arrays, n = part.x, part.arrays, part.x.size
        numbers = decay + coefs + self.prox_coefs
        g = g if g.ndim == 1 else g.reshape(-1)
        if n < THREADED_FROM:
            run = self._step.serial
            # Python checks for Ctrl-C after calls, and traces lines. This is one line with the call
            # last, so the step is counted if and only if it is taken.
            # fmt: off
            counts.t += 1; self.coefs = coefs; run(x, g, arrays, numbers, (), 0, n)  # noqa: E702
            # fmt: on
            return
        with hands(n) as threads:
            run = self._step.call(threads, n, n, x, g, arrays, numbers, ())
            # fmt: off
            counts.t += 1; self.coefs = coefs; run()  # noqa: E702
            # fmt: on

    def prepare(
        self, t: int, gradients: Sequence[Array], factor: float, scalars: tuple[float, ...]
    ) -> Prepared:
        """Prepare step ``t``, before anything is modified.

        ``scalars`` are those of the previous step.
        """
        if scalars:
            measured: tuple[float, ...] = ()
            if self.method.measures:
                measured = (total(self.places.squares(gradients, factor)),)
            scalars = self.method.carried(t, scalars, measured)
        decay_coefs, coefs = self.method.coefficients_at(t, scalars)
        return scalars, decay_coefs, coefs

    def calls(
        self,
        gradients: Sequence[Array],
        first: int,
        end: int,
        prepared: Prepared,
        transform_coefs: tuple[float, ...],
        key: int,
        threads: int,
    ) -> list[Call]:
        """Return the calls that step the parameters ``first <= k < end`` along flat gradients.

        On the host these are calls of compiled code, except for maps that tie coordinates together.
        """
        _, decay_coefs, coefs = prepared
        if self.method.rowwise:
            rest = (transform_coefs, decay_coefs, coefs)
            g = RowGradient(*_ALL_ROWS, gradients[0])
            return [self.row_call(0, g, 0, coefs, rest, key, threads)]
        numbers = transform_coefs + decay_coefs + coefs + self.prox_coefs
        made = [
            self._call(part, g, numbers, key, threads)
            for part, g in self.stretches(gradients, first, end)
        ]
        if not self.prox.is_separable:
            made.append(partial(self.apply_map, gradients, first, end))
        return made

    def _call(
        self, part: Part, g: Array, numbers: tuple[float, ...], key: int, threads: int
    ) -> Call:
        """Return the call that steps some coordinates."""
        dtype = g.dtype
        step = self._steps.get(dtype)
        if step is None:
            layout = self.layout._replace(gradient=dtype.name)
            step = self._steps[dtype] = self.backend.dense_step(self.functions, layout)
        if dtype.itemsize == 2:
            g = storage(g)
        noise = (key, part.start) if self.draws else ()
        n, x = part.x.size, part.x
        return step.call(threads, n, n, x, g, part.arrays, numbers, noise)

    def row_call(
        self,
        k: int,
        g: RowGradient,
        t: int,
        before: tuple[float, ...],
        rest: tuple[tuple[float, ...], ...],
        key: int,
        threads: int,
    ) -> Call:
        """Return the call that takes step ``t`` along the gradient of some rows of a parameter."""
        return self.table(k).call(g, t, before, (key,) if self.draws else (), rest, threads)

    def standing(self, prepared: Prepared) -> list[Call]:
        """Return the calls that make the prepared numbers those of the last step."""
        scalars, _, coefs = prepared
        made: list[Call] = [partial(setattr, self, "coefs", coefs)]
        if scalars:
            made.append(partial(setattr, self, "scalars", scalars))
        return made

    def stretches(
        self, gradients: Sequence[Array], first: int, end: int
    ) -> list[tuple[Part, Array]]:
        """Split parameters into few parts, and return the parts with their gradients."""
        found = self.places.stretches(gradients, first, end)
        return [(self.part(lo, hi), g) for lo, hi, g in found]

    def part(self, lo: int, hi: int) -> Part:
        """Return the arrays of the coordinates ``lo <= i < hi``."""
        if (lo, hi) not in self._parts:
            self._parts[lo, hi] = self.whole.between(lo, hi)
        return self._parts[lo, hi]

    def table(self, k: int) -> Table:
        """Return one parameter by rows."""
        if k not in self._tables:
            self._tables[k] = Table(
                self.part(*self.places.spans[k]),
                self.places.shapes[k],
                self.method,
                self.prox,
                self.functions,
                self.layout,
                self.prox_coefs,
                self._allocate,
                self.backend,
            )
        return self._tables[k]

    def apply_map(
        self, gradients: Sequence[Array], first: int, end: int, counts: Array = None
    ) -> None:
        """Apply a map that ties the coordinates of a parameter together, in the step's metric.

        A device does this on the streams of the gradients, depending on ``counts``.
        """
        maps, stream_of = self._tying_maps(), self.backend.stream_of
        for k in range(first, end):
            part = self.part(*self.places.spans[k])
            maps[k](stream_of(gradients[k]), part.x, part.stored_rates[0], part.copies, counts)

    def _tying_maps(self) -> list[Callable[..., None]]:
        """Return the map of each parameter."""
        if self._maps is None:
            make = self.backend.tying_map
            self._maps = [
                make(self.prox, shape, self.layout, self.flat) for shape in self.places.shapes
            ]
        return self._maps

    # -- queries -----------------------------------------------------------------------------------

    def remember(self, memory: Memory) -> None:
        """Record the memory of the arrays in ``memory``, which all groups of an optimizer share."""
        # Not the group itself: the memory would hold it, and be held by it.
        self.memory, self._mark = memory, object()
        memory.add("params", (self.flat,), self._mark)
        memory.add("opt.state", self.written()[0 if self.has_master else 1 :], self._mark)
        self.places.remember(memory, self._mark)

    def written(self) -> tuple[Array, ...]:
        """Return the arrays that a step writes to."""
        part = self.whole
        return part.x, *part.slots, *part.stored_rates, *part.copies

    def refuse_overlap(self, name: str, g: Array, k: int | None) -> None:
        """Raise if a gradient overlaps other arrays. That of ``k`` may lie in its buffer."""
        place = None if k is None else self.places.spans[k][0]
        self.memory.refuse_overlap(name, g, self._mark, place)

    def norm_kernel(self, dtype: DType) -> Callable[..., float]:
        """Return the kernel of the residual norm for gradients of a dtype."""
        kernel = self._norms.get(dtype)
        if kernel is None:
            layout = self.penalty.layout._replace(gradient=dtype.name)
            kernel = self._norms[dtype] = self.backend.norm_kernel(self.penalty.residual, layout)
        return kernel
