"""The sum of float64 numbers, rounded once: what ``math.fsum`` returns, in a form that compiles.

The sum is kept as one long whole number of units of 2**-1074, so it is exact, whatever the sizes
and the order of what is added. Squares are summed: there are no negative numbers.
"""

from __future__ import annotations

from math import inf, ldexp

import numpy as np

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

# Digits of 32 bits, lowest first, in whole numbers of 64: so 2**30 additions need no carry. They
# are as many as the largest float64 number has, and those that a sum may have more.
DIGITS = 68
BITS, DIGIT = 32, 2**32 - 1
UNIT = -1074
FRACTION, HIDDEN = 2**52 - 1, 2**52


def add_exactly(digits, value):
    """Add a finite number that is not negative."""
    bits = np.int64(np.float64(value).view(np.int64))
    place = bits >> 52  # that of a number's lowest bit, counted from 1; 0 is as low, but not hidden
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
    """Return the float64 number that is nearest to the sum, of two the even one."""
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
    """Return one bit of the whole number."""
    return (digits[k // BITS] >> (k % BITS)) & 1
