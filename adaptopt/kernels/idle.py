"""What rows of a table missed while they had no gradient, in closed form."""

from __future__ import annotations

from math import exp

import numpy as np
from numba import prange, types

from ..scalar import ScalarFunction
from .compile import inlinable, memoised, tuple_of
from .formats import another
from .parallel import Loop
from .step import Layout, step_parts, step_types
from .tuples import gather, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def make_gap(fades):
    """Compose in how many steps a row had no gradient, and what decay left of it, as numbers."""

    def gap(gone, now, logs, base, like):
        faded = 1.0
        if fades:
            reached = now - np.int64(1) - gone
            faded = exp(logs[now - np.int64(1) - base] - logs[reached - base])
        return narrow((gone, faded), like)

    return gap


def make_missed(read_x, write_x, write_copy, draw, after_x, idle, rate, repeat):
    """Compose what a coordinate missed that has an accumulator of its own."""
    other = inlinable(another)

    def missed(i, count, kept, x, slots, prox_arrays, copies, noise, prox_coefs, before):
        random = other(draw(np.uint32(i), *noise))
        x_i, new = idle(count, read_x(x[i]), *gather(slots, i), *before)
        x_i = repeat(count, kept * x_i, rate(*new, *before), *gather(prox_arrays, i), *prox_coefs)
        x[i] = write_x(x_i, random)
        scatter(copies, i, (write_copy(x_i, random),), random)
        scatter(slots, i, new, after_x(random))

    return missed


def make_missed_by_row(read_x, write_x, write_copy, draw, after_x, repeat):
    """Compose what a coordinate missed whose row has one accumulator, which stays, and one rate."""
    other = inlinable(another)

    def missed_by_row(i, count, kept, row_rate, x, prox_arrays, copies, noise, prox_coefs):
        random = other(draw(np.uint32(i), *noise))
        x_i = repeat(count, kept * read_x(x[i]), row_rate, *gather(prox_arrays, i), *prox_coefs)
        x[i] = write_x(x_i, random)
        scatter(copies, i, (write_copy(x_i, random),), random)

    return missed_by_row


def make_idle_rate(idle, rate):
    """Compose the rate of a row with one accumulator, after steps without a gradient."""

    def idle_rate(row, count, kept, slots, before):
        _, new = idle(count, kept, *gather(slots, row), *before)
        return rate(*new, *before)

    return idle_rate


def make_catch_up_row(
    read_x, write_x, write_copy, draw, after_x, idle, rate, repeat, shared, fades
):
    """Compose what brings one row up to the step before ``now``, if it is not there yet.

    Decay, the idle form and the repeated prox follow one another: `optimizer.table.why_not_exact`
    lets through only what commutes.
    """
    stored = (read_x, write_x, write_copy, draw, after_x)
    gap = inlinable(make_gap(fades), True)
    missed = inlinable(make_missed(*stored, idle, rate, repeat), True)
    missed_by_row = inlinable(make_missed_by_row(*stored, repeat), True)
    idle_rate = inlinable(make_idle_rate(idle, rate), True)

    def catch_up_row(
        row,
        x,
        slots,
        prox_arrays,
        copies,
        noise,
        prox_coefs,
        width,
        last,
        logs,
        base,
        now,
        before,
        like,
    ):
        gone = now - np.int64(1) - last[row]
        if gone > 0:
            (count, kept) = gap(gone, now, logs, base, like)
            place = uintp(row * width)
            if shared:
                row_rate = idle_rate(row, count, kept, slots, before)
                for j in range(width):
                    missed_by_row(
                        uintp(place + j), count, kept, row_rate, x, prox_arrays, copies, noise,
                        prox_coefs,
                    )  # fmt: skip
                return
            for j in range(width):
                missed(
                    uintp(place + j), count, kept, x, slots, prox_arrays, copies, noise, prox_coefs,
                    before,
                )  # fmt: skip

    return catch_up_row


def make_catch_up(*parts):
    """Compose what brings the rows ``rows[lo:hi]`` up to the step before ``now``.

    Where there are no ``rows``, it is those with lo <= row < hi.
    """
    catch_up_row = inlinable(make_catch_up_row(*parts), True)

    def catch_up(
        x, slots, prox_arrays, copies, noise, prox_coefs, rows, width, last, logs, base, now,
        before, like, lo, hi,
    ):  # fmt: skip
        for u in range(uintp(lo), uintp(hi)):
            row = uintp(rows[u]) if rows.size > 0 else u
            catch_up_row(
                row, x, slots, prox_arrays, copies, noise, prox_coefs, width, last, logs, base, now,
                before, like,
            )  # fmt: skip
            last[row] = now - np.int64(1)

    return catch_up


def make_threaded_catch_up(*parts):
    """Split the rows over the threads."""
    catch_up = inlinable(make_catch_up(*parts))

    def threaded_catch_up(
        x, slots, prox_arrays, copies, noise, prox_coefs, rows, width, last, logs, base, now,
        before, like, count, chunks,
    ):  # fmt: skip
        for c in prange(chunks):
            catch_up(
                x, slots, prox_arrays, copies, noise, prox_coefs, rows, width, last, logs, base,
                now, before, like, c * count // chunks, (c + 1) * count // chunks,
            )  # fmt: skip

    return threaded_catch_up


@memoised
class CatchUp(Loop):
    """What brings distinct rows up to a step; the parameters are those of `RowStep`."""

    def __init__(
        self, late: tuple[ScalarFunction, ...], layout: Layout, shared: bool, fades: bool
    ) -> None:
        x, _, slots, prox_arrays, _, copies, noise, *_, prox_coefs = step_types(layout)
        read_x, _, write_x, write_copy, draw, after_x, _ = step_parts((), layout)
        number, places = layout.number, types.int64[::1]
        super().__init__(
            make_catch_up,
            make_threaded_catch_up,
            (read_x, write_x, write_copy, draw, after_x, *late, int(shared), int(fades)),
            (
                *(x, slots, prox_arrays, copies, noise, prox_coefs),
                places,
                types.uintp,
                places,
                types.float64[::1],
                *(types.int64, types.int64),
                tuple_of(number, layout.coefs[2]),
                number,
            ),
            counted=False,
        )
