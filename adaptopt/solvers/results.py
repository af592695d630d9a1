"""What minimisers return: SciPy's result, printed short."""

from __future__ import annotations

from scipy.optimize import OptimizeResult


class Result(OptimizeResult):  # type: ignore[misc]  # SciPy has no types
    """SciPy's ``OptimizeResult``, which prints neither empty fields nor a whole history."""

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.items() if value is not None}
        if history := shown.get("history"):
            shown["history"] = f"{len(history['t'])} records of {', '.join(history)}"
        if self.items():
            return str(OptimizeResult(shown))
        return "Result()"
