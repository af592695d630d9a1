"""A step on some rows of a table, at the cost of those rows.

Each row is computed independently: its gradients in the batch are summed in their order, the steps
that it missed are applied in closed form, and the step is taken.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import prange, types
from numba.extending import overload

from ..scalar import ScalarFunction
from .batch_rows import make_summed, share_of
from .compile import inlinable, memoised, prefer_vectors, prefetch, tuple_of
from .idle import make_catch_up_row
from .parallel import Loop
from .step import READ, Layout, make_coordinate, step_parts, step_types
from .tuples import gather, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Number of cache lines of each array to prefetch: the start of the next row, if rows are long (the
# processor prefetches the rest itself), otherwise several rows.
AHEAD = 16
LINE = 64

# In how many partial sums a row's squares are summed.
LANES = 16


def scratch_width(width: int) -> int:
    """Return how many numbers a thread needs for itself: a row, lanes, and a gap to its neighbour.

    Two threads never write to one cache line, or to two neighbours.
    """
    return -(-(width + LANES) // 32) * 32 + 32


# -- the pieces ------------------------------------------------------------------------------------


def fetch(arrays: tuple[np.ndarray, ...], first: int, stop: int) -> None:
    """Prefetch ``array[first:stop]`` of each array."""


@overload(fetch, target="generic")
def _fetch(arrays, first, stop):
    if len(arrays) == 0:
        return lambda arrays, first, stop: None

    def walk(arrays, first, stop):
        step = uintp(LINE // arrays[0].itemsize)
        last = uintp(min(stop, first + step * uintp(AHEAD)))
        for i in range(first, last, step):
            prefetch(arrays[0], i)
        fetch(arrays[1:], first, stop)

    return walk


def make_run(transform, decay, rule, prox, read_x, read, write_x, write_copy, draw, after_x):
    """Compose a step over the coordinates of one row, each with its own accumulator."""
    coordinate = inlinable(
        make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x), True
    )

    def run(
        row, place, start, width, g, x, slots, prox_arrays, rates, copies, noise,
        transform_coefs, decay_coefs, coefs, prox_coefs, zero, lanes, lane,
    ):  # fmt: skip
        for j in range(width):
            i = uintp(place + j)
            coordinate(
                i, read_x(x[i]), read(g[start + j]), gather(slots, i), x, slots, prox_arrays, rates,
                copies, draw(np.uint32(i), *noise), transform_coefs, decay_coefs, coefs, prox_coefs,
            )  # fmt: skip

    return run


def scale_for(width, zero):
    """Return a power of two of about ``1 / sqrt(width)``.

    So a sum of squares overflows only if their mean does; and the bits are those without it.
    """
    (scale, half) = narrow((1.0, 0.5), zero)
    left = uintp(width)
    while left > uintp(1):
        left = uintp(left // uintp(4))
        scale = scale * half
    return scale


def make_square(transform, decay):
    """Compose the square of what the rule would see of a coordinate's gradient, scaled."""

    def square(x_i, g_i, scale, transform_coefs, decay_coefs):
        _, g_i = decay(x_i, transform(g_i, *transform_coefs), *decay_coefs)
        g_i = scale * g_i
        return g_i * g_i

    return square


def make_row_rate(rule):
    """Compose the rate of a row and its new state, from the sum of its scaled squares.

    The rule runs once, for a coordinate whose gradient is the root of their mean.
    """

    def row_rate(row, total, width, scale, slots, coefs, zero):
        (size,) = narrow((width,), zero)
        (root,) = narrow((sqrt(total / size) / scale,), zero)
        _, rate, new = rule(zero, root, *gather(slots, row), *coefs)
        return rate, new

    return row_rate


