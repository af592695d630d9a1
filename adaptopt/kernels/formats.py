"""16-bit storage: scalar conversions to and from float32, and the bits that round at random.

Kernels see float16 and bfloat16 arrays as uint16, because Numba has no float16 of use on a CPU.
Every function also runs as plain Python on NumPy scalars.

Notes
-----
Numba promotes: ``uint32 + uint32`` is a uint64, and ``uint64 + 1`` a float64. So every result is
cast back to 32 bits, which is also how LLVM learns that 32-bit lanes are enough.

An instruction for float16 is used where there is one: AdaGrad on float16 parameters and gradients
was 2 to 3 times faster with F16C than with the integer arithmetic below, which gives the same bits.

Subnormal float16 numbers are made without subnormal float32 ones, so a processor that flushes
those to zero (as ``torch.set_flush_denormal`` has it do) loses nothing.
"""

from __future__ import annotations

from typing import TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numpy import float32, int32, uint16, uint32, uint64

from ..scalar import ScalarFunction
from .compile import (
    Kernel,
    NumbaType,
)

# mypy: disable-error-code="no-any-return"
# To mypy, NumPy's 32-bit types are aliases, and what a call of an alias returns is Any.

Number = TypeVar("Number", np.float32, np.float64)

# Whether compiled code converts float16 by instruction. Elsewhere LLVM would call a function that
# no library holds. Numba's features are asked and not the processor's: the user may narrow them.
INSTRUCTIONS = (
    not numba.config.DISABLE_JIT  # type: ignore[attr-defined]  # numba sets it at run time
    and "+f16c" in cpu_target.target_context.codegen().magic_tuple()[2]
)

# The bit patterns of float32 numbers.
_INFINITY = 0x7F800000
_QUIET = 0x00400000  # or'ed to a NaN, so that dropping its low bits never leaves an infinity
_TWO_TO_16 = 0x47800000  # the least power of two above float16's range
_TWO_TO_MINUS_14 = 0x38800000  # float16's least normal number

_LARGEST = uint32(0x7F7F0000).view(float32)  # bfloat16's
_HALF = float32(0.5)  # numbers from 1/2 to 1 lie 2**-24 apart, as float16's subnormal ones do
_LEAST_NORMAL = float32(2.0**-14)
_TWO_TO_45 = float32(2.0**45)

# Multipliers found by search: of 2829 random pairs (with shifts of 13 to 17) those by which the
# `draw` of elements 1 to 65536 apart, and of one element in two steps, filled a plane most evenly.
_A, _B = 0x4E831595, 0xA99F4377
# By search too: x, C x, C**2 x and C**3 x fill the plane evenly, any two of them (spectral test).
_C = 0xD27B9E2D
_WORD = 0xFFFFFFFF


def unchanged(v: Number) -> Number:
    """Return a number of an array that is stored as it is computed."""
    return v


def keep(v: Number, random: np.uint32) -> Number:
    """Return the number to store in an array that is stored as it is computed."""
    return v


def from_bfloat16(u: np.uint16) -> np.float32:
    """Return the number that a bfloat16 pattern stands for: the upper half of a float32."""
    return _number(uint32(uint32(u) << 16))


def to_bfloat16(v: np.float32, random: np.uint32) -> np.uint16:
    """Round to the nearest bfloat16, to even between two; beyond the largest lies infinity."""
    bits = _bits(v)
    if uint32(bits & 0x7FFFFFFF) > _INFINITY:
        rounded = uint32(bits | _QUIET)
    else:
        rounded = uint32(bits + 0x7FFF + uint32(bits >> 16 & 1))
    return uint16(rounded >> 16)


def to_bfloat16_stochastic(v: np.float32, random: np.uint32) -> np.uint16:
    """Round to one of the two bfloat16 neighbours, so that the mean over ``random`` is ``v``.

    What has a pattern of its own is stored as that. Beyond the largest finite number there is no
    unbiased choice: finite numbers stay finite, since an accumulator that is infinite once has
    stopped its parameter for good.
    """
    bits = _bits(v)
    # Towards infinity, if at all; what is not below the largest number loses its low bits.
    up = uint32(random >> 16) if abs(v) < _LARGEST else uint32(0)
    rounded = uint32(bits + up)
    if v != v:
        rounded = uint32(rounded | _QUIET)
    return uint16(rounded >> 16)


def from_float16(u: np.uint16) -> np.float32:
    """Return the number that a float16 pattern stands for."""
    return _widen(u) if INSTRUCTIONS else _decoded_half(u)


def _decoded_half(u: np.uint16) -> np.float32:
    size = uint32(u & 0x7FFF)
    # float32 counts exponents from -127, float16 from -15.
    bits = uint32((size << 13) + 0x38000000)
    if size >= 0x7C00:
        bits = uint32(bits + 0x38000000)
    if size > 0x7C00:
        bits = uint32(bits | _QUIET)
    if size < 0x0400:
        bits = _bits(float32(_number(uint32(bits + 0x00800000)) - _LEAST_NORMAL))
    return _number(uint32(bits | uint32(u & 0x8000) << 16))


def to_float16(v: np.float32, random: np.uint32) -> np.uint16:
    """Round to the nearest float16, to even between two; beyond the largest lies infinity."""
    return _narrow(v) if INSTRUCTIONS else _encoded_half(v)


