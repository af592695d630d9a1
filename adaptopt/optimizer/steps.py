"""Steps of all parameters of an optimizer: each is taken completely or not at all."""

from __future__ import annotations

import dataclasses
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..arrays import Array
from ..kernels.formats import step_key
from ..kernels.parallel import hands
from .clipping import Transformation
from .gradients import Gradient
from .group import Call
from .parameters import Parameters
from .table import RowGradient

if TYPE_CHECKING:
    from .deferred import Deferral


@dataclasses.dataclass(slots=True)
class Counts:
    """The counts of an optimizer, and the calls that undo a step in progress."""

    t: int = 0
    skipped: int = 0
    undoing: list[Call] = dataclasses.field(default_factory=list)


_call: Callable[..., object] = partial.__call__


def _run_all(calls: list[Call]) -> None:
    """Call each function, in one call of compiled code."""
    deque(map(_call, calls), maxlen=0)


class Steps:
    """Take and count steps.

    Parameters
    ----------
    parameters : Parameters
        The parameters to update.
    transformation : Transformation
        The transformation of gradients before a step.
    seed : int
        The seed of stochastic rounding.
    nan_policy : object
        The policy for gradients that are not finite, as `Optimizer` documents it.
    """

    def __init__(
        self,
        parameters: Parameters,
        transformation: Transformation,
        seed: int,
        nan_policy: object,
    ) -> None:
        self._parameters, self._backend = parameters, parameters.backend
        self.transformation, self.seed = transformation, seed
        self.counts = Counts()
        # Takes steps without waiting, if they depend on gradients on a device.
        self._deferral: Deferral | None = None
        self._nan_policy = self._read_nan_policy(nan_policy)
        for counted in parameters.groups:
            counted.group.checks_gradients = self._nan_policy is not None
        self.know_groups()
        if self._backend.is_asynchronous:
            self.go_to_device()

    def _read_nan_policy(self, policy: object) -> str | None:
        """Return the policy for which gradients are checked; None if no check is needed."""
        looks = self.transformation.looks
        if policy not in (None, "propagate", "skip", "raise"):
            raise ValueError(f"nan_policy is {policy!r}, expected None, propagate, skip or raise")
        if policy == "propagate" and looks:
            raise ValueError(
                "nan_policy is 'propagate' with clip_norm or loss_scale, expected skip or raise: "
                "the norm of such a gradient is NaN"
            )
        if policy in (None, "propagate") or (policy == "skip" and looks):
            return None
        if self._backend.is_asynchronous:
            raise ValueError(
                f"nan_policy is {policy!r} for CUDA arrays, expected None: each step would have to "
                "wait for the device"
            )
        return str(policy)

    def know_groups(self) -> None:
        """Record the properties of all groups that steps need."""
        groups = self._groups = [counted.group for counted in self._parameters.groups]
        self._largest = max(group.flat.size for group in groups)
        self._tied = [group for group in groups if group.is_tied]
        # Maps that tie coordinates together run in Python: first, as they can be interrupted.
        self._order = sorted(range(len(groups)), key=lambda k: not groups[k].is_tied)
        self._draws = any(group.draws for group in groups)
        self._gathers = self.transformation.looks or any(g.method.measures for g in groups)

    # -- a step ------------------------------------------------------------------------------------

    def take(self, gs: list[list[Gradient]], apart: bool, alone: bool = False) -> None:
        """Take a step along the gradients of each group.

        If ``apart``, each parameter has its own kind of gradient, or none. If ``alone``, only one
        has a gradient.
        """
        if apart or any(counted.are_apart for counted in self._parameters.groups):
            self._take_apart(gs, alone)
        else:
            self._take_together(gs)

    def _take_together(self, gs: list[list[Array]]) -> None:
        """Take a step in which all parameters have dense gradients."""
        if self._deferral is not None:
            self._deferral.step(gs, self.seed)
            # An upper bound: skipped steps are read when they are needed.
            self.counts.t += 1
            return
        t, groups = self.counts.t + 1, self._groups
        if self._nan_policy and not self._are_finite([g for each in gs for g in each]):
            self._skip()
            return
        together: Sequence[Sequence[Array]] = gs
        if self._gathers:
            pairs = zip(groups, gs, strict=True)
            together = [group.places.together(g) for group, g in pairs]
        coefs: tuple[float, ...] | None = ()
        if self.transformation.count:
            coefs = self.transformation.coefficients(
                lambda factor: [
                    squares
                    for group, g in zip(groups, together, strict=True)
                    for squares in group.places.squares(g, factor)
                ]
            )
        if coefs is None:
            self._skip()
            return
        factor = coefs[0] * coefs[1] if coefs else 1.0
        prepared = [
            group.prepare(t, g, factor, group.scalars)
            for group, g in zip(groups, together, strict=True)
        ]
        key = step_key(self.seed, t) if self._draws else 0
        with hands(self._largest) as threads:
            calls: list[Call] = []
            for k in self._order:
                g = together[k]
                calls += groups[k].calls(g, 0, len(g), prepared[k], coefs, key, threads)
            for k in self._order:
                calls += groups[k].standing(prepared[k])
            self._run(calls, t)

    def _take_apart(self, gs: list[list[Gradient]], alone: bool) -> None:
        """Take a step in which each parameter has its own kind of gradient, or none."""
        if self._deferral is not None:  # by rows, parameters count their own steps: on the host
            self.settle()
            self._deferral = None
        t = self.counts.t
        groups = self._parameters.groups
        pairs = list(zip(groups, gs, strict=True))
        seen: list[Array] = []
        for counted, each in pairs:
            for k, g in enumerate(each):
                if isinstance(g, RowGradient):
                    table = counted.admit(k, t, alone)
                    repeats = g.order.size > g.rows.size  # then a sum may overflow
                    sums = self._gathers or (self._nan_policy and repeats)
                    summed = table.sums(g) if sums else g
                    each[k] = summed if self._gathers else g
                    seen.append(summed.values)
                elif g is not None:
                    seen.append(g)
        if self._nan_policy and not self._are_finite(seen):
            self._skip()
            return
        sum_of_squares = self._backend.sum_of_squares
        coefs = self._coefficients(lambda factor: [sum_of_squares(g, factor) for g in seen])
        if coefs is None:
            self._skip()
            return
        for counted, each in pairs:
            counted.prepare(each, t, coefs[0] * coefs[1] if coefs else 1.0)
        by = any(
            g is not None and not behind
            for counted, each in pairs
            for g, behind in zip(each, counted.behind, strict=True)
        )
        for counted, each in pairs:
            counted.bring_up(each, self.seed)
        with hands(self._largest) as threads:
            calls: list[Call] = []
            for k in self._order:
                calls += groups[k].calls(gs[k], coefs, self.seed, threads)
            for counted, each in pairs:
                calls += counted.standing(each, by)
            self._run(calls, t + by)

    def _coefficients(self, squares: Callable[[float], list[float]]) -> tuple[float, ...] | None:
        """Return the coefficients of the transformation, or None if a gradient is not finite."""
        return self.transformation.coefficients(squares) if self.transformation.count else ()

    def _are_finite(self, gradients: Sequence[Array]) -> bool:
        """Return whether all gradients are finite, or raise an error if the policy is 'raise'."""
        if all(map(self._backend.is_finite, gradients)):
            return True
        if self._nan_policy == "raise":
            raise FloatingPointError(
                f"grads of step {self.counts.t + 1} hold a value that is not finite, expected "
                "finite ones (nan_policy is 'raise')"
            )
        return False

    def _run(self, calls: list[Call], t: int) -> None:
        """Take step ``t`` completely or, if it is interrupted, not at all.

        Python checks for Ctrl-C between its own instructions. On the host the calls run compiled
        code, and one call makes them all. A map that ties coordinates together runs in Python. It
        comes first, and if it is interrupted, its changes are undone.
        """
        counts = self.counts
        if counts.undoing:
            self.put_back()
        calls.append(partial(setattr, counts, "t", t))
        if not self._tied:
            _run_all(calls)
            return
        calls.append(partial(setattr, counts, "undoing", []))
        try:
            counts.undoing = [
                partial(array.__setitem__, ..., array.copy())
                for group in self._tied
                for array in group.written()
            ]
            _run_all(calls)
        except BaseException:
            self.put_back()
            raise

    def put_back(self) -> None:
        """Undo a step that was interrupted, and whose undoing was interrupted too."""
        if self.counts.undoing:
            _run_all([*self.counts.undoing, partial(setattr, self.counts, "undoing", [])])

    # -- on a device -------------------------------------------------------------------------------

    def go_to_device(self) -> None:
        """Compile the kernels of the steps for the device."""
        from .deferred import defer  # imports numba.cuda

        groups = [counted.group for counted in self._parameters.groups]
        self._deferral = defer(groups, self.transformation)
        if self._deferral is None:
            for group in groups:
                group.compile()
        # A copy from the host may continue after its call, and the streams of other libraries are
        # not ordered with it.
        self._backend.wait(self._parameters.near)

    def settle_count(self) -> None:
        """Read how many steps a device has taken, if it may skip some."""
        if self._deferral is not None and self._deferral.may_skip:
            self.settle()

    def settle(self) -> None:
        """Read the decisions and results of a device, after waiting for it."""
        if self._deferral is None:
            return
        counts, before = self.counts, self.counts.skipped
        counts.t, counts.skipped, last = self._deferral.read()
        if counts.skipped > before:
            # The user's line read `Optimizer.t`, which called `settle_count`.
            self._warn_of(last, counts.skipped - before, stacklevel=5)

    def tell_device(self) -> None:
        """Send the position of the host to the device."""
        if self._deferral is not None:
            self._deferral.stand(self.counts.t, self.counts.skipped)

    def follow_groups(self) -> None:
        """Use other groups from now on, with the same arrays."""
        self.know_groups()
        if self._backend.is_asynchronous:
            apart = self._deferral is None
            self.go_to_device()
            if apart:
                self._deferral = None
            self.tell_device()

    # -- skipped steps -----------------------------------------------------------------------------

    def _skip(self) -> None:
        self.counts.skipped += 1
        # The user's line called `Optimizer.step`, `take` and what takes it.
        self._warn_of(self.counts.t + 1, 1, stacklevel=6)

    def _warn_of(self, last: int, count: int, stacklevel: int) -> None:
        which = (
            f"step {last} was" if count == 1 else f"{count} steps, the last of them {last}, were"
        )
        loss_scale = self.transformation.loss_scale
        scale = "" if loss_scale is None else f" (loss_scale is {loss_scale:g})"
        message = f"{which} skipped: a gradient is not finite{scale}"
        warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
