"""The epoch of `sparse_epoch` for losses of several classes.

An entry of a row then belongs to a coordinate for each class, which lie side by side.
"""

from __future__ import annotations

import numpy as np
from numba import types

from .averages import fold
from .compile import inlinable
from .products import CLASSES
from .rounds import end_round, make_play
from .sparse_epoch import RATES, make_touch, prefetch_rows
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def make_classes_epoch(
    value, slope, carry, coefficients, decay_coefficients, decay, rule, prox, rate, idle, repeat,
    residual, penalised, records_steps, lazy, plays,
):  # fmt: skip
    """Compose the steps over batches of rows, from ``order[0]`` on.

    The arguments are those of `make_sparse_epoch`'s kernel, except that ``touched`` lists first
    coordinates, and ``row_x`` holds the predictions. It records no history.
    """
    touch = inlinable(make_touch(rate, idle, repeat, lazy), True)
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    predict, add = (inlinable(part) for part in CLASSES["sparse"])
    ahead, bring = inlinable(prefetch_rows), inlinable(fold)
    play, end_play = inlinable(make_play(plays)), inlinable(end_round)

    def classes_epoch(
        data, indices, starts, targets, weights, params, order, batch, rates, hyper, prox_coefs,
        x, slots, prox_arrays, last, g, touched, row_x, row_slots, row_prox_arrays, row_last,
        intercept, t, losses, steps, mean, counts, averaged, eta, weight_decay, stored, scalars,
        every, residual_coefs, spare, records, recorded, rounds, sums, base, like,
    ):  # fmt: skip
        classes = uintp(row_x.size)
        columns = uintp(x.size) // classes
        if intercept >= 0:
            columns -= uintp(1)
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
            count = uintp(0)
            part = 1.0 / np.float64(end - done)
            (share,) = narrow((part,), like)
            if intercept >= 0:
                touched[count] = intercept
                count += uintp(1)
                for j in range(uintp(intercept), uintp(x.size)):
                    last[j] = now
                    g[j] = like - like
            for r in range(done, end):
                i = uintp(order[r])
                first, stop = uintp(starts[i]), uintp(starts[i + uintp(1)])
                ahead(data, indices, starts, order, r)
                for k in range(first, stop):
                    place = uintp(indices[k]) * classes
                    if last[place] != now:
                        for j in range(place, place + classes):
                            touch(
                                j, now - 1, x, slots, prox_arrays, last, sums, base, before,
                                prox_coefs, like,
                            )  # fmt: skip
                            last[j] = now
                            g[j] = like - like
                        touched[count] = place
                        count += uintp(1)
                z = predict(data, indices, first, stop, x, columns, row_x)
                total += weights[i] * value(z, targets[i], *params)
                s = slope(z, targets[i], *params)
                for c in range(classes):
                    nonfinite += s[c] - s[c]
                add(
                    g, uintp(0), weights[i] * share, s, data, indices, first, stop, columns,
                    uintp(x.size),
                )  # fmt: skip
            if total - total != 0.0 or nonfinite != 0.0:
                losses[0] = total
                break
            if plays:
                terms = (0.0, 0.0, 0.0)
                for c in range(count):
                    for j in range(uintp(touched[c]), uintp(touched[c]) + classes):
                        terms = play(rounds, j, x[j], g[j], terms)
                end_play(rounds, total * part, terms)
            for c in range(count):
                for j in range(uintp(touched[c]), uintp(touched[c]) + classes):
                    if mean.size:
                        bring(mean, counts, j, np.float64(x[j]), averaged + steps[0], eta)
                    x_j, g_j = decay(x[j], g[j], *decay_coefs)
                    half, r_j, new = rule(x_j, g_j, *gather(slots, j), *coefs)
                    scatter(stored, j, (r_j,), np.uint32(0))
                    x[j] = prox(half, r_j, *gather(prox_arrays, j), *prox_coefs)
                    scatter(slots, j, new, np.uint32(0))
            scatter(scalars, 0, narrow(new_scalars, 0.0), np.uint32(0))
            losses[0] = total * part
            losses[1] += losses[0] * (end - done)
            steps[0] += 1
            steps[1] += end - done
            done = end

    return classes_epoch