def _encoded_half(v: np.float32) -> np.uint16:
    bits = _bits(v)
    size = uint32(bits & 0x7FFFFFFF)
    if size < _TWO_TO_MINUS_14:
        # The sum is rounded where float16 is, and its last bits count in float16's steps.
        half = uint32(_bits(float32(_number(size) + _HALF)) - _bits(_HALF))
    elif size < _TWO_TO_16:
        half = uint32(uint32(size - 0x38000000 + 0xFFF + uint32(size >> 13 & 1)) >> 13)
    else:
        half = _special_half(size)
    return uint16((bits >> 16 & 0x8000) | half)


def to_float16_stochastic(v: np.float32, random: np.uint32) -> np.uint16:
    """Round to one of the two float16 neighbours, so that the mean over ``random`` is ``v``.

    What has a pattern of its own is stored as that, and finite numbers stay finite, as in
    `to_bfloat16_stochastic`. The mean of numbers below 2**-14 is exact to 2**-45.
    """
    bits = _bits(v)
    size = uint32(bits & 0x7FFFFFFF)
    if size < _TWO_TO_MINUS_14:
        # Fixed point: 10 bits to keep, 21 to round.
        steps = uint32(int32(_number(size) * _TWO_TO_45))
        half = uint32(uint32(steps + uint32(random >> 11)) >> 21)
    elif size < _INFINITY:
        half = uint32(uint32(size - 0x38000000 + uint32(random >> 19)) >> 13)
        half = half if half < 0x7BFF else uint32(0x7BFF)
    else:
        half = _special_half(size)
    return uint16((bits >> 16 & 0x8000) | half)


def draw(i: int, key: np.uint32) -> np.uint32:
    """Return 32 random bits: a function of the element and the step's key, and of nothing else.

    So the result of a step depends neither on the threads nor on the device.

    Notes
    -----
    All keys share one sequence of 2**32 words, and each starts it elsewhere. No two steps were
    correlated, of a hundred pairs, but eight filled a plane of 64 x 64 cells unevenly, by 3 to
    16 % with a million elements. Where one bit of the element changes, each bit changes with a
    probability of 0.48 to 0.52; of 0.42 to 0.58 for elements 2**22 apart, and further from a half
    beyond 2**26. Rounding asks for no more. A better hash is dearer, and it is by a few operations
    that AdaGrad gains or loses the time a bfloat16 state saves.
    """
    # The key is added first: compiled, the sum is the loop's own counter.
    x = _times(_plus(uint32(i & _WORD), _mixed(key)), _A)
    x = _times(uint32(x ^ x >> 14), _B)
    return uint32(x ^ x >> 16)


def no_draw(i: int) -> np.uint32:
    """Stand in for `draw` where nothing is rounded at random."""
    return uint32(0)


def another(random: np.uint32) -> np.uint32:
    """Return an element's bits for the next slot.

    The high bits of the product, which are those that round, depend on all bits of ``random``.
    """
    return _plus(_times(random, _C), uint32(_B))


def step_key(seed: int, t: int) -> int:
    """Return the 32-bit key of step ``t``; 2**32 steps of one seed have as many keys."""
    key = _B
    for word in (seed >> 32, seed, t):
        key = (key ^ word) & _WORD
        key = (key ^ key >> 16) * _A & _WORD
        key = (key ^ key >> 15) * _B & _WORD
        key ^= key >> 16
    return key


def _bits(v: np.float32) -> np.uint32:
    return float32(v).view(uint32)  # Numba wants to see that v is a NumPy scalar


def _number(bits: np.uint32) -> np.float32:
    return uint32(bits).view(float32)


def _special_half(size: np.uint32) -> np.uint32:
    """Return float16's pattern of a NaN, made quiet, and infinity's for all else."""
    return uint32(0x7E00 | (size >> 13 & 0x1FF)) if size > _INFINITY else uint32(0x7C00)


def _mixed(x: np.uint32) -> np.uint32:
    x = _times(uint32(x ^ x >> 16), _A)
    x = _times(uint32(x ^ x >> 15), _B)
    return uint32(x ^ x >> 16)


def _times(a: np.uint32, b: int) -> np.uint32:
    return uint32(uint64(a) * uint64(b) & uint64(_WORD))  # NumPy warns of 32-bit overflow


def _plus(a: np.uint32, b: np.uint32) -> np.uint32:
    return uint32(uint64(a) + uint64(b) & uint64(_WORD))


class _Instruction:
    """An instruction that compiled code uses, and what computes the same in Python.

    An object, as `inlinable` would have a function's Python body compiled.
    """

    def __init__(self, plain: ScalarFunction, compiled: Kernel) -> None:
        self._plain = plain
        overload(self, target="generic")(lambda v: lambda v: compiled(v))

    def __call__(self, v):  # type: ignore[no-untyped-def]
        return self._plain(v)


@intrinsic
def _fpext(typing: NumbaType, u: NumbaType) -> tuple[NumbaType, Kernel]:
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        half = builder.bitcast(arguments[0], ir.HalfType())
        return builder.fpext(half, ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def _fptrunc(typing: NumbaType, v: NumbaType) -> tuple[NumbaType, Kernel]:
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        half = builder.fptrunc(arguments[0], ir.HalfType())
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), code


_widen = _Instruction(_decoded_half, _fpext)
_narrow = _Instruction(_encoded_half, _fptrunc)
