"""Steps on rows of a table for CUDA: a team of threads per row, one next to the other along it.

They compute what the CPU's kernels compute, in the same order, so the numbers are the same.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import types

from ..arrays import Array
from ..kernels.batch_rows import make_sum_at
from ..kernels.compile import array_type, inlinable, memoised, number_type, tuple_of
from ..kernels.idle import make_gap, make_idle_rate, make_missed, make_missed_by_row
from ..kernels.step import READ, Layout, make_coordinate, step_parts, step_types
from ..kernels.table import LANES, make_row_rate, make_square, scale_for
from ..kernels.tuples import gather, scatter
from ..scalar import ScalarFunction
from .arity import taking
from .launch import ROWS, DeviceKernel, cuda, device_of, rows_launch_size
from .step import taking_step, writable

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Partial sums of the rows of a block.
PARTS = ROWS * LANES

# In all kernels, the threads of a block run the loop over rows together, even threads without a
# row, because they synchronise. The whole team of a row reads the row's last step before one of
# its threads writes it.


def make_device_rows(
    transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x,
    idle, rate, repeat, lazy, fades,
):  # fmt: skip
    """Step on rows with one accumulator per coordinate."""
    coordinate = inlinable(
        make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x), True
    )
    stored = (read_x, write_x, write_copy, draw, after_x)
    missed = inlinable(make_missed(*stored, idle, rate, repeat), True)
    gap, sum_at = inlinable(make_gap(fades), True), inlinable(make_sum_at(read_g), True)

    def device_rows(
        x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs, coefs,
        prox_coefs, rows, order, starts, width, last, logs, base, now, before, like, count,
    ):  # fmt: skip
        together = uintp(cuda.blockDim.y)
        for at in range(
            uintp(uintp(cuda.blockIdx.x) * together), count, uintp(uintp(cuda.gridDim.x) * together)
        ):
            u = uintp(at + uintp(cuda.threadIdx.y))
            here = u < count
            row = uintp(rows[u]) if here else uintp(0)
            gone = np.int64(0)
            if lazy:
                if here:
                    gone = now - np.int64(1) - last[row]
                cuda.syncthreads()
                if here and cuda.threadIdx.x == 0:
                    last[row] = now
            if here:
                (times, kept) = gap(gone, now, logs, base, like)
                first, stop = uintp(starts[u]), uintp(starts[u + uintp(1)])
                for j in range(uintp(cuda.threadIdx.x), width, uintp(cuda.blockDim.x)):
                    i = uintp(uintp(row * width) + j)
                    if lazy and gone > 0:
                        missed(
                            i, times, kept, x, slots, prox_arrays, copies, noise, prox_coefs, before
                        )
                    coordinate(
                        i, read_x(x[i]), sum_at(g, order, first, stop, width, j, like),
                        gather(slots, i), x, slots, prox_arrays, rates, copies,
                        draw(np.uint32(i), *noise), transform_coefs, decay_coefs, coefs,
                        prox_coefs,
                    )  # fmt: skip

    return device_rows


def make_device_shared_rows(
    number, transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x,
    idle, rate, repeat, along, lazy, fades,
):  # fmt: skip
    """Step on rows with one accumulator per row; on all rows if no ``rows`` are given."""
    coordinate = inlinable(
        make_coordinate(transform, decay, along, prox, write_x, write_copy, after_x), True
    )
    stored = (read_x, write_x, write_copy, draw, after_x)
    missed_by_row = inlinable(make_missed_by_row(*stored, repeat), True)
    idle_rate = inlinable(make_idle_rate(idle, rate), True)
    square = inlinable(make_square(transform, decay), True)
    row_rate, scale_of = inlinable(make_row_rate(rule), True), inlinable(scale_for, True)
    gap, sum_at = inlinable(make_gap(fades), True), inlinable(make_sum_at(read_g), True)

    def gradient_at(g, some, u, order, first, stop, width, j, like):
        if some:
            return sum_at(g, order, first, stop, width, j, like)
        return read_g(g[uintp(uintp(u * width) + j)])

    gradient = inlinable(gradient_at, True)

    def device_shared_rows(
        x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs, coefs,
        prox_coefs, rows, order, starts, width, last, logs, base, now, before, like, count,
    ):  # fmt: skip
        lanes = cuda.shared.array(PARTS, number)
        row_rates = cuda.shared.array(ROWS, number)
        together, thread = uintp(cuda.blockDim.y), uintp(cuda.threadIdx.x)
        mine = uintp(cuda.threadIdx.y)
        lane = uintp(mine * uintp(LANES))
        team = uintp(cuda.blockDim.x)
        zero = like - like
        scale = scale_of(width, zero)
        whole = uintp(uintp(width // uintp(LANES)) * uintp(LANES))
        some = rows.size > 0
        for at in range(
            uintp(uintp(cuda.blockIdx.x) * together), count, uintp(uintp(cuda.gridDim.x) * together)
        ):
            u = uintp(at + mine)
            here = u < count
            row, first, stop = u, u, u
            if here and some:
                row, first, stop = uintp(rows[u]), uintp(starts[u]), uintp(starts[u + uintp(1)])
            place = uintp(row * width)
            gone = np.int64(0)
            if lazy:
                if here:
                    gone = now - np.int64(1) - last[row]
                cuda.syncthreads()
                if here and thread == 0:
                    last[row] = now
                if here and gone > 0:
                    (times, kept) = gap(gone, now, logs, base, like)
                    rate_i = idle_rate(row, times, kept, slots, before)
                    for j in range(thread, width, team):
                        missed_by_row(
                            uintp(place + j), times, kept, rate_i, x, prox_arrays, copies, noise,
                            prox_coefs,
                        )  # fmt: skip
                cuda.syncthreads()
            if here:
                # The partial sums of the CPU's vectors. The first also adds the remaining elements.
                for q in range(thread, uintp(LANES), team):
                    partial_sum = zero
                    for k in range(q, whole, uintp(LANES)):
                        partial_sum += square(
                            read_x(x[uintp(place + k)]),
                            gradient(g, some, u, order, first, stop, width, k, like),
                            scale, transform_coefs, decay_coefs,
                        )  # fmt: skip
                    if q == uintp(0):
                        for k in range(whole, width):
                            partial_sum += square(
                                read_x(x[uintp(place + k)]),
                                gradient(g, some, u, order, first, stop, width, k, like),
                                scale, transform_coefs, decay_coefs,
                            )  # fmt: skip
                    lanes[uintp(lane + q)] = partial_sum
            cuda.syncthreads()
            if here and thread == 0:
                total = zero
                for q in range(LANES):
                    total += lanes[uintp(lane + uintp(q))]
                found, new = row_rate(row, total, width, scale, slots, coefs, zero)
                scatter(slots, row, new, draw(np.uint32(row), *noise))
                row_rates[mine] = found
            cuda.syncthreads()
            if here:
                for j in range(thread, width, team):
                    i = uintp(place + j)
                    coordinate(
                        i, read_x(x[i]), gradient(g, some, u, order, first, stop, width, j, like),
                        (), x, (), prox_arrays, rates, copies, draw(np.uint32(i), *noise),
                        transform_coefs, decay_coefs, (row_rates[mine],), prox_coefs,
                    )  # fmt: skip

    return device_shared_rows


def make_device_catch_up(
    read_x, write_x, write_copy, draw, after_x, idle, rate, repeat, shared, fades
):
    """Apply missed steps to rows, up to the one before ``now``; to all rows if none are given."""
    stored = (read_x, write_x, write_copy, draw, after_x)
    missed = inlinable(make_missed(*stored, idle, rate, repeat), True)
    missed_by_row = inlinable(make_missed_by_row(*stored, repeat), True)
    idle_rate = inlinable(make_idle_rate(idle, rate), True)
    gap = inlinable(make_gap(fades), True)

    def device_catch_up(
        x, slots, prox_arrays, copies, noise, prox_coefs, rows, width, last, logs, base, now,
        before, like, count,
    ):  # fmt: skip
        together = uintp(cuda.blockDim.y)
        for at in range(
            uintp(uintp(cuda.blockIdx.x) * together), count, uintp(uintp(cuda.gridDim.x) * together)
        ):
            u = uintp(at + uintp(cuda.threadIdx.y))
            here = u < count
            row = u
            if here and rows.size > 0:
                row = uintp(rows[u])
            gone = np.int64(0)
            if here:
                gone = now - np.int64(1) - last[row]
            cuda.syncthreads()
            if here and cuda.threadIdx.x == 0:
                last[row] = now - np.int64(1)
            if gone > 0:
                (times, kept) = gap(gone, now, logs, base, like)
                rate_i = like
                if shared:
                    rate_i = idle_rate(row, times, kept, slots, before)
                for j in range(uintp(cuda.threadIdx.x), width, uintp(cuda.blockDim.x)):
                    i = uintp(uintp(row * width) + j)
                    if shared:
                        missed_by_row(
                            i, times, kept, rate_i, x, prox_arrays, copies, noise, prox_coefs
                        )
                    else:
                        missed(
                            i, times, kept, x, slots, prox_arrays, copies, noise, prox_coefs, before
                        )

    return device_catch_up


def make_device_sums(read):
    """Sum the gradients of each row of a batch, in the order of their positions."""
    sum_at = inlinable(make_sum_at(read), True)

    def device_sums(g, order, starts, width, out, like, count):
        together = uintp(cuda.blockDim.y)
        for u in range(
            uintp(uintp(uintp(cuda.blockIdx.x) * together) + uintp(cuda.threadIdx.y)),
            count,
            uintp(uintp(cuda.gridDim.x) * together),
        ):
            first, stop = uintp(starts[u]), uintp(starts[u + uintp(1)])
            for j in range(uintp(cuda.threadIdx.x), width, uintp(cuda.blockDim.x)):
                out[uintp(uintp(u * width) + j)] = sum_at(g, order, first, stop, width, j, like)

    return device_sums


# -- with the arguments of the CPU's kernels -------------------------------------------------------


def _taking_late(late: tuple[ScalarFunction, ...], layout: Layout) -> list[ScalarFunction]:
    """Return idle form, rate and repeated prox without ``*args``."""
    slots = len(layout.slots) + layout.coefs[2]
    given = (2 + slots, slots, 3 + layout.prox_arrays + layout.coefs[3])
    return [taking(function, count) for function, count in zip(late, given, strict=True)]


@memoised
class RowStep(DeviceKernel):
    """One method's step on rows of a device's table; the parameters are those of the CPU's."""

    def __init__(
        self,
        functions: tuple[ScalarFunction, ...],
        late: tuple[ScalarFunction, ...],
        along: ScalarFunction,
        layout: Layout,
        lazy: bool,
        shared: bool,
        fades: bool,
    ) -> None:
        number, places = layout.number, types.int64[::1]
        parts = step_parts(taking_step(functions, layout), layout)[:-1]
        flags = (int(lazy), int(fades))
        make = partial(make_device_shared_rows, number) if shared else make_device_rows
        super().__init__(
            make,
            (*parts, *_taking_late(late, layout), *((along,) if shared else ()), *flags),
            (
                *writable(step_types(layout)),
                *(places, places, places),
                types.uintp,
                places,
                types.float64[::1],
                *(types.int64, types.int64),
                tuple_of(number, layout.coefs[2]),
                number,
                types.uintp,
            ),
        )

    def run(self, elements: int, count: int, x: Array, g: Array, *arguments: object) -> None:
        """Step ``count`` rows with ``elements`` elements in all, on the stream of ``g``."""
        *rest, _scratch, _stride, like = arguments  # sums stay in registers
        if elements:
            with device_of(x):
                size = rows_launch_size(count, elements // count)
                self.launch(size, g.stream, x, g, *rest, like, count)


@memoised
class CatchUp(DeviceKernel):
    """Apply missed steps to distinct rows. The parameters are those of `RowStep`."""

    def __init__(
        self, late: tuple[ScalarFunction, ...], layout: Layout, shared: bool, fades: bool
    ) -> None:
        x, _, slots, prox_arrays, _, copies, noise, *_, prox_coefs = step_types(layout)
        read_x, _, write_x, write_copy, draw, after_x, _ = step_parts((), layout)
        number, places = layout.number, types.int64[::1]
        stored = (read_x, write_x, write_copy, draw, after_x)
        super().__init__(
            make_device_catch_up,
            (*stored, *_taking_late(late, layout), int(shared), int(fades)),
            (
                *(x, slots, prox_arrays, copies, noise, prox_coefs),
                places,
                types.uintp,
                places,
                types.float64[::1],
                *(types.int64, types.int64),
                tuple_of(number, layout.coefs[2]),
                number,
                types.uintp,
            ),
        )

    def run(self, elements: int, count: int, x: Array, *arguments: object) -> None:
        """Apply missed steps to ``count`` rows, on the stream of ``last``."""
        last: Array = arguments[-6]
        if elements:
            with device_of(x):
                size = rows_launch_size(count, elements // count)
                self.launch(size, last.stream, x, *arguments, count)


@memoised
class RowSums(DeviceKernel):
    """The sums of the gradients of each row; the parameters are those of the CPU's."""

    def __init__(self, gradient: str, number: str) -> None:
        places = types.int64[::1]
        kinds = (array_type(gradient), places, places, types.uintp, array_type(number))
        super().__init__(
            make_device_sums, (READ[gradient],), (*kinds, number_type(number), types.uintp)
        )

    def run(
        self,
        elements: int,
        count: int,
        g: Array,
        order: Array,
        starts: Array,
        width: int,
        out: Array,
    ) -> None:
        """Sum the gradients, on the stream of ``g``."""
        if out.size:
            with device_of(g):
                size = rows_launch_size(count, width)
                self.launch(size, g.stream, g, order, starts, width, out, 0.0, count)
