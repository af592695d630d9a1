"""A group whose parameters count their own steps, and whose rows may have deferred steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TypeGuard

import numpy as np

from ..arrays import Array
from ..kernels.formats import step_key
from ..methods.base import Method
from ..prox.base import Proximal
from .checkpoint import Stored
from .gradients import Gradient
from .group import Call, Group, Prepared
from .inspection import entries as entries_of
from .inspection import gradient_norm, gradient_norms, learning_rates
from .state import Entry
from .table import RowGradient, Table, why_not_exact

LAZY = ("exact", "touched")


def _is_whole(gradient: Gradient) -> TypeGuard[np.ndarray]:
    return gradient is not None and not isinstance(gradient, RowGradient)


class CountedGroup:
    """A group whose parameters can be stepped by rows, and independently of each other.

    Parameters
    ----------
    group : Group
        The group of the parameters.
    names : sequence of str
        The names of the parameters in error messages.
    lazy : {"exact", "touched"}
        How rows without a gradient are treated.

    Attributes
    ----------
    behind : list of int
        For each parameter, the number of the optimizer's steps that it has not taken.
    """

    def __init__(self, group: Group, names: Sequence[str], lazy: str) -> None:
        self.group, self._names, self._exact = group, names, lazy == "exact"
        self.behind = [0] * len(names)
        self._tables: dict[int, Table] = {}
        # The method's scalars of parameters with fewer steps, by the number of missing steps.
        self._scalars: dict[int, tuple[float, ...]] = {}
        # Of the step that is prepared: its number for each parameter, the rule's coefficients of
        # the step before, and what each number asks for.
        self._steps: list[int] = []
        self._before: list[tuple[float, ...]] = []
        self._prepared: dict[int, Prepared] = {}

    def admit(self, k: int, t: int | None, alone: bool = False) -> Table:
        """Return a parameter as a table, or raise an error if it cannot be stepped by rows."""
        self._refuse_rows(k, alone)
        table = self._tables.get(k)
        if table is None:
            table = self.group.table(k)
            if self._exact:
                table.wait(None if t is None else t - self.behind[k])
            self._tables[k] = table
        return table

    def _refuse_rows(self, k: int, alone: bool) -> None:
        """Raise an error if a parameter cannot be stepped by rows."""
        group, name = self.group, self._names[k]
        method = group.method
        where = f"{name} is stepped by rows"
        if not group.prox.is_separable:
            raise ValueError(
                f"{where} with {type(group.prox).__name__}, expected a prox that maps each "
                "coordinate alone: this one ties the rows together"
            )
        if alone and method.measures and len(self.behind) > 1:
            raise ValueError(
                f"{where} without the others that share {type(method).__name__}, expected a step "
                f"of all of them: its {', '.join(method.scalars)} is one for all"
            )
        if k not in self._tables and self._exact:
            why = why_not_exact(method, group.prox)
            if why is not None:
                raise ValueError(
                    f"{where} with lazy 'exact', expected lazy='touched' (rows without a gradient "
                    f"are left alone, which is another algorithm) or whole gradients: {why}"
                )

    def prepare(self, gs: Sequence[Gradient], t: int, factor: float) -> None:
        """Prepare the step after ``t``, before anything is modified."""
        present = [g.values if isinstance(g, RowGradient) else g for g in gs if g is not None]
        self._steps = [t - behind + 1 for behind in self.behind]
        self._before = [self._coefs_of(k, t) for k in range(len(gs))]
        stepped = {
            now: self._scalars_of(behind)
            for now, behind, g in zip(self._steps, self.behind, gs, strict=True)
            if g is not None
        }
        self._prepared = {
            now: self.group.prepare(now, present, factor, scalars)
            for now, scalars in stepped.items()
        }
        for k, table in self._tables.items():
            g = gs[k]
            if isinstance(g, RowGradient):
                table.look_ahead(self._steps[k])
                table.kernel(g.values.dtype.name)

    def bring_up(self, gs: Sequence[Gradient], seed: int) -> None:
        """Apply the missed steps that the prepared step does not apply itself."""
        for k, table in self._tables.items():
            g, now = gs[k], self._steps[k]
            if g is not None and (_is_whole(g) or table.waits_long(now)):
                stream = self.group.backend.stream_of(g.values if isinstance(g, RowGradient) else g)
                table.flush(now - 1, self._before[k], self._noise(seed, now), stream)

    def calls(
        self, gs: Sequence[Gradient], transform_coefs: tuple[float, ...], seed: int, threads: int
    ) -> list[Call]:
        """Return the calls that take the prepared step of parameters with a gradient."""
        made: list[Call] = []
        for first, end in self._runs(gs):
            now, g = self._steps[first], gs[first]
            prepared, key = self._prepared[now], step_key(seed, now)
            if isinstance(g, RowGradient):
                before, rest = self._before[first], (transform_coefs, *prepared[1:])
                made.append(self.group.row_call(first, g, now, before, rest, key, threads))
            else:
                made += self.group.calls(gs, first, end, prepared, transform_coefs, key, threads)
        for k, table in self._tables.items():
            if _is_whole(gs[k]):
                made += table.marks(self._steps[k], self.group.backend.stream_of(gs[k]))
        return made

    def _runs(self, gs: Sequence[Gradient]) -> Iterator[tuple[int, int]]:
        """Yield parameters with gradients: adjacent ones with the same step together."""
        kinds: list[object] = [
            None if g is None else (now if _is_whole(g) else (k, now))
            for k, (g, now) in enumerate(zip(gs, self._steps, strict=True))
        ]
        for kind, together in groupby(range(len(gs)), kinds.__getitem__):
            if kind is not None:
                first, *others = together
                yield first, others[-1] + 1 if others else first + 1

    def standing(self, gs: Sequence[Gradient], by: int) -> list[Call]:
        """Return the calls that count: ``by`` steps of the optimizer, one for each gradient."""
        behind = [b + by - (g is not None) for b, g in zip(self.behind, gs, strict=True)]
        made: list[Call] = [partial(setattr, self, "behind", behind)]
        if self._prepared:
            made += self.group.standing(self._prepared[max(self._prepared)])
        method = self.group.method
        if method.scalars and not method.measures:  # what is measured is one for all
            now = {
                after: self._prepared[step][0] if g is not None else self._scalars_of(before)
                for after, before, step, g in zip(behind, self.behind, self._steps, gs, strict=True)
            }
            made.append(partial(setattr, self, "_scalars", now if len(now) > 1 else {}))
            made.append(partial(setattr, self.group, "scalars", now[min(now)]))
        return made

    def _scalars_of(self, behind: int) -> tuple[float, ...]:
        """Return the method's scalars of parameters with this number of missing steps."""
        if self.group.method.measures:  # what is measured is one for all
            return self.group.scalars
        return self._scalars.get(behind, self.group.scalars)

    def catch_up(self, k: int, rows: np.ndarray | None, t: int, seed: int, stream: object) -> None:
        """Apply missed steps to rows, up to the optimizer's step ``t``; to all by default."""
        table = self._tables.get(k)
        if table is None or (rows is not None and not rows.size):
            return
        now = t - self.behind[k]
        before, noise = self._coefs_of(k, t), self._noise(seed, now)
        if rows is None:
            table.flush(now, before, noise, stream)
        else:
            table.catch_up(rows, now, before, noise, stream)

    @property
    def lags(self) -> bool:
        """Whether rows may have deferred steps."""
        return bool(self._tables)

    @property
    def are_apart(self) -> bool:
        """Whether each parameter steps separately: rows have deferred steps, or some missed one."""
        return bool(self._tables) or any(self.behind)

    def flush(self, t: int, seed: int, stream: object) -> None:
        """Apply missed steps to all rows of all parameters, up to the optimizer's step ``t``."""
        for k in self._tables:
            self.catch_up(k, None, t, seed, stream)

    def learning_rates(self, t: int) -> list[Array]:
        """Return the effective rates of each parameter's last step."""
        if not any(self.behind):
            return learning_rates(self.group, t, self.group.coefs)
        return [
            learning_rates(self.group, t - behind, self._coefs_of(k, t))[k]
            for k, behind in enumerate(self.behind)
        ]

    def gradient_norms(self, gs: Sequence[Gradient]) -> list[float]:
        """Return for each parameter the residual of optimality with its gradient."""
        if all(map(_is_whole, gs)):
            return gradient_norms(self.group, gs)
        norms = []
        for k, g in enumerate(gs):
            if g is None:
                continue
            if not isinstance(g, RowGradient):
                norms.append(gradient_norm(self.group, k, g))
                continue
            if self.group.prox.prox is not Proximal.prox:
                raise ValueError(
                    f"the gradient of {self._names[k]} is sparse with "
                    f"{type(self.group.prox).__name__}, expected a whole gradient: rows without "
                    "one are not stationary either"
                )
            values = self.group.table(k).sums(g).values
            self.group.backend.wait(values)
            sums = self.group.backend.to_host(values)
            norms.append(float(np.max(np.abs(sums), initial=0.0)))
            if not np.isfinite(norms[-1]):
                norms[-1] = math.nan
        return norms

    def _coefs_of(self, k: int, t: int) -> tuple[float, ...]:
        """Return the rule's coefficients in the last step of a parameter."""
        group = self.group
        coefs: tuple[float, ...] = group.coefs
        behind = self.behind[k]
        now = t - behind
        if len(set(self.behind)) > 1 and now:
            coefs = group.method.coefficients_at(now, self._scalars_of(behind))[1]
        return coefs

    def _noise(self, seed: int, t: int) -> tuple[int, ...]:
        return (step_key(seed, t),) if self.group.draws else ()

    # -- changing ---------------------------------------------------------------------------------

    def with_method(self, method: Method, first: int, end: int, t: int) -> CountedGroup:
        """Return some parameters with another method, in the same arrays, after step ``t``."""
        if end - first < len(self.behind) and self.group.method.measures:
            name = type(method).__name__
            raise ValueError(
                f"{self._names[first]} would have another {name} than those it shares its "
                f"{', '.join(method.scalars)} with, expected the same for all of them"
            )
        tables = {k: table for k, table in self._tables.items() if first <= k < end}
        for k in tables:
            why = why_not_exact(method, self.group.prox) if self._exact else None
            if why is not None:
                raise ValueError(f"{self._names[k]} is stepped by rows with lazy 'exact': {why}")
        group = self.group.with_method(method, first, end)
        new = CountedGroup(group, self._names[first:end], LAZY[not self._exact])
        new.behind = self.behind[first:end]
        new._tables = {k - first: group.table(k - first) for k in tables}
        least = min(new.behind)
        group.go_on(t - least, self._scalars_of(least))
        scalars = {behind: self._scalars_of(behind) for behind in new.behind}
        new._scalars = scalars if len(scalars) > 1 else {}
        return new

    def all_current(self, t: int) -> None:
        """Mark all rows as current at the optimizer's step ``t``."""
        for k, table in self._tables.items():
            if self._exact:
                table.wait(t - self.behind[k])
            table.mark(t - self.behind[k])

    def reset(self) -> None:
        """Return to the state before the first step."""
        self.behind, self._scalars = [0] * len(self.behind), {}
        self.group.reset()
        for table in self._tables.values():
            table.mark(0)

    # -- going on ----------------------------------------------------------------------------------

    def entries(self, t: int) -> list[Entry]:
        """Return views of the state after step ``t``, with the last step of each row.

        For rows with deferred steps, include the coefficients from which these are computed.
        """
        entries = entries_of(self.group)
        for k, entry in enumerate(entries):
            if self.behind[k]:
                entry["behind"] = self.behind[k]
                scalars = self._scalars_of(self.behind[k])
                entry["scalars"] = dict(zip(self.group.method.scalars, scalars, strict=True))
            if k in self._tables and self._tables[k].lazy:
                entry["hidden"]["last"] = self._tables[k].last
                entry["waits_with"] = self._numbers_at(t, self.behind[k], self._scalars_of)
        return entries

    def _numbers_at(
        self, t: int, behind: int, scalars_of: Callable[[int], tuple[float, ...]]
    ) -> list[float]:
        """Return the coefficients of decay and rule in the last step of a parameter."""
        if t == behind:
            return []
        decay, coefs = self.group.method.coefficients_at(t - behind, scalars_of(behind))
        return [float(number) for number in (*decay, *coefs)]

    def refuse_other_waits(
        self, taken: Sequence[Entry], t: int, scalars: dict[int, tuple[float, ...]], source: str
    ) -> None:
        """Raise an error if steps of rows were deferred under other hyperparameters."""
        for k, entry in enumerate(taken):
            last, theirs = entry["hidden"].get("last"), entry.get("waits_with")
            if last is None or theirs is None:
                continue
            behind = int(entry.get("behind", 0))
            ours = self._numbers_at(t, behind, scalars.__getitem__)
            # Powers differ in their last bits between machines.
            if len(ours) == len(theirs) and np.allclose(ours, theirs, 1e-9, 0, equal_nan=True):
                continue
            last = np.asarray(last.read() if isinstance(last, Stored) else last)
            if (last < t - behind).any():
                raise ValueError(
                    f"{source}: rows of {self._names[k]} wait for steps of a "
                    f"{type(self.group.method).__name__} with coefficients {theirs}, expected "
                    f"{ours}: load into the hyperparameters of that run, then set others"
                )

    def entries_like(self, taken: Sequence[Entry], wait: bool) -> list[Entry]:
        """Return views for a state that is about to be restored.

        If ``wait`` is true, rows with deferred steps there have them here too. Otherwise an array
        only has the right shape.
        """
        entries = entries_of(self.group)
        for k, (entry, theirs) in enumerate(zip(entries, taken, strict=True)):
            if "last" not in theirs["hidden"]:
                continue
            if wait:
                self.admit(k, None)
                entry["hidden"]["last"] = self._tables[k].last
                continue
            self._refuse_rows(k, alone=False)
            table = self.group.table(k)
            if self._exact and table.misses:
                entry["hidden"]["last"] = np.broadcast_to(np.int64(0), table.count)
        return entries

    def scalars_of(self, taken: Sequence[Entry], source: str) -> dict[int, tuple[float, ...]]:
        """Return the method's scalars from a state, by the number of missing steps.

        Parameters of a group with equal counts have equal scalars.
        """
        method = self.group.method
        found: dict[int, tuple[float, ...]] = {}
        first: dict[int, int] = {}
        for k, entry in enumerate(taken):
            behind, scalars = int(entry.get("behind", 0)), entry["scalars"]
            j = first.setdefault(0 if method.measures else behind, k)
            if repr(scalars) != repr(taken[j]["scalars"]):  # NaN equals NaN here
                raise ValueError(
                    f"{source} has {taken[j]['scalars']} for {self._names[j]} and {scalars} for "
                    f"{self._names[k]}, which share one {type(method).__name__} here: expected "
                    "equal ones, or methods that differ"
                )
            found[behind] = tuple(scalars[name] for name in method.scalars)
        return found

    def go_on(self, taken: Sequence[Entry], t: int, scalars: dict[int, tuple[float, ...]]) -> None:
        """Adopt the position of restored entries, with the scalars from `scalars_of`."""
        for k, entry in enumerate(taken):
            self.behind[k] = int(entry.get("behind", 0))
            table = self._tables.get(k)
            if table is not None and "last" in entry["hidden"]:
                table.go_on()
            elif table is not None:
                table.mark(t - self.behind[k])
        self._scalars = scalars if len(scalars) > 1 else {}
        self.group.go_on(t - min(scalars), scalars[min(scalars)])
