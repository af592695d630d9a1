"""An epoch over the rows of a CSR matrix in one call, at the cost of its nonzeros.

A step updates only the coordinates of its rows. A penalty, or a method whose means decay, also
changes the others. These changes are applied, exactly, when a coordinate next occurs, or at the end
of the epoch.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..scalar import ScalarFunction
from .averages import fold
from .compile import (
    Make,
    NumbaType,
    Parts,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
    prefetch,
    tuple_of,
)
from .products import short_dot, sparse_dot
from .records import make_record
from .rounds import ROUNDS, end_round, make_play
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Where the map, and whether coordinates are lazy, are among the parts of `make_sparse_epoch`.
PROX, LAZY = 7, 14
# What a coordinate missed, if it is lazy: so many steps, or steps at rates that come to a sum.
STEPS, RATES = 1, 2
# Bytes of a cache line.
LINE = 64


def prefetch_rows(data, indices, starts, order, r):
    """Prefetch the next row, and the position of the one after, while row ``order[r]`` is read.

    No processor predicts the positions of rows in random order. With this, an epoch took 0.67 of
    the time. To prefetch the next row's coordinates too took 1.1.
    """
    if r + 2 < order.size:
        prefetch(starts, uintp(order[r + 2]))
    if r + 1 < order.size:
        i = uintp(order[r + 1])
        k, stop = uintp(starts[i]), uintp(starts[i + uintp(1)])
        step = uintp(LINE // max(data.itemsize, indices.itemsize))
        while k < stop:
            prefetch(data, k)
            prefetch(indices, k)
            k += step


def make_touch(rate, idle, repeat, lazy):
    """Return the function that applies missed steps to one coordinate, up to step t.

    ``sums`` are those of the learning rates of the steps after ``base``. With them the coefficients
    ``before`` are those of a learning rate of 1.
    """

    def touch(j, t, x, slots, prox_arrays, last, sums, base, before, prox_coefs, like):
        if lazy:
            k = t - last[j]
            if k > 0:
                missed = np.float64(k)
                if lazy == RATES:
                    missed = sums[t - base] - sums[last[j] - base]
                last[j] = t
                (count,) = narrow((missed,), like)
                x_j, new = idle(count, x[j], *gather(slots, j), *before)
                scatter(slots, j, new, np.uint32(0))
                x[j] = repeat(count, x_j, rate(*new, *before), *gather(prox_arrays, j), *prox_coefs)

    return touch


def make_sparse_epoch(
    value, slope, carry, coefficients, decay_coefficients, decay, rule, prox, rate, idle, repeat,
    residual, penalised, records_steps, lazy, plays,
):  # fmt: skip
    """Compose the steps over batches of rows, from ``order[0]`` on."""
    touch = inlinable(make_touch(rate, idle, repeat, lazy), True)
    record = inlinable(make_record(residual, touch, penalised))
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    dot, sparse_product = inlinable(short_dot), inlinable(sparse_dot)
    ahead, bring = inlinable(prefetch_rows), inlinable(fold)
    play, end_play = inlinable(make_play(plays)), inlinable(end_round)

    def sparse_epoch(
        data, indices, starts, targets, weights, params, order, batch, rates, hyper, prox_coefs,
        x, slots, prox_arrays, last, g, touched, row_x, row_slots, row_prox_arrays, row_last,
        intercept, t, losses, steps, mean, counts, averaged, eta, weight_decay, stored, scalars,
        every, residual_coefs, spare, records, recorded, rounds, sums, base, like,
    ):  # fmt: skip
        done = 0
        while done < order.size:
            now = t + steps[0] + 1
            # The first rate is that of the step before this call.
            previous = rates[min(steps[0], rates.size - 1)] if lazy != RATES else 1.0
            lr = rates[min(steps[0] + 1, rates.size - 1)]
            carried = gather(scalars, 0)
            before = narrow(coefficients(max(now - 1, 1), previous, *hyper, *carried), like)
            new_scalars, decays, coefs_64 = prepare(now, lr, hyper, weight_decay, carried, ())
            coefs, decay_coefs = narrow(coefs_64, like), narrow(decays, like)
            end = min(done + batch, order.size)
            total, nonfinite = 0.0, 0.0
            terms = (0.0, 0.0, 0.0)
            count = uintp(0)
            part = 1.0 / np.float64(end - done)
            (share,) = narrow((part,), like)
            for r in range(done, end):
                i = uintp(order[r])
                first, stop = uintp(starts[i]), uintp(starts[i + uintp(1)])
                ahead(data, indices, starts, order, r)
                if batch == 1:
                    # The row's coordinates are brought together, so that roots and divisions are
                    # computed in vectors; no two of them are the same.
                    for c in range(stop - first):
                        j = uintp(indices[first + c])
                        row_x[c] = x[j]
                        scatter(row_slots, c, gather(slots, j), np.uint32(0))
                        scatter(row_prox_arrays, c, gather(prox_arrays, j), np.uint32(0))
                        if lazy:
                            row_last[c] = last[j]
                    if lazy:
                        for c in range(stop - first):
                            touch(
                                c, now - 1, row_x, row_slots, row_prox_arrays, row_last, sums, base,
                                before, prox_coefs, like,
                            )  # fmt: skip
                    z = dot(data, indices, first, stop, row_x, row_x)
                else:
                    if lazy:
                        for k in range(first, stop):
                            j = uintp(indices[k])
                            touch(
                                j, now - 1, x, slots, prox_arrays, last, sums, base, before,
                                prox_coefs, like,
                            )  # fmt: skip
                    z = sparse_product(data, indices, first, stop, x, x)
                if intercept >= 0:
                    z += x[intercept]
                total += weights[i] * value(z, targets[i], *params)
                (s,) = narrow((weights[i] * share * slope(z, targets[i], *params),), like)
                nonfinite += s - s
                if batch > 1:
                    for k in range(first, stop):
                        j = uintp(indices[k])
                        if last[j] != now:
                            last[j] = now
                            g[j] = like - like
                            touched[count] = j
                            count += uintp(1)
                        g[j] += s * data[k]
                    if intercept >= 0:
                        g[intercept] += s
                elif total - total == 0.0 and nonfinite == 0.0:
                    if intercept >= 0:
                        g[intercept] = s
                    if records_steps:
                        for c in range(stop - first):
                            touched[c] = indices[first + c]
                            g[touched[c]] = s * data[first + c]
                        record(
                            records, recorded, every, end == order.size, now, total, touched,
                            uintp(stop - first), intercept, now, x, slots, prox_arrays, last,
                            sums, base, before, prox_coefs, g, spare, residual_coefs, like,
                        )  # fmt: skip
                    if plays:
                        for c in range(stop - first):
                            (g_c,) = narrow((s * data[first + c],), like)
                            j = uintp(indices[first + c])
                            terms = play(rounds, j, row_x[c], g_c, terms)
                    for c in range(stop - first):
                        g_c = narrow((s * data[first + c],), like)
                        x_c, g_c = decay(row_x[c], *g_c, *decay_coefs)
                        half, r_c, new = rule(x_c, g_c, *gather(row_slots, c), *coefs)
                        scatter(stored, uintp(indices[first + c]), (r_c,), np.uint32(0))
                        row_x[c] = prox(half, r_c, *gather(row_prox_arrays, c), *prox_coefs)
                        scatter(row_slots, c, new, np.uint32(0))
                    if mean.size:
                        for k in range(first, stop):
                            j = uintp(indices[k])
                            bring(mean, counts, j, np.float64(x[j]), averaged + steps[0], eta)
                    for c in range(stop - first):
                        j = uintp(indices[first + c])
                        x[j] = row_x[c]
                        scatter(slots, j, gather(row_slots, c), np.uint32(0))
                        if lazy:
                            last[j] = now
            if total - total != 0.0 or nonfinite != 0.0:
                losses[0] = total
                break
            if records_steps and batch > 1:
                record(
                    records, recorded, every, end == order.size, now, total * part, touched, count,
                    intercept, now, x, slots, prox_arrays, last, sums, base, before, prox_coefs, g,
                    spare, residual_coefs, like,
                )  # fmt: skip
            if plays:
                for c in range(count):
                    j = uintp(touched[c])
                    terms = play(rounds, j, x[j], g[j], terms)
                if intercept >= 0:
                    j = uintp(intercept)
                    terms = play(rounds, j, x[j], g[j], terms)
                end_play(rounds, total * part, terms)
            if mean.size:
                for c in range(count):
                    j = uintp(touched[c])
                    bring(mean, counts, j, np.float64(x[j]), averaged + steps[0], eta)
            for c in range(count):
                j = uintp(touched[c])
                x_j, g_j = decay(x[j], g[j], *decay_coefs)
                half, r_j, new = rule(x_j, g_j, *gather(slots, j), *coefs)
                scatter(stored, j, (r_j,), np.uint32(0))
                x[j] = prox(half, r_j, *gather(prox_arrays, j), *prox_coefs)
                scatter(slots, j, new, np.uint32(0))
            if intercept >= 0:
                j = uintp(intercept)
                if mean.size:
                    bring(mean, counts, j, np.float64(x[j]), averaged + steps[0], eta)
                x_j, g_j = decay(x[j], g[j], *decay_coefs)
                half, r_j, new = rule(x_j, g_j, *gather(slots, j), *coefs)
                scatter(stored, j, (r_j,), np.uint32(0))
                x[j] = prox(half, r_j, *gather(prox_arrays, j), *prox_coefs)
                scatter(slots, j, new, np.uint32(0))
                g[j] = like - like
                last[j] = now
            scatter(scalars, 0, narrow(new_scalars, 0.0), np.uint32(0))
            losses[0] = total * part
            losses[1] += losses[0] * (end - done)
            steps[0] += 1
            steps[1] += end - done
            done = end

    return sparse_epoch


def make_catch_up(coefficients, rate, idle, repeat, lazy):
    """Return the kernel that applies missed steps to all coordinates, up to step t."""
    touch = inlinable(make_touch(rate, idle, repeat, lazy), True)

    def catch_up(lr, hyper, prox_coefs, x, slots, prox_arrays, last, t, scalars, sums, base, like):
        before = narrow(coefficients(max(t, 1), lr, *hyper, *gather(scalars, 0)), like)
        for j in range(uintp(x.size)):
            touch(j, t, x, slots, prox_arrays, last, sums, base, before, prox_coefs, like)

    return catch_up


@memoised
class SparseEpoch:
    """The kernels of one loss, method and proximal map over CSR rows of one type.

    Parameters
    ----------
    loss : tuple of callable
        Value and slope of a row's loss.
    method : tuple of callable
        Carry, coefficients, those of the decay, decay, rule, rate and idle form.
    prox : tuple of callable
        The map, its effect when repeated, and the residual of optimality.
    penalised : bool
        Whether coordinates without a gradient are not stationary, because of a penalty.
    records : bool
        Whether steps are recorded.
    lazy : int
        0, or if steps without a gradient change coordinates or their state, `STEPS` or `RATES`.
    plays : int
        What is done with the rounds of online play: one of `rounds.NONE, GRADIENTS, POINTS`.
    make : callable
        `make_sparse_epoch`, or what makes the same kernel for another kind of loss.
    kinds : tuple
        dtypes of ``x``, of the matrix and of its indices; hyperparameters after ``lr``, as they
        are; and how many parameters of the loss, slots, arrays and scalars of the prox, arrays of
        stored rates, scalars of the method and numbers of the residual there are.
    """

    def __init__(
        self,
        loss: tuple[ScalarFunction, ...],
        method: tuple[ScalarFunction, ...],
        prox: tuple[ScalarFunction, ...],
        penalised: bool,
        records: bool,
        lazy: int,
        plays: int,
        make: Make,
        kinds: tuple[NumbaType, ...],
    ) -> None:
        form, given, index, hyper, params, slots, prox_arrays, scalars, stored, carried, costs = (
            kinds
        )
        number, array = number_type(form), array_type(form)
        integers = number_type(index)[::1].copy(readonly=True)
        rows = types.intp[::1].copy(readonly=True)
        fixed = array_type(given).copy(readonly=True)
        hyper = types.Tuple([types.boolean if kind is bool else types.float64 for kind in hyper])
        state = (
            hyper,
            tuple_of(number, scalars),
            array,
            tuple_of(array, slots),
            tuple_of(array, prox_arrays),
            types.int64[::1],
        )
        *before, rule, rate, idle = method
        coefficients = method[1]
        self.parts: Parts = (*loss, *before, rule, prox[0], rate, idle, prox[1], prox[2])
        self.parts += (int(penalised), int(records), lazy, plays)
        kept = tuple_of(types.float64[::1], carried)
        missed = types.float64[::1], types.int64
        self.arguments = (
            fixed,
            integers,
            integers,
            fixed,
            fixed,
            tuple_of(number_type(given), params),
            rows,
            types.int64,
            types.float64[::1],
            *state,
            array,
            types.intp[::1],
            array,
            tuple_of(array, slots),
            tuple_of(array, prox_arrays),
            types.int64[::1],
            types.int64,
            types.int64,
            types.float64[::1],
            types.int64[::1],
            types.float64[::1],
            types.int64[::1],
            types.int64,
            types.float64,
            types.float64,
            tuple_of(array, stored),
            kept,
            types.int64,
            tuple_of(number, costs),
            array,
            types.float64[::1],
            types.int64[::1],
            ROUNDS,
            *missed,
            number,
        )
        self.epoch = compile_kernel(make, self.parts, types.void(*self.arguments), counted=False)
        self.catch_up = None
        if lazy:
            self.catch_up = compile_kernel(
                make_catch_up,
                (coefficients, rate, idle, prox[1], lazy),
                types.void(types.float64, *state, types.int64, kept, *missed, number),
                counted=False,
            )