def make_shared_run(
    transform, decay, rule, prox, read_x, read, write_x, write_copy, draw, after_x, along
):
    """Compose a step over one row with one accumulator, which the mean of its squares enters.

    ``along`` steps all coordinates at the rate of the row.
    """
    square = inlinable(make_square(transform, decay), True)
    row_rate = inlinable(make_row_rate(rule), True)
    scale_of = inlinable(scale_for, True)
    coordinate = inlinable(
        make_coordinate(transform, decay, along, prox, write_x, write_copy, after_x), True
    )

    def run(
        row, place, start, width, g, x, slots, prox_arrays, rates, copies, noise,
        transform_coefs, decay_coefs, coefs, prox_coefs, zero, lanes, lane,
    ):  # fmt: skip
        scale = scale_of(width, zero)
        for q in range(uintp(LANES)):
            lanes[lane + q] = zero
        whole = uintp(width // uintp(LANES) * uintp(LANES))
        for k in range(uintp(0), whole, uintp(LANES)):
            for q in range(uintp(LANES)):
                lanes[lane + q] += square(
                    read_x(x[place + k + q]), read(g[start + k + q]), scale, transform_coefs,
                    decay_coefs,
                )  # fmt: skip
        for j in range(whole, width):
            lanes[lane] += square(
                read_x(x[place + j]), read(g[start + j]), scale, transform_coefs, decay_coefs
            )
        total = zero
        for q in range(uintp(LANES)):
            total += lanes[lane + q]
        rate, new = row_rate(row, total, width, scale, slots, coefs, zero)
        for j in range(width):
            i = uintp(place + j)
            coordinate(
                i, read_x(x[i]), read(g[start + j]), (), x, (), prox_arrays, rates, copies,
                draw(np.uint32(i), *noise), transform_coefs, decay_coefs, (rate,), prox_coefs,
            )  # fmt: skip
        scatter(slots, row, new, draw(np.uint32(row), *noise))

    return run


# -- a step ----------------------------------------------------------------------------------------


def make_rows(
    transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x, bits,
    unchanged, idle, rate, repeat, along, lazy, shared, fades,
):  # fmt: skip
    """Compose the step over the rows ``rows[lo:hi]``, or lo <= row < hi without ``rows``."""
    parts = (transform, decay, rule, prox, read_x)
    rest = (write_x, write_copy, draw, after_x, *((along,) if shared else ()))
    made = make_shared_run if shared else make_run
    run = inlinable(made(*parts, read_g, *rest), True)
    run_sum = inlinable(made(*parts, unchanged, *rest), True)
    summed = inlinable(make_summed(read_g), True)
    catch_up_row = inlinable(
        make_catch_up_row(
            read_x, write_x, write_copy, draw, after_x, idle, rate, repeat, shared, fades
        ),
        True,
    )

    def step_rows(
        x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs, coefs,
        prox_coefs,
        rows, order, starts, width, last, logs, base, now, before, scratch, offset, like, lo, hi,
    ):  # fmt: skip
        prefer_vectors(bits)
        lane = uintp(offset + width)
        some = rows.size > 0
        apart = max(uintp(1), uintp(uintp(AHEAD * LINE) // uintp(width * uintp(x.itemsize))))
        for u in range(uintp(lo), uintp(hi)):
            row, first, stop, start = u, u, uintp(u + uintp(1)), uintp(u * width)
            if some:
                row, first, stop = uintp(rows[u]), uintp(starts[u]), uintp(starts[u + uintp(1)])
                start = uintp(uintp(order[first]) * width)
                if u + apart < uintp(rows.size):
                    ahead = uintp(uintp(rows[u + apart]) * width)
                    fetch((x,), ahead, uintp(ahead + width))
                    if not shared:
                        fetch(slots, ahead, uintp(ahead + width))
                    ahead = uintp(uintp(order[starts[u + apart]]) * width)
                    fetch((g,), ahead, uintp(ahead + width))
            place = uintp(row * width)
            if lazy:
                catch_up_row(
                    row, x, slots, prox_arrays, copies, noise, prox_coefs, width, last, logs, base,
                    now, before, like,
                )  # fmt: skip
                last[row] = now
            if stop - first > uintp(1):
                summed(g, order, first, stop, width, scratch, offset)
                run_sum(
                    row, place, offset, width, scratch, x, slots, prox_arrays, rates, copies, noise,
                    transform_coefs, decay_coefs, coefs, prox_coefs, like, scratch, lane,
                )  # fmt: skip
            else:
                run(
                    row, place, start, width, g, x, slots, prox_arrays, rates, copies, noise,
                    transform_coefs, decay_coefs, coefs, prox_coefs, like, scratch, lane,
                )  # fmt: skip

    return step_rows


def make_threaded_rows(*parts):
    """Split the rows over the threads; what each row becomes is the same."""
    step_rows, share = inlinable(make_rows(*parts)), inlinable(share_of)

    def threaded_rows(
        x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs, coefs,
        prox_coefs,
        rows, order, starts, width, last, logs, base, now, before, scratch, offset, like,
        count, chunks,
    ):  # fmt: skip
        for c in prange(chunks):
            step_rows(
                x, g, slots, prox_arrays, rates, copies, noise,
                transform_coefs, decay_coefs, coefs, prox_coefs,
                rows, order, starts, width, last, logs, base, now, before,
                scratch, uintp(c) * offset, like,
                share(starts, count, c, chunks), share(starts, count, c + 1, chunks),
            )  # fmt: skip

    return threaded_rows


@memoised
class RowStep(Loop):
    """One method's step on rows of a table.

    The result is the same to the last bit for any number of threads, and for any order of distinct
    rows in the batch.

    Parameters
    ----------
    functions : tuple of callable
        Transformation of the gradient, decay, rule and prox: scalar functions, in this order.
    late : tuple of callable
        Idle form, rate and repeated prox, for rows that were idle.
    along : callable
        The rule by which a row with one accumulator steps at the rate of its row.
    layout : Layout
        The layout of the arrays.
    lazy : bool
        Whether steps without a gradient change rows.
    shared : bool
        Whether a row has one accumulator.
    fades : bool
        Whether decay acts in steps without a gradient.
    """

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
        number = layout.number
        places = types.int64[::1]
        super().__init__(
            make_rows,
            make_threaded_rows,
            (
                *(*step_parts(functions, layout), READ["float32"], *late, along),
                *(int(lazy), int(shared), int(fades)),
            ),
            (
                *step_types(layout),
                *(places, places, places),
                types.uintp,
                places,
                types.float64[::1],
                *(types.int64, types.int64),
                tuple_of(number, layout.coefs[2]),
                number[::1],
                types.uintp,
                number,
            ),
            counted=False,
        )
