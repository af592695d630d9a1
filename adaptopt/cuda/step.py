"""The dense step for CUDA, with one launch for all coordinates; and kernels that fill arrays."""

from __future__ import annotations

import numpy as np
from numba import types

from ..arrays import Array
from ..kernels.compile import (
    NumbaType,
    Parts,
    array_type,
    inlinable,
    memoised,
    number_type,
    tuple_of,
)
from ..kernels.step import READ, Layout, make_element, packed, step_parts, step_types
from ..kernels.tuples import gather
from ..scalar import ScalarFunction
from .arity import taking
from .launch import DeviceKernel, cuda
from .verdict import GO, KEY, reading

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


# A grid-stride loop: any number of threads processes any number of elements, and 32 neighbouring
# threads read 128 adjacent bytes. Indices are unsigned 64-bit: there may be more than 2**31.


def make_device_step(*parts):
    """Step over all coordinates. The last parts are the positions at which to split the tuples."""
    *step_parts, prox_arrays, rates, copies, decay, rule, prox = parts
    element = inlinable(make_element(*step_parts), True)

    def device_step(x, g, arrays, numbers, noise):
        for i in range(uintp(cuda.grid(1)), uintp(x.size), uintp(cuda.gridsize(1))):
            element(
                i, np.uint32(i), x, g,
                arrays[:prox_arrays], arrays[prox_arrays:rates], arrays[rates:copies],
                arrays[copies:], noise,
                numbers[:decay], numbers[decay:rule], numbers[rule:prox], numbers[prox:],
            )  # fmt: skip

    return device_step


@memoised
class DenseStep(DeviceKernel):
    """One method's step on flat arrays of a device; the parameters are those of the CPU's."""

    def __init__(self, functions: tuple[ScalarFunction, ...], layout: Layout) -> None:
        kinds, cuts = packed(layout, writable(step_types(layout)))
        super().__init__(make_device_step, (*_parts(functions, layout), *cuts), kinds)

    def run(self, elements: int, count: int, x: Array, g: Array, *arguments: object) -> None:
        """Update ``x``, the slots, the rates and the copies in place, on the stream of ``g``."""
        self.over(g.stream, x, g, *arguments)


def make_decided_step(read_transform, read_decay, read_coefs, noise_of, *parts):
    """Step over all coordinates if the verdict takes the step, with its coefficients."""
    *step_parts, prox_arrays, rates, copies, transforms, coefs_at, _ = parts
    element = inlinable(make_element(*step_parts), True)

    def decided_step(x, g, arrays, start, counts, numbers, prox_coefs):
        if counts[GO] == 0:
            return
        transform_coefs = read_transform(numbers, 0)
        decay_coefs = read_decay(numbers, transforms)
        coefs = read_coefs(numbers, coefs_at)
        noise = noise_of(counts, start)
        for i in range(uintp(cuda.grid(1)), uintp(x.size), uintp(cuda.gridsize(1))):
            element(
                i, np.uint32(i), x, g,
                arrays[:prox_arrays], arrays[prox_arrays:rates], arrays[rates:copies],
                arrays[copies:], noise,
                transform_coefs, decay_coefs, coefs, prox_coefs,
            )  # fmt: skip

    return decided_step


def noise_of_step(counts, start):
    """Return the key of the random bits."""
    return counts[KEY], start


def no_noise(counts, start):
    """Return nothing: nothing is rounded stochastically."""
    return ()


@memoised
class DecidedStep(DeviceKernel):
    """The same step, if the device decides to take it: see `verdict`.

    ``kernel(x, g, arrays, start, counts, numbers, prox_coefs)``
    """

    def __init__(self, functions: tuple[ScalarFunction, ...], layout: Layout) -> None:
        (x, g, arrays, _, _), cuts = packed(layout, writable(step_types(layout)))
        parts = (
            *(reading(count) for count in layout.coefs[:3]),
            noise_of_step if layout.noise else no_noise,
            *_parts(functions, layout),
            *cuts,
        )
        kinds = (
            *(x, g, arrays, types.uint64, types.int64[::1], layout.number[::1]),
            tuple_of(layout.number, layout.coefs[3]),
        )
        super().__init__(make_decided_step, parts, kinds)

    def __call__(self, x: Array, g: Array, *rest: object) -> None:
        """Update ``x``, the slots, the rates and the copies in place, on the stream of ``g``."""
        self.over(g.stream, x, g, *rest)


