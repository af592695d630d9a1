"""The passes of a search over all coordinates, and the sums that they bring back."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import types

from .compile import inlinable
from .reductions import BLOCK, from_bits, to_bits
from .search_numbers import UNITS
from .tuples import gather, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Sums of a block, the last of them a maximum; and how many terms are computed before they are
# added up.
SUMS = 4
TILE = 512
LANES = 16


def make_turn(decay, rule, residual, ranged, penalised):
    """Compose the pass at a new point: state, displacement and rates.

    A coordinate that has seen no gradient stays, unless a penalty moves it: its rate is then the
    one of a gradient as large as the penalty's, and the largest move counts how far that goes.

    Its sums are ``s y``, ``s D s``, ``y y / D``, of the step and the change of gradient that led
    there, and the largest ``abs(u)``. Before the first step, the point before is the same.
    """
    add = inlinable(add_terms, True)

    def turn(
        x, z, g, gz, slots, ranges, u, rates, prox_arrays, decay_coefs, coefs, slopes, share, keep,
        floor, scale, zero, terms, sums, lo, hi,
    ):  # fmt: skip
        for block in range(uintp(lo), uintp(hi)):
            for row in range(uintp(SUMS)):
                sums[row, block] = 0.0
            end = uintp(min((block + uintp(1)) * uintp(BLOCK), uintp(z.size)))
            for start in range(uintp(block * uintp(BLOCK)), end, uintp(TILE)):
                stop = uintp(min(start + uintp(TILE), end))
                for i in range(start, stop):
                    z_i, q = decay(z[i], gz[i], *decay_coefs)
                    old = gather(slots, i)
                    half, rate, new = rule(zero, scale * q, *old, *coefs)
                    rate = scale * rate
                    scatter(slots, i, new, np.uint32(0))
                    # A coordinate that has seen no gradient has no finite rate.
                    known = half - half == zero and rate - rate == zero and rate > zero
                    pull = zero
                    if not known:
                        half = rate = zero
                        if penalised:
                            pull = abs(residual(z_i, zero, *gather(prox_arrays, i), *slopes))
                            if pull > zero and pull - pull == zero:
                                rate = scale * rule(zero, scale * pull, *old, *coefs)[1]
                                rate = rate if rate - rate == zero and rate > zero else zero
                    moved = max(abs(half), pull * rate)
                    s = z_i - x[i]
                    y = q - decay(x[i], g[i], *decay_coefs)[1]
                    if ranged:
                        square = keep * ranges[i] + share * s * s
                        ranges[i] = square
                        least = floor
                        if floor < zero:  # each by its own size
                            least = z_i * z_i if z_i != zero else -floor
                        reach = sqrt(max(square, least))
                        half, rate, moved = half * reach, rate * reach, moved * reach
                    u[i], rates[i] = half, rate
                    k = uintp(i - start)
                    terms[0, k] = np.float64(s) * np.float64(y)
                    terms[1, k] = np.float64(s * s / rate if rate > zero else zero)
                    terms[2, k] = np.float64(y * y * rate)
                    terms[3, k] = np.float64(moved)
                add(terms, uintp(stop - start), sums, block)

    return turn


def make_reach(prox):
    """Compose the pass that writes a trial point.

    Its sums are ``g s``, ``s D s``, how many coordinates move by more than rounding (the share
    ``still`` of their size), and the largest move.
    """
    add = inlinable(add_terms, True)

    def reach(
        x, g, z, u, rates, prox_arrays, alpha, prox_coefs, still, zero, terms, sums, lo, hi,
    ):  # fmt: skip
        for block in range(uintp(lo), uintp(hi)):
            for row in range(uintp(SUMS)):
                sums[row, block] = 0.0
            end = uintp(min((block + uintp(1)) * uintp(BLOCK), uintp(z.size)))
            for start in range(uintp(block * uintp(BLOCK)), end, uintp(TILE)):
                stop = uintp(min(start + uintp(TILE), end))
                for i in range(start, stop):
                    z_i = prox(
                        x[i] + alpha * u[i], alpha * rates[i], *gather(prox_arrays, i), *prox_coefs
                    )
                    z[i] = z_i
                    s = z_i - x[i]
                    k = uintp(i - start)
                    terms[0, k] = np.float64(g[i]) * np.float64(s)
                    terms[1, k] = np.float64(s * s / rates[i] if rates[i] > zero else zero)
                    terms[2, k] = 1.0 if abs(s) > still * abs(z_i) else 0.0
                    terms[3, k] = np.float64(abs(s))
                add(terms, uintp(stop - start), sums, block)

    return reach


def add_terms(terms, count, sums, block):
    """Add the terms of a tile to the sums of its block; see `in_lanes`."""
    for k in range(uintp(SUMS - 1)):
        sums[k, block] += in_lanes(terms[k], count)
    largest = to_bits(sums[SUMS - 1, block])
    for i in range(count):
        largest = max(largest, to_bits(terms[SUMS - 1, i]))
    sums[SUMS - 1, block] = from_bits(largest, sums[SUMS - 1, block])


def in_lanes(terms, count):
    """Return the sum of the first terms, every 16th in one number, so that SIMD can add them."""
    total, full = 0.0, uintp(count // uintp(LANES) * uintp(LANES))
    if full > uintp(0):
        a = b = c = d = e = f = g = h = 0.0
        p = q = r = s = t = u = v = w = 0.0
        for i in range(uintp(0), full, uintp(LANES)):
            a, b, c, d = a + terms[i], b + terms[i + 1], c + terms[i + 2], d + terms[i + 3]
            e, f, g, h = e + terms[i + 4], f + terms[i + 5], g + terms[i + 6], h + terms[i + 7]
            p, q, r, s = p + terms[i + 8], q + terms[i + 9], r + terms[i + 10], s + terms[i + 11]
            t, u, v, w = t + terms[i + 12], u + terms[i + 13], v + terms[i + 14], w + terms[i + 15]
        total = total + a + b + c + d + e + f + g + h + p + q + r + s + t + u + v + w
    for i in range(full, count):
        total += terms[i]
    return total


def along(x, z, gz, terms):
    """Return the slope at the trial point along the step."""
    total = 0.0
    for start in range(uintp(0), uintp(x.size), uintp(TILE)):
        stop = uintp(min(start + uintp(TILE), uintp(x.size)))
        for i in range(start, stop):
            terms[i - start] = np.float64(gz[i]) * (np.float64(z[i]) - np.float64(x[i]))
        total += in_lanes(terms, uintp(stop - start))
    return total


def largest_of(values):
    """Return the largest of some numbers, at least 0."""
    largest = 0.0
    for value in values:
        largest = max(largest, value)
    return largest


def has_several_units(x):
    """Tell whether coordinates are so far apart in size that their units seem to differ."""
    largest, least = 0.0, np.inf
    for i in range(uintp(x.size)):
        size = np.float64(abs(x[i]))
        largest = max(largest, size)
        if size > 0.0:
            least = min(least, size)
    return largest > UNITS * least


def largest_size(x):
    """Return the largest absolute coordinate."""
    largest = 0.0
    for i in range(uintp(x.size)):
        largest = max(largest, np.float64(abs(x[i])))
    return largest
