"""The dense step: each coordinate once, in one pass over the arrays."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numba import prange, types

from ..arrays import Array
from ..scalar import ScalarFunction
from . import formats
from .compile import (
    Kernel,
    NumbaType,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
    prefer_vectors,
    tuple_of,
)
from .formats import draw
from .parallel import Loop
from .tuples import gather, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The kernels are compiled for explicit signatures, which say more than annotations could.

uintp = types.uintp

# By the format of the numbers in an array: how one is read, and how it is written, rounded to
# nearest or stochastically.
READ: dict[str, ScalarFunction] = {
    "float16": formats.from_float16,
    "bfloat16": formats.from_bfloat16,
    "float32": formats.unchanged,
    "float64": formats.unchanged,
}
WRITE: dict[str, tuple[ScalarFunction, ScalarFunction]] = {
    "float16": (formats.to_float16, formats.to_float16_stochastic),
    "bfloat16": (formats.to_bfloat16, formats.to_bfloat16_stochastic),
    "float32": (formats.keep, formats.keep),
    "float64": (formats.keep, formats.keep),
}


class Layout(NamedTuple):
    """The formats of a step's arrays, and the numbers of its scalars.

    A format is "float16", "bfloat16", "float32" or "float64". 16-bit formats are stored as uint16.
    All arithmetic is float64 if ``x`` is, otherwise float32.
    """

    x: str
    gradient: str
    slots: tuple[str, ...] = ()
    prox_arrays: int = 0  # arrays of the proximal map
    rates: int = 0  # 1 if every step stores the effective rates
    copies: tuple[str, ...] = ()  # one where x is the wide copy of narrow parameters
    rounding: str = "nearest"  # of x or its copy, or "stochastic"
    noise: bool = False  # whether anything is rounded stochastically
    coefs: tuple[int, int, int, int] = (0, 0, 0, 0)  # of transformation, decay, rule and prox

    @property
    def number(self) -> NumbaType:
        """Numba's type of the arithmetic."""
        return number_type("float64" if self.x == "float64" else "float32")

    @property
    def vector_bits(self) -> int:
        """The requested vector width; 0 leaves it to LLVM, which prefers 256 on many processors.

        512 if a step writes both bfloat16 and float32: AdaGrad's step with bfloat16 state took 0.77
        of the time. Also for two or more float32 slots: Adam's took 0.95. Other steps that write
        one width were up to 1.09x slower, and those with only 16-bit numbers 2.4x.
        """
        written = (self.x, *self.slots, *self.copies)
        mixed = {"bfloat16", "float32"} <= set(written)
        return 512 if mixed or written.count("float32") > 2 else 0


def make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x):
    """Compose the scalar functions into the step of one coordinate that has been read."""

    def coordinate(
        i, x_i, g_i, slots_i, x, slots, prox_arrays, rates, copies, random,
        transform_coefs, decay_coefs, coefs, prox_coefs,
    ):  # fmt: skip
        x_i, g_i = decay(x_i, transform(g_i, *transform_coefs), *decay_coefs)
        half, rate, new = rule(x_i, g_i, *slots_i, *coefs)
        x_i = prox(half, rate, *gather(prox_arrays, i), *prox_coefs)
        x[i] = write_x(x_i, random)
        scatter(copies, i, (write_copy(x_i, random),), random)
        scatter(slots, i, new, after_x(random))
        scatter(rates, i, (rate,), random)

    return coordinate


def make_element(transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x):
    """Compose the scalar functions into the step of one coordinate in arrays of a device."""
    coordinate = inlinable(
        make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x), True
    )

    def element(
        i, place, x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs,
        coefs, prox_coefs,
    ):  # fmt: skip
        coordinate(
            i, read_x(x[i]), read_g(g[i]), gather(slots, i), x, slots, prox_arrays, rates, copies,
            draw(place, *noise), transform_coefs, decay_coefs, coefs, prox_coefs,
        )  # fmt: skip

    return element


def make_step(
    transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x, bits
):  # fmt: skip
    """Step over the coordinates lo <= i < hi. The last part is the requested vector width."""
    coordinate = inlinable(
        make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x), True
    )

    # Unsigned bounds: with signed ones the test for negative indices prevents SIMD (20x slower).
    def step(
        x, g, slots, prox_arrays, rates, copies, noise, transform_coefs, decay_coefs, coefs,
        prox_coefs, lo, hi,
    ):  # fmt: skip
        prefer_vectors(bits)
        place = np.uint32(lo)
        for i in range(uintp(lo), uintp(hi)):
            coordinate(
                i, read_x(x[i]), read_g(g[i]), gather(slots, i), x, slots, prox_arrays, rates,
                copies, draw(place, *noise), transform_coefs, decay_coefs, coefs, prox_coefs,
            )  # fmt: skip
            place = np.uint32(place + np.uint32(1))

    return step


