"""How many steps a compiled call takes."""

from __future__ import annotations

# A call lasts about so many seconds: Ctrl-C and limits of time are seen after it.
SECONDS = 0.025
# A call takes at most so many times the steps of the one before, as a first step may cost less than
# those after it; and so many.
GROWTH, MOST = 16, 2**30


class Pace:
    """Measures calls, and says how many steps the next one is to take.

    Attributes
    ----------
    steps : int
        That many.
    """

    def __init__(self) -> None:
        self.steps = 1

    def measure(self, seconds: float, steps: int) -> None:
        """Take into account that a call of so many steps has lasted so many seconds."""
        each = max(seconds, 1e-9) / max(steps, 1)
        self.steps = int(min(max(SECONDS / each, 1), GROWTH * self.steps, MOST))