def _parts(functions: tuple[ScalarFunction, ...], layout: Layout) -> Parts:
    """Return the arguments of `make_element` for a device."""
    # The last part concerns the CPU's vectors.
    return step_parts(taking_step(functions, layout), layout)[:-1]


def make_device_rates(rate):
    """Return a kernel that writes the rates of all coordinates by a rate function."""

    def device_rates(out, slots, coefs):
        for i in range(uintp(cuda.grid(1)), uintp(out.size), uintp(cuda.gridsize(1))):
            out[i] = rate(*gather(slots, i), *coefs)

    return device_rates


@memoised
class RateKernel(DeviceKernel):
    """``kernel(out, slots, coefs)`` writes the effective rates of all coordinates."""

    def __init__(self, rate: ScalarFunction, layout: Layout) -> None:
        number = layout.number
        slots = types.Tuple([array_type(slot) for slot in layout.slots])
        kinds = (number[::1], slots, tuple_of(number, layout.coefs[2]))
        rate = taking(rate, len(layout.slots) + layout.coefs[2])
        super().__init__(make_device_rates, (rate,), kinds)

    def __call__(self, out: Array, slots: Array, coefs: tuple[float, ...]) -> None:
        """Write the rates."""
        self.over(out.stream, out, slots, coefs)


def make_fill():
    """Write one number to all elements."""

    def device_fill(out, value):
        for i in range(uintp(cuda.grid(1)), uintp(out.size), uintp(cuda.gridsize(1))):
            out[i] = value

    return device_fill


def make_spread():
    """Write each number to ``width`` adjacent elements."""

    def device_spread(out, each, width):
        for i in range(uintp(cuda.grid(1)), uintp(out.size), uintp(cuda.gridsize(1))):
            out[i] = each[uintp(i // width)]

    return device_spread


def make_widen(read):
    """Copy numbers from another array."""

    def device_widen(out, narrow):
        for i in range(uintp(cuda.grid(1)), uintp(out.size), uintp(cuda.gridsize(1))):
            out[i] = read(narrow[i])

    return device_widen


@memoised
def fill_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(out, value)`` for a format."""
    return DeviceKernel(make_fill, (), (array_type(form), number_type(form)))


@memoised
def widen_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(out, narrow)``: from a format to float32."""
    kinds = (types.float32[::1], array_type(form))
    return DeviceKernel(make_widen, (READ[form],), kinds)


@memoised
def spread_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(out, each, width)`` for a format."""
    return DeviceKernel(make_spread, (), (array_type(form), array_type(form), uintp))


@memoised
def narrow_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(out, wide)``: from float64 to float32 or itself."""
    return DeviceKernel(make_widen, (READ["float64"],), (array_type(form), types.float64[::1]))


def fill(out: Array, value: float) -> None:
    """Write one number to a flat array, on its stream. 16-bit numbers are given as uint16."""
    form = "bfloat16" if out.dtype.itemsize == 2 else out.dtype.name
    fill_kernel(form).over(out.stream, out, value)


def spread(each: Array, out: Array) -> None:
    """Write each number to equally many adjacent elements of a flat array."""
    if out.size:
        spread_kernel(out.dtype.name).over(out.stream, out, each, out.size // each.size)


def widen(out: Array, narrow: Array, form: str) -> None:
    """Write the 16-bit numbers of a flat uint16 array to a float32 array."""
    widen_kernel(form).over(out.stream, out, narrow)


def narrow(out: Array, wide: Array) -> None:
    """Write the rounded numbers of a flat float64 array."""
    narrow_kernel(out.dtype.name).over(out.stream, out, wide)


def taking_step(
    functions: tuple[ScalarFunction, ...], layout: Layout
) -> tuple[ScalarFunction, ...]:
    """Return transformation, decay, rule and prox without ``*args``."""
    given = (1, 2, 2 + len(layout.slots), 2 + layout.prox_arrays)
    return tuple(
        taking(function, numbers + coefs)
        for function, numbers, coefs in zip(functions, given, layout.coefs, strict=True)
    )


def writable(kinds: tuple[NumbaType, ...]) -> tuple[NumbaType, ...]:
    """Return array types as Numba infers them: it treats every device array as writable."""
    return tuple(
        kind.copy(readonly=False) if isinstance(kind, types.Array) else kind for kind in kinds
    )
