"""Steps on a device that depend on the gradients there, without waiting for the device.

The host launches kernels. A thread of the device computes the norm, decides whether the step is
taken, counts it, and computes the coefficients that the step reads: see `cuda.verdict`. The host
reads the results when they are needed. This module is imported only for arrays on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from ..arrays import Array, DType, Stream, storage
from ..cuda.arrays import join
from ..cuda.backend import DEVICE
from ..cuda.launch import DeviceKernel, device_of
from ..cuda.reductions import WantedSquares
from ..cuda.step import DecidedStep
from ..cuda.verdict import (
    ALWAYS,
    BIG,
    COUNTS,
    FACTORS,
    FETCHERS,
    FOUND,
    GO,
    LAST,
    SKIPPED,
    SMALL,
    TRIED,
    Coefficients,
    T,
    Verdict,
)
from ..kernels.rates import RateTable
from ..kernels.reductions import BLOCK
from .clipping import Transformation, factors_for
from .group import Group

# Learning rates of a schedule on the device: the host waits once per this many steps.
RATES = 4096


class Counted(NamedTuple):
    """The position of an optimizer: steps taken, steps skipped, and the last skipped step."""

    t: int = 0
    skipped: int = 0
    last: int = 0


class Deferral:
    """The position on the device, and the kernels that continue from it.

    Parameters
    ----------
    groups : sequence of Group
        All parameters, on one device.
    transformation : Transformation
        The transformation of their gradients.

    Attributes
    ----------
    may_skip : bool
        Whether the device may decide not to take a step.
    pending : int
        Number of steps launched since the host last read the position.
    """

    def __init__(self, groups: Sequence[Group], transformation: Transformation) -> None:
        near = self._near = groups[0].flat
        self._transformation = transformation
        self.may_skip = transformation.looks
        self.pending = 0
        self._counted = Counted()
        sizes = [hi - lo for group in groups for lo, hi in group.places.spans]
        ends = np.cumsum([0, *[-(-n // BLOCK) for n in sizes]], dtype=np.int64)
        self._ends = DEVICE.from_host(ends, near)
        # Buffer for the sums of squares of blocks, and views of the part of each gradient.
        self._sums = [DEVICE.empty(max(int(ends[-1]), 1), np.float64, near) for _ in range(3)]
        self._places = [[sums[lo:hi] for lo, hi in pairwise(ends.tolist())] for sums in self._sums]
        # Without a norm there are no sums.
        self._looked_at = self._ends if self.may_skip else DEVICE.from_host(ends[:1].copy(), near)
        self._factors = DEVICE.from_host(np.array([*TRIED, *[1.0] * (FACTORS - FOUND)]), near)
        counts = np.zeros(COUNTS, np.int64)
        counts[ALWAYS] = 1
        self._counts = DEVICE.from_host(counts, near)
        self._verdict = Verdict(factors_for)
        firsts = list(accumulate([len(group.places.spans) for group in groups], initial=0))
        self._groups = [
            _Deferred(group, transformation, lo, hi)
            for group, (lo, hi) in zip(groups, pairwise(firsts), strict=True)
        ]
        kernels: list[DeviceKernel] = [self._verdict]
        for group in groups:
            group.compile_map()
        for deferred in self._groups:
            dtype = deferred.group.flat.dtype
            kernels += [deferred.kernel, deferred.decided_step(dtype)]
            if self.may_skip or deferred.group.method.measures:
                kernels.append(WantedSquares(dtype.name))
        for kernel in kernels:
            DEVICE.prepare(kernel, near)

    def step(self, gs: Sequence[Sequence[Array]], seed: int) -> None:
        """Launch a step along the flat gradients of each group."""
        for deferred in self._groups:
            if not deferred.knows_rate(self._counted.t + self.pending + 1):
                deferred.look_ahead(self.read().t + 1)
        self.pending += 1
        flat = [g for group in gs for g in group]
        main = flat[0].stream
        others = [g.stream for g in flat[1:] if not DEVICE.on_one_stream(g, flat[0])]
        with device_of(self._near):
            again = larger = self._sums[0]
            if self.may_skip:
                self._sum_up(flat, 0, 0, ALWAYS)
            join(main, others)
            if self.may_skip and any(g.dtype.itemsize == 8 for g in flat):
                # Squares of float64 may overflow or vanish where the norm does not; the others'
                # do not.
                again, larger = self._sums[1:]
                self._sum_up(flat, 1, 1, BIG, main)
                self._sum_up(flat, 2, 2, SMALL, main)
            self._verdict.launch(
                (1, FETCHERS), main, self._sums[0], again, larger, self._looked_at,
                *self._transformation.bounds, _as_signed(seed), self._factors, self._counts,
            )  # fmt: skip
            for deferred, group in zip(self._groups, gs, strict=True):
                if deferred.group.method.measures:
                    places = slice(deferred.first, deferred.last)
                    self._sum_up(group, FOUND, 1, GO, main, places)
                deferred.launch(main, self._sums[1], self._ends, self._counts, self._factors)
            for other in others:
                join(other, [main])
        for deferred, group in zip(self._groups, gs, strict=True):
            deferred.step(group, self._counts)

    def _sum_up(
        self,
        flat: Sequence[Array],
        factor: int,
        into: int,
        wanted: int,
        stream: Stream = None,
        places: slice = slice(None),
    ) -> None:
        """Sum the squares of gradients, each on its own stream or all on one stream."""
        for g, place in zip(flat, self._places[into][places], strict=True):
            WantedSquares(g.dtype.name)(
                g.stream if stream is None else stream,
                *(storage(g), self._factors, factor, place, self._counts, wanted, BIG, SMALL),
            )

    def read(self) -> Counted:
        """Wait for the device and return its position. The groups' scalars are read too."""
        if self.pending:
            DEVICE.wait(self._near)
            numbers = DEVICE.to_host(self._counts).tolist()
            before = self._counted.t
            self._counted = Counted(*[numbers[k] for k in (T, SKIPPED, LAST)])
            self.pending = 0
            if self._counted.t > before:
                for deferred in self._groups:
                    deferred.read()
        return self._counted

    def stand(self, t: int, skipped: int) -> None:
        """Set the position after step ``t``, with the groups' scalars on the host."""
        counts = np.zeros(COUNTS, np.int64)
        counts[[T, SKIPPED, ALWAYS]] = t, skipped, 1
        DEVICE.copy(self._counts, counts)
        self._counted, self.pending = Counted(t, skipped), 0
        for deferred in self._groups:
            deferred.write()