def make_packed_step(*parts):
    """Take all arrays in one tuple and all numbers in another. The last parts split the tuples.

    Numba takes 30 to 60 ns to unpack a tuple, and eight of them took a third of a short step. The
    tuples are split before the loop: within, that prevents SIMD (8x slower). The loop is that of
    `make_step` once more, as a call of it took a fifth of the time to compile.
    """
    (
        transform, decay, rule, prox, read_x, read_g, write_x, write_copy, draw, after_x,
        bits, after_slots, after_prox, after_rates, after_transform, after_decay, after_rule,
    ) = parts  # fmt: skip
    coordinate = inlinable(
        make_coordinate(transform, decay, rule, prox, write_x, write_copy, after_x), True
    )

    def packed_step(x, g, arrays, numbers, noise, lo, hi):
        prefer_vectors(bits)
        slots, prox_arrays = arrays[:after_slots], arrays[after_slots:after_prox]
        rates, copies = arrays[after_prox:after_rates], arrays[after_rates:]
        transform_coefs, decay_coefs = (
            numbers[:after_transform], numbers[after_transform:after_decay]
        )  # fmt: skip
        coefs, prox_coefs = numbers[after_decay:after_rule], numbers[after_rule:]
        place = np.uint32(lo)
        for i in range(uintp(lo), uintp(hi)):
            coordinate(
                i, read_x(x[i]), read_g(g[i]), gather(slots, i), x, slots, prox_arrays, rates,
                copies, draw(place, *noise), transform_coefs, decay_coefs, coefs, prox_coefs,
            )  # fmt: skip
            place = np.uint32(place + np.uint32(1))

    return packed_step


def make_threaded_step(*parts):
    """Split the coordinates evenly over the threads; what each computes is the same."""
    step = inlinable(make_packed_step(*parts))

    def threaded_step(x, g, arrays, numbers, noise, n, chunks):
        for c in prange(chunks):
            step(x, g, arrays, numbers, noise, c * n // chunks, (c + 1) * n // chunks)

    return threaded_step


def draw_from(place, key, start):
    """Draw for the coordinate ``start + place``, so that parts draw the same bits as the group."""
    return draw(np.uint32(place + np.uint32(start)), np.uint32(key))


def step_parts(functions: tuple[ScalarFunction, ...], layout: Layout) -> tuple[NumbaType, ...]:
    """Return what `make_step` takes for transformation, decay, rule and prox in a layout."""
    stochastic = layout.rounding == "stochastic"
    return (
        *functions,
        READ[layout.x],
        READ[layout.gradient],
        WRITE[layout.x][stochastic],
        WRITE[layout.copies[0]][stochastic] if layout.copies else formats.keep,
        draw_from if layout.noise else formats.no_draw,
        formats.another if stochastic else formats.unchanged,
        layout.vector_bits,
    )


def step_types(layout: Layout) -> tuple[NumbaType, ...]:
    """Return Numba's types of a step's arguments, but for the coordinates."""
    number = layout.number
    return (
        array_type(layout.x),
        array_type(layout.gradient).copy(readonly=True),
        types.Tuple([array_type(slot) for slot in layout.slots]),
        tuple_of(number[::1], layout.prox_arrays),
        tuple_of(number[::1], layout.rates),
        types.Tuple([array_type(copy) for copy in layout.copies]),
        tuple_of(types.uint64, 2 if layout.noise else 0),
        *[tuple_of(number, count) for count in layout.coefs],
    )


def packed(
    layout: Layout, kinds: tuple[NumbaType, ...]
) -> tuple[tuple[NumbaType, ...], tuple[int, ...]]:
    """Return a step's types with all arrays in one tuple, and numbers; and where to cut these."""
    x, g, slots, prox_arrays, rates, copies, noise, *_ = kinds
    arrays = types.Tuple([*slots, *prox_arrays, *rates, *copies])
    numbers = tuple_of(layout.number, sum(layout.coefs))
    cuts = [*accumulate(map(len, (slots, prox_arrays, rates))), *accumulate(layout.coefs[:3])]
    return (x, g, arrays, numbers, noise), tuple(cuts)


@memoised
class DenseStep(Loop):
    """One method's step on flat arrays.

    The result is the same to the last bit for any number of threads: each coordinate is computed
    alone, with correctly rounded operations, wherever it lies.

    Parameters
    ----------
    functions : tuple of callable
        Transformation of the gradient, decay, rule and prox: scalar functions, in this order.
    layout : Layout
        What they are applied to.
    """

    def __init__(self, functions: tuple[ScalarFunction, ...], layout: Layout) -> None:
        self.layout = layout
        kinds, cuts = packed(layout, step_types(layout))
        parts = (*step_parts(functions, layout), *cuts)
        super().__init__(make_packed_step, make_threaded_step, parts, kinds, counted=False)

    def __call__(
        self,
        x: Array,
        g: Array,
        arrays: tuple[Array, ...],
        numbers: tuple[float, ...],
        noise: tuple[int, ...],
    ) -> None:
        """Update ``x``, the slots, the rates and the copies in place.

        ``arrays`` are slots, prox_arrays, rates and copies; ``numbers`` the coefficients of
        transformation, decay, rule and prox.
        """
        self.run(x.size, x.size, x, g, arrays, numbers, noise)


def make_rates(rate):
    """Compose a rate function into a pass that writes the rates of all coordinates."""

    def rates(out, slots, coefs):
        for i in range(uintp(out.size)):
            out[i] = rate(*gather(slots, i), *coefs)

    return rates


@memoised
def rate_kernel(rate: ScalarFunction, layout: Layout) -> Kernel:
    """Return ``kernel(out, slots, coefs)``, which writes every coordinate's effective rate."""
    number = layout.number
    slots = types.Tuple([array_type(slot) for slot in layout.slots])
    signature = types.void(number[::1], slots, tuple_of(number, layout.coefs[2]))
    return compile_kernel(make_rates, (rate,), signature)
