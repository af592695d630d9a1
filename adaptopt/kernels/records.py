"""What a kernel of many steps over sparse rows records of them: losses and gradient norms."""

from __future__ import annotations

import numpy as np
from numba import types

from .compile import inlinable
from .tuples import gather

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Numbers of a record: step, loss and norm. One number comes before all: the norm of the last step.
FIELDS = 3


def make_norm(residual, touch, penalised):
    """Compose the residual of optimality of a batch before its step, as `Optimizer` measures it.

    Without a penalty it is 0 for coordinates without a gradient. With one they are brought up to
    the step before ``now``, because they are not stationary either.
    """

    def norm(
        touched, count, intercept, now, x, slots, prox_arrays, last, sums, base, before, prox_coefs,
        g, spare, residual_coefs, like,
    ):  # fmt: skip
        largest = like - like
        if intercept >= 0:
            touched[count] = intercept
            count += uintp(1)
        if penalised:
            for c in range(count):
                j = uintp(touched[c])
                spare[j] = g[j]
            for j in range(uintp(x.size)):
                touch(j, now - 1, x, slots, prox_arrays, last, sums, base, before, prox_coefs, like)
                found = abs(residual(x[j], spare[j], *gather(prox_arrays, j), *residual_coefs))
                largest = largest if found <= largest else found
                spare[j] = like - like
            return largest
        for c in range(count):
            j = uintp(touched[c])
            touch(j, now - 1, x, slots, prox_arrays, last, sums, base, before, prox_coefs, like)
            found = abs(residual(x[j], g[j], *gather(prox_arrays, j), *residual_coefs))
            largest = largest if found <= largest else found
        return largest

    return norm


def make_record(*parts):
    """Compose the record of a step, if it is due or the last of a call."""
    norm = inlinable(make_norm(*parts))

    def record(records, recorded, every, is_last, now, loss, *given):
        is_due = every > 0 and now % every == 0
        if not (is_due or is_last):
            return
        found = np.float64(norm(*given))
        records[0] = found
        if is_due:
            place = 1 + FIELDS * recorded[0]
            records[place], records[place + 1], records[place + 2] = now, loss, found
            recorded[0] += 1

    return record
