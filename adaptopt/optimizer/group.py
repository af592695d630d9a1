"""A group: parameters that share a method and a proximal map, in one flat buffer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from itertools import pairwise
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np

from ..arrays import check_fits, compute_dtype, storage
from ..kernels.parallel import THREADED_FROM, hands
from ..kernels.plan import Penalty, Plan
from ..kernels.reductions import squares_of_parts
from ..kernels.step import Layout
from ..placement import Backend
from ..prox.base import Proximal
from ..prox.separable import cost_with_penalty, l1_gradients, with_penalty
from .clipping import Transformation, total
from .precision import Precision
from .state import Entry
from .table import RowGradient, Table

# What is asked of thousands of small gradients in each step, at some 50 ns each.
_SHAPE, _DTYPE, _BASE = attrgetter("shape"), attrgetter("dtype"), attrgetter("base")
_LIES_WELL = attrgetter("flags.c_contiguous", "flags.aligned")


# The rows, places and starts of a gradient of all rows.
_ALL_ROWS = (np.zeros(0, np.int64),) * 3


class Part(NamedTuple):
    """The arrays of some coordinates of a group that lie side by side, as a kernel takes them."""

    x: np.ndarray
    slots: tuple[np.ndarray, ...]
    walls: tuple[np.ndarray, ...]
    rates: tuple[np.ndarray, ...]
    copies: tuple[np.ndarray, ...]
    start: int
    arrays: tuple[np.ndarray, ...]  # slots, walls, rates and copies, one after the other


def _part_of(x: Any, slots: Any, walls: Any, rates: Any, copies: Any, start: int) -> Part:
    return Part(x, slots, walls, rates, copies, start, (*slots, *walls, *rates, *copies))


# What a step needs that is the same for all coordinates: scalars, coefficients of decay and rule.
Prepared = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


class Group:
    """Parameters that share a method and a proximal map.

    Parameters
    ----------
    flat : ndarray
        All their elements, updated in place.
    shapes : sequence of tuple of int
        Their shapes, in the order in which they lie in ``flat``.
    method : Method
        What to do with them.
    prox : Proximal
        What to do after it.
    precision : Precision
        How to keep parameters and state.
    transformation : Transformation
        What is done to the gradients first.
    backend : Backend
        What works where they lie.
    allocate : callable, optional
        ``allocate(name, n, dtype)`` makes the arrays of the state; by default in memory.
    resumed : bool
        Whether they hold a state already, from which to go on.
    """

    def __init__(
        self,
        flat: np.ndarray,
        shapes: Sequence[tuple[int, ...]],
        method: Any,
        prox: Proximal,
        precision: Precision,
        transformation: Transformation,
        backend: Backend,
        allocate: Callable[..., np.ndarray] | None = None,
        resumed: bool = False,
    ) -> None:
        backend.check_map(prox)
        self.flat, self.backend = flat, backend
        self.looks_closely = False  # whether steps ask what a gradient holds
        self.number = compute_dtype(flat.dtype)
        self._lay_out(shapes)
        self.scalars: tuple[float, ...] = method.initial_scalars()
        self.prox = prox
        decay_coefs = self._read_method(method)
        for name, limit in zip(("clip_value",), transformation.limits, strict=False):
            check_fits(name, limit, self.number)

        n = flat.size
        self._tables: dict[int, Table] = {}
        narrow = flat.dtype.itemsize == 2
        self.has_master = precision.master and narrow
        x = storage(flat)
        copies: tuple[np.ndarray, ...] = ()
        if self.has_master:
            wide = (
                allocate("master", n, self.number)
                if allocate
                else backend.empty(n, self.number, flat)
            )
            copies, x = (x,), wide
            if not resumed:
                backend.widen(x, flat)
        narrow_slots = method.second_moments if precision.state_dtype else ()
        slot_forms = tuple(
            "bfloat16" if name in narrow_slots else self.number.name for name in method.slots
        )
        self._slot_forms = slot_forms
        self._allocate = allocate or (lambda name, n, dtype: backend.empty(n, dtype, x))
        # A method with one accumulator a row has a group for each parameter.
        kept = (self._shapes[0] or (1,))[0] if method.rowwise else n
        slots = []
        for name, form in zip(method.slots, slot_forms, strict=True):
            slots.append(self._allocate(name, kept, "uint16" if form == "bfloat16" else form))
        # A method without a formula for its rates has every step write them down.
        # So does one whose step a map goes on with after the kernel.
        # Whether a step needs Python on the host, for a map that ties coordinates together.
        self.is_tied = not (prox.is_separable or backend.is_asynchronous)
        written = not method.rate or not prox.is_separable
        rates = tuple(self._allocate("rates", n, self.number) for _ in range(written))
        walls, self.prox_coefs = self._walls_of(prox)
        self._whole = _part_of(x, tuple(slots), walls, rates, copies, 0)
        self._parts: dict[tuple[int, int], Part] = {(0, n): self._whole}
        if not resumed:
            self._fill_state(keep_zeros=allocate is not None)
        self._buffer: np.ndarray | None = None
        self._places: list[np.ndarray] = []  # of gradients in the buffer: flat, and in shape
        self._shaped_places: list[np.ndarray] = []
        self._maps: list[Callable[..., None]] | None = None

        stochastic = precision.rounding == "stochastic" and narrow
        self.draws = stochastic or "bfloat16" in slot_forms
        self._transform = transformation.function
        self.functions = (self._transform, method.decay, method.rule, prox.prox)
        self.layout = Layout(
            x=self.number.name if copies else flat.dtype.name,
            gradient=flat.dtype.name,
            slots=slot_forms,
            walls=len(walls),
            rates=len(rates),
            copies=(flat.dtype.name,) if copies else (),
            rounding="stochastic" if stochastic else "nearest",
            noise=self.draws,
            coefs=(
                transformation.count,
                len(decay_coefs),
                len(self.coefs),
                len(self.prox_coefs),
            ),
        )
        self._make_kernels()
        self.remember()
        self._is_plain = _owner(flat) is not None and not (
            len(shapes) > 1
            or narrow
            or method.rowwise
            or method.scalars
            or transformation.count
            or not prox.is_separable
            or self.draws
        )

    def _lay_out(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Say where parameters of these shapes lie, one after the other."""
        ends = np.cumsum([0, *[int(np.prod(shape)) for shape in shapes]]).tolist()
        self.spans = list(pairwise(ends))
        self._shapes = list(shapes)
        self._starts = np.array(ends)
        self._large = [
            k for k, (lo, hi) in enumerate(self.spans) if hi - lo >= self.backend.worth_a_call
        ]
        self._small = sorted(set(range(len(self.spans))) - set(self._large))

    def _read_method(self, method: Any) -> tuple[float, ...]:
        """Check a method, take it, and return the coefficients of its decay."""
        if method.from_sums and self.prox.has_penalty:
            raise ValueError(
                f"prox is {self.prox!r} with {method!r}, expected a map without a penalty, such as "
                "Box(0, 1): the point is computed anew from sums of gradients, so a penalty is "
                "forgotten; the method's own l1 and l2 are not"
            )
        if not (self.prox.is_separable or method.takes_tied_maps):
            raise ValueError(
                f"prox is a {type(self.prox).__name__} with {method!r}, expected l1 and l2 0.0: "
                "where the method's own penalty moves the point, its rates are not those in which "
                "such a map is a projection"
            )
        self.method = method
        decay_coefs: tuple[float, ...]
        decay_coefs, self.coefs = method.coefficients_at(1)
        _check_rule(method, self.coefs)
        self._check_hyperparameters()
        return decay_coefs

    def _make_kernels(self) -> None:
        prox, penalty = self.prox, self.method.penalty
        residual, cost, coefs = prox.residual, prox.cost, self.prox_coefs
        # What is minimised has the penalty that the method itself brings, too.
        if any(penalty):
            residual, cost = with_penalty(prox.residual), cost_with_penalty(prox.cost)
            coefs = (*coefs, *penalty)
        layout = self.layout._replace(coefs=(*self.layout.coefs[:3], len(coefs)))
        is_zero = not any(penalty) and prox.cost is Proximal.cost
        self._penalty = Penalty(cost, residual, layout, coefs, is_zero)
        # By the dtype of the gradient, whose name takes 2 us to ask for.
        self._norms: dict[np.dtype[Any], Any] = {}
        self._steps: dict[np.dtype[Any], Any] = {}
        if not self.method.rowwise:
            self._step = self.backend.dense_step(self.functions, self.layout)
            self._steps[self.flat.dtype] = self._step

    def _fill_state(self, keep_zeros: bool = False) -> None:
        """Write the state before the first step; new files hold zeros, at no cost."""
        initial = self.method.initial_state()
        part = self._whole
        for name, slot, form in zip(self.method.slots, part.slots, self._slot_forms, strict=True):
            value = initial.get(name, 0.0)
            if value or not keep_zeros:
                self.backend.fill(slot, _bfloat16_bits(value) if form == "bfloat16" else value)
        for array in part.rates:
            self.backend.fill(array, np.nan)

    def reset(self) -> None:
        """Stand before the first step."""
        self._fill_state()
        self.scalars = self.method.initial_scalars()
        self.coefs = self.method.coefficients_at(1)[1]

    def with_method(self, method: Any, first: int, end: int) -> Group:
        """Return a group of some of the parameters, in the same arrays, with another method.

        The method keeps the same state, and draws the same random numbers.
        """
        new = copy(self)
        lo, hi = (self.spans[first][0], self.spans[end - 1][1]) if end > first else (0, 0)
        new.flat = self.flat[lo:hi]
        new._lay_out(self._shapes[first:end])
        x, slots, walls, rates, copies, start, _ = self._whole
        if (lo, hi) != (0, self.flat.size):
            slots, walls, rates, copies = (
                tuple(array[lo:hi] for array in arrays) for arrays in (slots, walls, rates, copies)
            )
        new._whole = _part_of(x[lo:hi], slots, walls, rates, copies, start + lo)
        new._parts = {(0, hi - lo): new._whole}
        new._maps = None
        if self._buffer is not None:
            new._buffer = self._buffer[lo:hi]
            new._places = self._places[first:end]
            new._shaped_places = self._shaped_places[first:end]
        decay_coefs = new._read_method(method)
        new.functions = (self._transform, method.decay, method.rule, self.prox.prox)
        before, *_, after = self.layout.coefs
        coefs = (before, len(decay_coefs), len(new.coefs), after)
        new.layout = self.layout._replace(coefs=coefs)
        new._make_kernels()
        new._tables = {
            k - first: table.with_method(
                new._part(*new.spans[k - first]), method, new.functions, new.layout
            )
            for k, table in self._tables.items()
            if first <= k < end
        }
        return new

    def compile(self) -> None:
        """Compile a device's step; that of the host is."""
        if self.method.rowwise:
            self.table(0).kernel(self.flat.dtype.name)
        else:
            self.backend.prepare(self._step, self.flat)
        self.compile_map()

    def compile_map(self) -> None:
        """Compile what a device maps parameters with after a step."""
        if not self.prox.is_separable:
            self._tying_maps()

    def plan(self) -> Plan:
        """Return what the steps of a group of one parameter are made of."""
        (shape,) = self._shapes
        part = self._whole
        return Plan(
            self.method,
            self.prox,
            shape,
            self.functions,
            self.layout,
            part.x,
            part.slots,
            part.walls,
            part.rates,
            part.copies,
            self.prox_coefs,
            self._penalty,
        )

    # -- a step ------------------------------------------------------------------------------------

    def takes(self, g: Any) -> bool:
        """Tell whether a gradient can go to `step_alone` as it is: nothing is wrong with it.

        False asks for a closer look.
        """
        if not (
            self._is_plain
            and not self.looks_closely
            and type(g) is np.ndarray
            and g.dtype == self.flat.dtype
            and g.shape == self._shapes[0]
        ):
            return False
        flags = g.flags
        if not (flags.c_contiguous and flags.aligned):
            return False
        return self._lies_apart(g) or any(g is place for place in self._shaped_places)

    def _lies_apart(self, g: np.ndarray) -> bool:
        """Tell whether an array is known to share no memory with the optimizer, by its owner."""
        base = g.base
        owner = g if base is None else base
        return type(owner) is np.ndarray and owner.base is None and id(owner) not in self.owners

    def step_alone(
        self, counts: Any, prepared: tuple[tuple[float, ...], tuple[float, ...]], g: np.ndarray
    ) -> None:
        """Step along the gradient of the only parameter, where `takes` is true of it; count it.

        This is `step` without what such a step does not need, which took longer than the kernel
        does for 10,000 elements.
        """
        decay, coefs = prepared
        part = self._whole
        x, arrays, n = part.x, part.arrays, part.x.size
        numbers = decay + coefs + self.prox_coefs
        g = g if g.ndim == 1 else g.reshape(-1)
        if n < THREADED_FROM:
            run = self._step.serial
            # Python looks for a Ctrl-C after calls, and traces lines: as this is one line with the
            # call last, the step is counted if and only if it is taken.
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
        self,
        t: int,
        gradients: Sequence[np.ndarray],
        factor: float,
        scalars: tuple[float, ...],
    ) -> Prepared:
        """Compute what step ``t`` needs, before anything is modified.

        ``scalars`` are those of the step before.
        """
        if scalars:
            measured: tuple[float, ...] = ()
            if self.method.measures:
                measured = (total(self.squares(gradients, factor)),)
            scalars = self.method.carried(t, scalars, measured)
        decay_coefs, coefs = self.method.coefficients_at(t, scalars)
        return scalars, decay_coefs, coefs

    def calls(
        self,
        gradients: Sequence[Any],
        first: int,
        end: int,
        prepared: Prepared,
        transform_coefs: tuple[float, ...],
        key: int,
        threads: int,
    ) -> list[Callable[[], object]]:
        """Return what steps the parameters ``first <= k < end`` along flat gradients.

        On the host these are calls of compiled code, but for a map that ties coordinates together.
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

    def row_call(
        self,
        k: int,
        g: RowGradient,
        t: int,
        before: tuple[float, ...],
        rest: tuple[Any, ...],
        key: int,
        threads: int,
    ) -> Callable[[], object]:
        """Return what takes step ``t`` along the gradient of some rows of one parameter."""
        return self.table(k).call(g, t, before, (key,) if self.draws else (), rest, threads)

    def standing(self, prepared: Prepared) -> list[Callable[[], object]]:
        """Return what makes the numbers that were prepared those of the last step."""
        scalars, _, coefs = prepared
        made: list[Callable[[], object]] = [partial(setattr, self, "coefs", coefs)]
        if scalars:
            made.append(partial(setattr, self, "scalars", scalars))
        return made

    def written(self) -> tuple[np.ndarray, ...]:
        """Return the arrays that a step writes to."""
        x, slots, _, rates, copies, _, _ = self._whole
        return x, *slots, *rates, *copies

    def table(self, k: int) -> Table:
        """Return one parameter by rows."""
        if k not in self._tables:
            self._tables[k] = Table(
                self._part(*self.spans[k]),
                self._shapes[k],
                self.method,
                self.prox,
                self.functions,
                self.layout,
                self.prox_coefs,
                self._allocate,
                self.backend,
            )
        return self._tables[k]

    def stretches(self, gradients: Sequence[Any], first: int, end: int) -> list[tuple[Part, Any]]:
        """Go through some members with few calls: return the part and the gradient of each.

        Gradients that lie in the group's own buffer go together, where they are used on one
        stream; others from where they are.
        """
        if end - first == 1:
            return [(self._part(*self.spans[first]), gradients[first])]
        if gradients is self._places and isinstance(self.flat, np.ndarray):
            return self._stretch(gradients, first, end)
        gradients = self.together(gradients, first, end)
        found: list[tuple[Part, Any]] = []
        for k in self._elsewhere(gradients, first, end):
            g = gradients[k]
            together = not g.size or self.backend.is_same(g, self._places[k])
            if together and self.backend.on_one_stream(gradients[first], g):
                continue
            found += self._stretch(gradients, first, k)
            first = k
            if not together:
                found.append((self._part(*self.spans[k]), g))
                first = k + 1
        return found + self._stretch(gradients, first, end)

    def _elsewhere(self, gradients: Sequence[Any], first: int, end: int) -> list[int]:
        """Return the members whose gradient is not its place in the buffer."""
        given, places = gradients[first:end], self._places[first:end]
        if all(map(is_, given, places)):  # a tenth of the time of what follows
            return []
        pairs = zip(given, places, strict=True)
        return [k for k, (g, place) in enumerate(pairs, first) if g is not place]

    def _collect(self, gradients: Sequence[np.ndarray], first: int, end: int) -> None:
        """Copy the gradients of some members, one after the other, to their places."""
        if first < end and not all(map(is_, gradients[first:end], self._places[first:end])):
            lo, hi = self.spans[first][0], self.spans[end - 1][1]
            np.concatenate(gradients[first:end], out=self._make_buffer()[lo:hi])

    def _stretch(self, gradients: Sequence[Any], first: int, end: int) -> list[tuple[Part, Any]]:
        """Return the part of some members, and what lies in their places."""
        if first >= end:
            return []
        lo, hi = self.spans[first][0], self.spans[end - 1][1]
        g = self.backend.bound(self._make_buffer()[lo:hi], self.backend.stream_of(gradients[first]))
        return [(self._part(lo, hi), g)] if lo < hi else []

    def together(
        self, gradients: Sequence[Any], first: int = 0, end: int | None = None
    ) -> Sequence[Any]:
        """Copy small gradients to their places in the buffer; return all, those where they are."""
        end = len(gradients) if end is None else end
        if end - first < 2:
            return gradients
        self._make_buffer()
        gathered = list(self._places)
        for k in self._apart(gradients, first, end):
            self._collect(gradients, first, k)
            gathered[k] = gradients[k]
            first = k + 1
        self._collect(gradients, first, end)
        return gathered

    def _apart(self, gradients: Sequence[Any], first: int, end: int) -> Sequence[int]:
        """Return the members whose gradient is not worth a copy, or is of another format."""
        given = gradients[first:end]
        if set(map(_DTYPE, given)) == {self.flat.dtype}:
            if end - first == len(self.spans):
                return self._large
            return [k for k in self._large if first <= k < end]
        return [
            k
            for k, g in enumerate(given, first)
            if g.size >= self.backend.worth_a_call or g.dtype != self.flat.dtype
        ]

    def squares(self, gradients: Sequence[Any], factor: float) -> list[float]:
        """Return the sum of the squares of ``factor`` times the elements of each gradient.

        Those in their places, where `together` puts them, are summed in one call: it counts where
        there are thousands.
        """
        places, small = self._places, self._small
        if not (
            small
            and len(gradients) == len(places)
            and all(gradients[k] is places[k] for k in small)
        ):
            return [self.backend.sum_of_squares(g, factor) for g in gradients]
        sums = np.empty(len(gradients))
        kernel = squares_of_parts(self.flat.dtype.name)
        kernel(storage(self._make_buffer()), self._starts, factor, sums)
        found: list[float] = sums.tolist()
        for k in self._large:
            found[k] = self.backend.sum_of_squares(gradients[k], factor)
        return found

    def apply_map(self, gradients: Sequence[Any], first: int, end: int, counts: Any = None) -> None:
        """Apply a map that ties the coordinates of a parameter together, in the step's metric.

        A device does so on the streams of the gradients, if ``counts`` allow it.
        """
        maps = self._tying_maps()
        for k in range(first, end):
            part, stream = self._part(*self.spans[k]), self.backend.stream_of(gradients[k])
            maps[k](stream, part.x, part.rates[0], part.copies, counts)

    def _tying_maps(self) -> list[Callable[..., None]]:
        """Return what maps each parameter."""
        if self._maps is None:
            make = self.backend.tying_map
            self._maps = [make(self.prox, shape, self.layout, self.flat) for shape in self._shapes]
        return self._maps

    def _call(
        self, part: Part, g: Any, numbers: tuple[float, ...], key: int, threads: int
    ) -> Callable[[], object]:
        """Return what steps some coordinates."""
        dtype = g.dtype
        step = self._steps.get(dtype)
        if step is None:
            layout = self.layout._replace(gradient=dtype.name)
            step = self._steps[dtype] = self.backend.dense_step(self.functions, layout)
        if dtype.itemsize == 2:
            g = storage(g)
        noise = (key, part.start) if self.draws else ()
        n, x = part.x.size, part.x
        made: Callable[[], object] = step.call(threads, n, n, x, g, part.arrays, numbers, noise)
        return made

    def _part(self, lo: int, hi: int) -> Part:
        part = self._parts.get((lo, hi))
        if part is None:
            x, slots, walls, rates, copies, _, _ = self._whole
            slots, walls, rates, copies = (
                tuple(array[lo:hi] for array in arrays) for arrays in (slots, walls, rates, copies)
            )
            part = _part_of(x[lo:hi], slots, walls, rates, copies, lo)
            self._parts[lo, hi] = part
        return part

    def _make_buffer(self) -> np.ndarray:
        """Return the places for all gradients, which are made when they are first wanted."""
        if self._buffer is None:
            buffer = self.backend.empty(self.flat.size, self.flat.dtype, self._whole.x)
            self.backend.fill(storage(buffer), 0)
            self.backend.wait(buffer)
            self._remember("opt.grads", (buffer,))
            self._shaped_places = self.shaped(buffer)
            self._places = [buffer[lo:hi] for lo, hi in self.spans]
            self._buffer = buffer  # last: an interrupt before leaves it to be made
        return self._buffer

    def read(self, given: Sequence[Any]) -> list[np.ndarray] | None:
        """Return gradients of all members, flat, where nothing is wrong with them at first sight.

        None asks for a closer look at each. This one costs a tenth of that, which counts where
        there are thousands of small parameters.
        """
        if self._shaped_places and all(map(is_, given, self._shaped_places)):
            return self._places
        if not (
            set(map(type, given)) == {np.ndarray}
            and list(map(_SHAPE, given)) == self._shapes
            and set(map(_DTYPE, given)) == {self.flat.dtype}
            and set(map(_LIES_WELL, given)) == {(True, True)}
        ):
            return None
        owners = {id(base): base for base in map(_BASE, given) if base is not None}
        if not all(map(self._lies_apart, owners.values())):
            return None
        return [g if g.ndim == 1 else g.reshape(-1) for g in given]

    def refuse_overlap(self, name: str, g: np.ndarray, k: int | None) -> None:
        """Raise if a gradient shares memory with what a step writes, or with others' gradients.

        That of the parameter ``k`` may lie in that parameter's own place.
        """
        first = self.backend.address(g) if g.size else 0
        last = first + g.nbytes
        for at, end, what, group, width in self.memory:
            if last <= at or end <= first:
                continue
            own = k is not None and group is self and g.dtype.itemsize == width
            if not (own and first == at + self.spans[k or 0][0] * width):
                raise ValueError(
                    f"{name} overlaps {what} from another start, expected an array of its own: "
                    "entries would be read after they were updated"
                )

    def remember(self) -> None:
        """Note where the arrays lie, from and to which address, and who owns their memory.

        An optimizer joins what its groups note.
        """
        self.memory: list[tuple[int, int, str, Group, int]] = []
        self.owners: set[int] = set()
        self._remember("params", (self.flat,))
        self._remember("opt.state", self.written()[0 if self.has_master else 1 :])
        if self._buffer is not None:
            self._remember("opt.grads", (self._buffer,))

    def _remember(self, what: str, arrays: Iterable[np.ndarray]) -> None:
        """Note where arrays of the optimizer lie, and who owns their memory."""
        for array in arrays:
            self.owners.add(id(_owner(array)))
            if array.size:
                at = self.backend.address(array)
                self.memory.append((at, at + array.nbytes, what, self, array.dtype.itemsize))

    # -- what can be looked at ---------------------------------------------------------------------

    def shaped(self, array: np.ndarray) -> list[np.ndarray]:
        """Return views of a flat array of the group, one for each parameter, in its shape."""
        return [
            array[lo:hi].reshape(shape)
            for (lo, hi), shape in zip(self.spans, self._shapes, strict=True)
        ]

    def gradients(self) -> list[np.ndarray]:
        """Return the places from which a step takes gradients without copying them."""
        self._make_buffer()
        return self._shaped_places

    def entries(self) -> list[Entry]:
        """Return views of all there is of each parameter."""
        slots = dict(zip(self.method.slots, self._whole.slots, strict=True))
        # What a user need not look at: master copies, and rates that were written down.
        hidden = dict(zip(["rates"], self._whole.rates, strict=False))
        if self.has_master:
            hidden["master"] = self._whole.x
        scalars = dict(zip(self.method.scalars, self.scalars, strict=True))
        return [
            {
                "method": self.method.state_name,
                "scalars": dict(scalars),
                "params": self.flat[lo:hi].reshape(shape),
                **{
                    part: {
                        name: self._of_member(_floats(array), lo, hi, shape)
                        for name, array in arrays.items()
                    }
                    for part, arrays in (("state", slots), ("hidden", hidden))
                },
            }
            for (lo, hi), shape in zip(self.spans, self._shapes, strict=True)
        ]

    def _of_member(self, array: np.ndarray, lo: int, hi: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return a parameter's part of an array: shaped like it, or of one number a row."""
        if array.size == self.flat.size:
            return array[lo:hi].reshape(shape)
        return array.reshape(shape[:1])  # the only parameter of its group

    def learning_rates(self, t: int, coefs: tuple[float, ...] | None = None) -> list[np.ndarray]:
        """Return new arrays of the effective rates of the last step ``t``; NaN where t is 0."""
        coefs = self.coefs if coefs is None else coefs
        out = self.backend.empty(self.flat.size, self.number, self.flat)
        self.backend.wait(self.flat)
        if self._whole.rates:
            self.backend.copy(out, self._whole.rates[0])
        elif t:
            self._compute_rates(out, self._whole.slots, coefs)
        else:
            self.backend.fill(out, np.nan)
        self.backend.wait(out)
        return self.shaped(out)

    def _compute_rates(self, out: np.ndarray, slots: Any, coefs: tuple[float, ...]) -> None:
        by_row = bool(slots) and slots[0].size < out.size  # one for each row
        of_each = self.backend.empty(slots[0].size, self.number, out) if by_row else out
        self.backend.rate_kernel(self.method.rate, self.layout)(of_each, slots, coefs)
        if by_row:
            self.backend.spread(of_each, out)

    def gradient_norms(self, gradients: Sequence[np.ndarray]) -> list[float]:
        """Return how far each parameter is from stationary along its gradient."""
        return [self.gradient_norm(k, g) for k, g in enumerate(gradients)]

    def gradient_norm(self, k: int, g: np.ndarray) -> float:
        """Return how far one parameter is from stationary along its gradient."""
        lo, hi = self.spans[k]
        if not self.prox.is_separable:
            return self._distance(lo, hi, g)
        x, walls = self._whole.x[lo:hi], tuple(wall[lo:hi] for wall in self._whole.walls)
        kernel = self._norms.get(g.dtype)
        if kernel is None:
            layout = self._penalty.layout._replace(gradient=g.dtype.name)
            residual = self._penalty.residual
            kernel = self._norms[g.dtype] = self.backend.norm_kernel(residual, layout)
        return float(kernel(x, storage(g), walls, self._penalty.coefs, 0.0, np.nan))

    def _distance(self, lo: int, hi: int, g: np.ndarray) -> float:
        """Return how far a step of rate 1 would move a coordinate at most."""
        x = self.backend.to_host(self.flat[lo:hi]).astype(np.float64)
        g = self.backend.to_host(g).astype(np.float64)
        if not (np.isfinite(g).all() and np.isfinite(x).all()):
            return math.nan
        l1, l2 = self.method.penalty
        if l1 or l2:
            g = l1_gradients(x, g + l2 * x, l1)  # type: ignore[no-untyped-call]
        return float(np.max(np.abs(x - self.prox.solve(x - g, np.ones(x.shape))), initial=0.0))

    def go_on(self, t: int, scalars: tuple[float, ...]) -> None:
        """Stand after step ``t``, whose state has been written to the arrays."""
        self.scalars = scalars
        if t:
            self.coefs = self.method.coefficients_at(t, scalars)[1]

    # -- making one --------------------------------------------------------------------------------

    def _walls_of(self, prox: Proximal) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        """Return the arrays and scalars of the prox, over all parameters."""
        arrays, scalars = zip(
            *[prox.parameters(shape, self.flat.dtype) for shape in self._shapes], strict=True
        )
        joined = [np.concatenate(pieces) for pieces in zip(*arrays, strict=True)]
        for value in (*joined, *scalars[0]):
            check_fits(f"a parameter of prox, {type(prox).__name__},", value, self.number)
        walls = (wall.astype(self.number) for wall in joined)
        return tuple(self.backend.from_host(wall, self.flat) for wall in walls), scalars[0]

    def _check_hyperparameters(self) -> None:
        for name, value in vars(self.method).items():
            if isinstance(value, float):
                check_fits(name, value, self.number)


def _owner(array: Any) -> np.ndarray | None:
    """Return the NumPy array that owns an array's memory; None where something else does."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array if isinstance(array, np.ndarray) else None


def _floats(array: np.ndarray) -> np.ndarray:
    """Return a slot as numbers: uint16 stands for bfloat16."""
    return array.view("bfloat16") if array.dtype == np.uint16 else array


def _bfloat16_bits(value: float) -> Any:
    return np.array([value]).astype("bfloat16").view(np.uint16)[0]


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
