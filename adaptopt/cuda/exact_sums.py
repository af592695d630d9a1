"""Exact sums of float64 numbers, rounded once, like ``math.fsum`` but compilable.

The sum is a long integer in units of 2**-1074. So it is exact for numbers of any size and in any
order. It sums squares, so there are no negative numbers.
"""

from __future__ import annotations

from math import inf, ldexp

import numpy as np

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

# Digits of 32 bits, lowest first, stored in 64-bit integers: so 2**30 additions need no carry.
# There are as many as the largest float64 number has, and more for larger sums.
DIGITS = 68
BITS, DIGIT = 32, 2**32 - 1
UNIT = -1074
FRACTION, HIDDEN = 2**52 - 1, 2**52


def add_exactly(digits, value):
    """Add a finite number >= 0."""
    bits = np.int64(np.float64(value).view(np.int64))
    place = bits >> 52  # of the lowest bit, from 1; 0 means the same, without the hidden bit
    whole = bits & FRACTION
    if place > 0:
        whole = whole | HIDDEN
        place = place - 1
    first, shift = place >> 5, place & 31
    low, high = (whole & DIGIT) << shift, (whole >> BITS) << shift
    digits[first] += low & DIGIT
    digits[first + 1] += ((low >> BITS) & DIGIT) + (high & DIGIT)
    digits[first + 2] += high >> BITS


def rounded(digits):
    """Return the float64 number nearest to the sum; in a tie, the even one."""
    carry = 0
    top = 0
    for k in range(DIGITS):
        carry += digits[k]
        digits[k] = carry & DIGIT
        carry = carry >> BITS
        if digits[k] != 0:
            top = k
    length = top * BITS
    while digits[top] >> (length - top * BITS) != 0:
        length += 1
    if length > 1024 - UNIT:
        return inf
    last = length - 53 if length > 53 else 0
    whole = 0
    for k in range(length - 1, last - 1, -1):
        whole = 2 * whole + bit(digits, k)
    if last > 0 and bit(digits, last - 1) == 1:
        above_half = False
        for k in range(last - 1):
            above_half = above_half or bit(digits, k) == 1
        if above_half or whole % 2 == 1:
            whole += 1
    if whole == 2**53 and length == 1024 - UNIT:
        return inf
    return ldexp(np.float64(whole), last + UNIT)


def bit(digits, k):
    """Return one bit of the long integer."""
    return (digits[k // BITS] >> (k % BITS)) & 1