class _Deferred:
    """A group, and its numbers on the device besides its arrays."""

    def __init__(self, group: Group, transformation: Transformation, first: int, last: int) -> None:
        method, near = group.method, group.flat
        self.group, self.first, self.last = group, first, last
        decay_coefs, coefs = method.coefficients_at(1)
        self._limits = transformation.limits
        self._counts = transformation.count, len(decay_coefs), len(coefs)
        self.kernel = Coefficients(method, group.number.name, *self._counts)
        self._width = FETCHERS if method.measures else 1
        self.numbers = DEVICE.from_host(np.zeros(1 + sum(self._counts), group.number), near)
        self._scalars = DEVICE.from_host(np.array([*group.scalars, 0.0]), near)
        self._rates = RateTable(method)
        self._table: Array = None
        self._start = 0

    def knows_rate(self, t: int) -> bool:
        """Return whether the device has the learning rate of a step."""
        table = self._table
        if table is None:
            return False
        return self._rates.most is None or t < self._start + table.size

    def look_ahead(self, t: int) -> None:
        """Send the device the learning rates from step ``t`` on, or raise an error."""
        table = self._rates.fill(t, RATES)
        if not table.size:
            self.group.method.lr_at(t)
        self._table, self._start = DEVICE.from_host(table, self.group.flat), t
        DEVICE.wait(self.group.flat)  # a copy may continue after the call: see `Optimizer._go_on`

    def launch(
        self, stream: Stream, sums: Array, ends: Array, counts: Array, factors: Array
    ) -> None:
        """Have the device compute the coefficients."""
        method = self.group.method
        self.kernel.launch(
            (1, self._width), stream, sums, ends, self.first, self.last, counts, factors,
            self._table, self._start, method.numbers_after_lr, method.weight_decay, self._limits,
            self._scalars, self.numbers,
        )  # fmt: skip

    def decided_step(self, dtype: DType) -> DecidedStep:
        """Return the step along gradients of a dtype that the device decides to take."""
        layout = self.group.layout._replace(gradient=dtype.name)
        return DecidedStep(self.group.functions, layout)

    def step(self, gradients: Sequence[Array], counts: Array) -> None:
        """Launch a step along flat gradients, which the device takes depending on ``counts``."""
        group = self.group
        for part, g in group.stretches(gradients, 0, len(gradients)):
            self.decided_step(g.dtype)(
                *(part.x, storage(g), part.arrays, part.start, counts, self.numbers),
                group.prox_coefs,
            )
        if not group.prox.is_separable:
            group.apply_map(gradients, 0, len(gradients), counts)

    def read(self) -> None:
        """Pass the device's numbers for the last step to the group."""
        transforms, decays, coefs = self._counts
        numbers = DEVICE.to_host(self.numbers).tolist()[transforms + decays :]
        self.group.coefs = tuple(numbers[:coefs])
        scalars = DEVICE.to_host(self._scalars).tolist()
        self.group.scalars = tuple(scalars[: len(self.group.scalars)])

    def write(self) -> None:
        """Send the group's scalars to the device, and discard the prepared rates."""
        DEVICE.copy(self._scalars, np.array([*self.group.scalars, 0.0]))
        self._table = None


def defer(groups: Sequence[Group], transformation: Transformation) -> Deferral | None:
    """Return an object that takes steps without waiting, or None if no step has to wait.

    Also None if kernels cannot compute the coefficients, or if rows share an accumulator. The host
    then computes the coefficients, and waits.
    """
    if not (transformation.looks or any(group.method.measures for group in groups)):
        return None
    if not any(group.flat.size for group in groups):
        return None
    if any(group.method.rowwise or group.method.numbers_after_lr is None for group in groups):
        return None
    try:
        return Deferral(groups, transformation)
    except NumbaError:
        return None


def _as_signed(seed: int) -> int:
    """Return the lowest 64 bits of an integer as a signed number, in the device's form."""
    low = seed & (2**64 - 1)
    return low - 2**64 if low >= 2**63 else low
