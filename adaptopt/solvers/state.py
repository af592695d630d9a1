"""The state of a run, to go on exactly: of `minimize` and of `minimize_finite_sum`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, TypeVar, get_type_hints

import numpy as np

from ..arrays import Array, DType
from ..optimizer import checkpoint
from ..optimizer import state as snapshot
from ..regret.certificate import Sums
from .annotations import in_words, is_a
from .averaging import AVERAGES
from .noise_state import NoiseState
from .search_state import SearchState
from .stopping import Position

# The largest count of a run; kernels count in int64.
MOST = 2**53

_State = TypeVar("_State", bound="RunState")


@dataclass(eq=False, repr=False)
class RunState:
    """The state of a run, to go on exactly; a subclass adds what its loop keeps.

    Fields are arrays, or of what JSON holds; lists come back from the disk as tuples.

    Attributes
    ----------
    optimizer : dict
        What `Optimizer.state_dict` returned.
    """

    kind: ClassVar[str]
    # Fields that are dataclasses of the same things, or None.
    parts: ClassVar[Mapping[str, type]] = {}

    optimizer: dict[str, Any]

    @property
    def _entry(self) -> snapshot.Entry:
        (entry,) = self.optimizer["parameters"].values()
        return entry  # type: ignore[no-any-return]

    @property
    def x(self) -> np.ndarray:
        """The last iterate (the result's ``x`` may be another)."""
        return self._entry["params"]  # type: ignore[no-any-return]

    @property
    def slots(self) -> dict[str, np.ndarray]:
        """The method's state."""
        return self._entry["state"]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        entry = self._entry
        size = entry["params"].size
        return f"<{type(self).__name__}: step {self.t} of {entry['method']}, {size} variables>"

    @property
    def t(self) -> int:
        """Steps taken, over all runs."""
        return self.optimizer["t"]  # type: ignore[no-any-return]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to an .npz file, atomically and without pickle.

        The path may be given as ``state`` to go on from it.
        """
        header, arrays = snapshot.flatten(self.optimizer)
        own: checkpoint.Header = {}
        given = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        for part in self.parts:
            if (value := given.pop(part)) is not None:
                given |= {f"{part}.{name}": entry for name, entry in vars(value).items()}
        for name, value in given.items():
            (arrays if isinstance(value, np.ndarray) else own)[name] = value
        checkpoint.write(path, self.kind, {"optimizer": header, "run": own}, arrays)

    @classmethod
    def load(cls: type[_State], path: str | PathLike[str]) -> _State:
        """Read what `save` wrote."""
        source = str(path)
        header, arrays = checkpoint.read(path, cls.kind)
        if not (header.keys() == {"optimizer", "run"} and isinstance(header["run"], dict)):
            raise checkpoint.CheckpointError(f"{source} has another header than a {cls.kind}")
        own = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["run"].items()
        }
        # The optimizer's arrays have names that are JSON lists.
        own |= {name: arrays.pop(name) for name in list(arrays) if not name.startswith("[")}
        optimizer = snapshot.unflatten(header["optimizer"], arrays, source)
        _single(optimizer, source)
        for part, kind in cls.parts.items():
            start = f"{part}."
            entries = {name: own.pop(name) for name in list(own) if name.startswith(start)}
            if entries:
                values = {name.removeprefix(start): value for name, value in entries.items()}
                own[part] = _made(kind, values, source)
        state: _State = _made(cls, {"optimizer": optimizer, **own}, source)
        return state

    @classmethod
    def read(cls: type[_State], state: object) -> _State:
        """Return a state, given as it is, as its file, or as the result that holds it."""
        if isinstance(state, str | PathLike):
            return cls.load(state)
        state = getattr(state, "state", state)
        if not isinstance(state, cls):
            raise TypeError(
                f"state is {state!r:.60}, expected the state of an earlier result, or its file: "
                "pass res.state"
            )
        _check_fields(cls, vars(state), "state")
        _single(snapshot.well_formed(state.optimizer, "state"), "state")
        return state


@dataclass(eq=False, repr=False)
class DescentState(RunState):
    """The state of a run of `minimize`.

    Pass it as ``state`` with the same problem to continue exactly.

    Attributes
    ----------
    optimizer : dict
        The result of `Optimizer.state_dict`.
    fun, jac : float and ndarray, or None
        Value with penalties, and gradient, at ``x``; NaN and None until they are evaluated.
    best_x, best_jac, best_fun, best_t
        The best iterate, its gradient, value and step.
    previous_fun, previous_x, first
        Earlier values for the stopping tests and the diagnosis of dying rates.
    sums : Sums or None
        The sums from which the certificate is computed, with the option.
    added : str or None
        A digest of the bounds and penalties of the values, or None if unknown.
    search : SearchState or None
        The position of the search for the learning rate, with ``lr="auto"``.
    average, average_kind, average_count : ndarray or None, str or None, int
        The average of the iterates, if there is one.
    sizes : ndarray or None
        The sizes of the free variables that finite differences have measured, in float64.
    start : ndarray or None
        With ``lr="auto"``, the starting point of the first run.
    failed : str or None
        Why the search has ended, until it is known whether values are noisy.
    noise : NoiseState or None
        What a run goes on with whose values are noisy.
    """

    kind: ClassVar[str] = "minimize state"

    fun: float
    jac: np.ndarray | None
    best_x: np.ndarray
    best_jac: np.ndarray
    best_fun: float
    best_t: int
    previous_fun: float
    previous_x: np.ndarray | None
    first: tuple[float, float]
    sums: Sums | None = None
    added: str | None = None
    search: SearchState | None = None
    average: np.ndarray | None = None
    average_kind: str | None = None
    average_count: int = 0
    sizes: np.ndarray | None = None
    start: np.ndarray | None = None
    failed: str | None = None
    noise: NoiseState | None = None

    parts: ClassVar[Mapping[str, type]] = {
        "sums": Sums,
        "search": SearchState,
        "noise": NoiseState,
    }

    def check(self, size: int, dtype: DType) -> None:
        """Raise if a field is not one of a run over so many variables of a dtype."""
        for name in ("jac", "best_x", "best_jac", "previous_x", "start"):
            if (array := getattr(self, name)) is not None:
                _check_array(name, array, size, dtype)
        if self.sizes is not None and not (np.isfinite(self.sizes) & (self.sizes > 0)).all():
            raise ValueError("state.sizes are not all finite and positive, as measured ones are")
        if not -math.inf < self.best_fun:  # NaN too
            raise ValueError(f"state.best_fun is {self.best_fun}, expected a finite value, or inf")
        for name in ("best_x", "best_jac"):
            if self.best_fun < math.inf and not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"state.{name} is not finite, expected so with a finite best_fun")
        if self.search is not None:
            self.search.check(size, dtype)
        steps = self.t if self.search is None else self.search.steps
        if self.noise is not None:
            self.noise.check(size, dtype)
            steps += self.noise.steps
        if self.average is not None:
            _check_array("average", self.average, size, np.dtype(np.float64))
        kinds = (None,) if self.average is None else (*AVERAGES,)
        if self.average_kind not in kinds or not 0 <= self.average_count <= steps:
            raise ValueError(
                f"state has an average of {self.average_count} iterates of the kind "
                f"{self.average_kind!r}, expected one of {kinds} and at most {steps}"
            )
        if not 0 <= self.best_t <= steps:
            raise ValueError(
                f"state.best_t is {self.best_t}, expected one of the steps 0 to {steps}"
            )
        if self.sums is None:
            return
        for name, array in vars(self.sums).items():
            kept = 5 if name == "totals" else size
            _check_array(f"sums.{name}", array, kept, np.dtype(np.float64))
        rounds = float(self.sums.totals[-1])
        if not (rounds.is_integer() and 0 <= rounds <= steps + 1):
            raise ValueError(
                f"state.sums has {rounds} rounds, expected a whole number from 0 to {steps + 1}"
            )


@dataclass(eq=False, repr=False)
class EpochState(RunState):
    """The state of a run of `minimize_finite_sum`.

    Pass it as ``state`` with the same data to continue exactly.

    Attributes
    ----------
    optimizer : dict
        The result of `Optimizer.state_dict`.
    rng : dict
        The position of the generator.
    n : int
        Number of rows of the data.
    epoch : int
        Number of completed epochs, over all runs.
    done, order : int and ndarray, or None
        Number of rows used in the current epoch, and the order of its rows if it is shuffled.
    loss_sum, loss_rows : float, int
        Sum of the losses of the current epoch, and the number of rows in it.
    average, average_kind, average_count : ndarray, str, int
        The average of the iterates, if there is one.
    previous_loss : float
        Mean loss of the previous epoch, with the penalty at its end.
    validated : bool
        Whether the fields below refer to the validation loss, or to the mean loss of the epochs
        with the penalty.
    best_fun, best_epoch, best_x : float, int, ndarray
        The best value, its epoch, and with validation its iterate.
    start : ndarray or None
        The starting point of the first run, or None if unknown.
    added : str or None
        A digest of the bounds and penalties of the values, or None if unknown.
    distance : float or None
        With ``lr="auto"``, the distance from which the learning rate is computed.
    blocks : int or None
        Number of blocks of the data, if it lies in blocks.
    weights : ndarray or None
        The weights of the blocks, if they were given.
    """

    kind: ClassVar[str] = "minimize_finite_sum state"

    rng: dict[str, Any]
    n: int
    epoch: int
    done: int
    order: np.ndarray | None
    loss_sum: float
    loss_rows: int
    average: np.ndarray | None
    average_kind: str | None
    average_count: int
    previous_loss: float
    validated: bool
    best_fun: float
    best_epoch: int
    best_x: np.ndarray | None
    start: np.ndarray | None = None
    added: str | None = None
    distance: float | None = None
    blocks: int | None = None
    weights: np.ndarray | None = None

    def for_rows(self, n: int) -> EpochState:
        """Return the state with which a run over ``n`` other rows begins: it has done none of them.

        The iterate, the method's state, the average, the rate found and the count of steps go on.
        What was best is forgotten, because values over other rows do not compare.
        """
        if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
            raise ValueError(f"n is {n!r}, expected a whole number >= 1")
        return replace(
            self,
            n=int(n),
            done=0,
            order=None,
            loss_sum=0.0 if math.isfinite(self.loss_sum) else math.nan,
            loss_rows=0,
            previous_loss=math.nan,
            best_fun=math.inf,
            best_epoch=self.epoch,
            best_x=None,
        )

    def check(self, n: int, x: Array, in_blocks: bool) -> None:
        """Raise if the state does not fit a run over ``n`` rows with a flat point like ``x``.

        A kernel would access any row that ``order`` names. `read` has checked the types.
        """
        if self.blocks is not None and not in_blocks:
            raise ValueError(
                f"state is that of a run over {self.blocks} blocks, expected fun to be a sum over "
                "as many: another algorithm counts other steps"
            )
        if self.n != n:
            raise ValueError(f"data has {n} rows, expected {self.n} like state")
        counts = {"epoch": MOST, "done": n, "loss_rows": n, "average_count": MOST}
        for name, most in {**counts, "best_epoch": self.epoch}.items():
            fits = 0 <= getattr(self, name) <= most
            self._demand(fits, name, f"a whole number from 0 to {most}")
        for name in ("loss_sum", "previous_loss", "best_fun"):
            self._demand(isinstance(getattr(self, name), float), name, "a float")
        fits = self.distance is None or 0.0 < self.distance < math.inf
        self._demand(fits, "distance", "None or a finite number > 0")
        kinds = (None,) if self.average is None else (*AVERAGES,)
        self._demand(self.average_kind in kinds, "average_kind", f"one of {kinds}")
        for name, dtype in (
            ("average", np.dtype(np.float64)),
            ("best_x", x.dtype),
            ("start", x.dtype),
        ):
            array = getattr(self, name)
            fits = array is None or (array.shape == (x.size,) and array.dtype == dtype)
            self._demand(fits, name, f"None or an array of {dtype} and shape ({x.size},)")
        weights = self.weights
        fits = weights is None or (
            weights.shape == (self.blocks,)
            and weights.dtype == np.float64
            and bool((np.isfinite(weights) & (weights > 0)).all())
        )
        self._demand(fits, "weights", f"None or {self.blocks} finite numbers > 0")
        order = self.order
        self._demand(
            order is None or (order.shape == (n,) and order.dtype.kind == "i" and _permutes(order)),
            "order",
            f"None or a permutation of the numbers of {n} rows",
        )

    def position(self, same: bool, validated: bool) -> Position:
        """Return the position for a run of the same objective or not, with a validation or not."""
        position = Position(*(getattr(self, name) for name in Position._fields))
        if not same:
            position = position._replace(previous_loss=math.nan)
        if not same or self.validated != validated:
            # What was best by another measure says nothing here.
            position = position._replace(best_fun=math.inf, best_epoch=self.epoch, best_x=None)
        return position

    def _demand(self, fits: bool, name: str, expected: str) -> None:
        if not fits:
            text = repr(getattr(self, name))
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise ValueError(f"state.{name} is {shown}, expected {expected}")


def _made(kind: Any, values: Mapping[str, object], source: str) -> Any:
    """Make a dataclass of what a file holds, if it holds all of its fields and nothing else."""
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not needed <= values.keys() <= known:
        raise checkpoint.CheckpointError(
            f"{source} holds {sorted(values)}, expected the fields of a {kind.__name__}"
        )
    _check_fields(kind, values, source)
    return kind(**values)


def _check_fields(kind: type, values: Mapping[str, object], source: str) -> None:
    """Raise if a value is of another type than the annotation of its field."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name in hints and not is_a(value, hints[name]):
            raise TypeError(f"{source}: {name} is {value!r:.60}, expected {in_words(hints[name])}")


def _single(optimizer: snapshot.Taken, source: str) -> None:
    """Raise if an optimizer's state is of other parameters than one without a name."""
    names = list(optimizer["parameters"])
    if names != [""]:
        raise ValueError(f"{source} has the parameters {names}, expected the one of a run")


def _check_array(name: str, array: object, size: int, dtype: DType) -> None:
    if not (type(array) is np.ndarray and array.shape == (size,) and array.dtype == dtype):
        given = f"of {array.dtype} and shape {array.shape}" if type(array) is np.ndarray else array
        raise ValueError(f"state.{name} is {given}, expected {dtype} and shape ({size},)")


def _permutes(order: np.ndarray) -> bool:
    """Return whether each number from 0 to the size minus 1 occurs once."""
    inside = order.min() >= 0 and order.max() < order.size
    return bool(inside and (np.bincount(order, minlength=order.size) == 1).all())
