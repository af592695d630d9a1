"""The order of rows: permutations from a generator, cut into batches; its state in plain things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias, TypeVar

import numpy as np

_Result = TypeVar("_Result")

# The position of a generator, in what JSON holds.
GeneratorState: TypeAlias = dict[str, Any]

# What NumPy has. The state of another kind of generator needs one of its kind to be copied into.
_BIT_GENERATORS = {
    kind.__name__: kind
    for kind in (
        *(np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937),
        *(np.random.Philox, np.random.SFC64),
    )
}
# Generators that draw so many numbers together, and keep a place among them.
_DRAWN_TOGETHER = {"MT19937": 624, "Philox": 4}


@dataclass(frozen=True)
class Batches:
    """How the rows of an epoch are cut into batches.

    Parameters
    ----------
    n : int
        Rows of the data.
    size : int
        Rows of a batch.
    shuffle : bool
        Whether each epoch takes them in a new order.
    drop_last : bool
        Whether a short last batch is left out.
    """

    n: int
    size: int
    shuffle: bool
    drop_last: bool

    def __post_init__(self) -> None:
        if self.drop_last and self.size > self.n:
            raise ValueError(
                f"batch_size is {self.size} with drop_last=True, expected at most {self.n}, the "
                "rows of data: no batch would be left"
            )

    def order(self, rng: np.random.Generator) -> np.ndarray | None:
        """Draw the order of an epoch; None is that of the data."""
        return rng.permutation(self.n) if self.shuffle else None

    def next(self, done: int) -> int:
        """Return how many rows the batch after ``done`` rows of the epoch has, 0 at its end."""
        rows = min(self.size, self.n - done)
        return 0 if self.drop_last and rows < self.size else max(rows, 0)

    def left(self, done: int) -> int:
        """Return how many batches there are still in an epoch."""
        rows = self.n - done
        return max(rows // self.size if self.drop_last else -(-rows // self.size), 0)


class Draws:
    """The generator that orders are drawn from, which others may draw from too.

    Parameters
    ----------
    rng : None, int or numpy.random.Generator
        As of `adaptopt.minimize_finite_sum`.
    """

    def __init__(self, rng: object) -> None:
        self._is_shared = isinstance(rng, np.random.Generator)
        self.rng = read_rng(rng)
        self._held: GeneratorState | None = None

    def during(
        self, call: Callable[..., _Result], *arguments: object, hold: bool = False
    ) -> _Result:
        """Call what may draw from the generator; if it fails, `state` is that of before."""
        before = self._held
        if before is None and (hold or self._is_shared):
            self._held = rng_state(self.rng)
        value = call(*arguments)
        self._held = before
        return value

    def state(self) -> GeneratorState:
        """Return the position of the generator."""
        return self._held or rng_state(self.rng)

    def hold(self, state: GeneratorState) -> None:
        """Keep a position as the state, whatever is drawn from now on."""
        self._held = state

    def position(self, state: object) -> np.random.BitGenerator:
        """Return a bit generator at a position, or say why it does not fit; nothing is modified."""
        return position_of(state, self.rng if self._is_shared else None)

    def move_to(self, bits: np.random.BitGenerator) -> None:
        """Go on from the position of a bit generator."""
        if self._is_shared:
            self.rng.bit_generator.state = bits.state
        else:
            self.rng = np.random.Generator(bits)


def read_count(name: str, value: object) -> int:
    """Return a whole number that is at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}, expected a whole number >= 1")
    if value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number >= 1")
    return int(value)


def read_flag(name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool | np.bool_) and value not in (0, 1):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def read_rng(rng: object) -> np.random.Generator:
    """Return the generator given, or a new one from a seed, or from the system for None."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None and (isinstance(rng, bool) or not isinstance(rng, Integral)):
        raise TypeError(f"rng is {rng!r}, expected None, a whole number >= 0 or a NumPy Generator")
    if rng is not None and rng < 0:
        raise ValueError(f"rng is {rng!r}, expected None, a whole number >= 0 or a NumPy Generator")
    return np.random.default_rng(None if rng is None else int(rng))


def rng_state(rng: np.random.Generator) -> GeneratorState:
    """Return the position of a generator, in what JSON holds."""
    return _plain(rng.bit_generator.state)  # type: ignore[no-any-return]


def position_of(state: object, rng: np.random.Generator | None) -> np.random.BitGenerator:
    """Return a new bit generator at the position ``state``, of the kind of ``rng`` if it is given.

    NumPy takes positions beyond the end of a generator's numbers, and then reads there.
    """
    kind = state.get("bit_generator") if isinstance(state, Mapping) else None
    made = _BIT_GENERATORS.get(str(kind)) if rng is None else type(rng.bit_generator)
    if made is None:
        raise ValueError(f"state has the generator {kind}, expected rng to be such a Generator")
    if made.__name__ != kind:
        raise ValueError(
            f"rng is a Generator of {made.__name__}, expected {kind} like that of state"
        )
    bits = made()
    try:
        bits.state = _arrays(state)
        taken = _plain(bits.state)
        place = taken.get("buffer_pos", taken["state"].get("pos", 0))
        fits = taken == state and 0 <= place <= _DRAWN_TOGETHER.get(made.__name__, place)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"state.rng is no position of a {kind} generator")
    return bits


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "array": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value: object) -> Any:
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {"dtype", "array"}:
        return np.array(value["array"], {"uint32": np.uint32, "uint64": np.uint64}[value["dtype"]])
    return {key: _arrays(item) for key, item in value.items()}
