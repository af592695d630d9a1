"""Regret: how much worse online play was than a comparator, and what it proves of the average.

In round t a player chooses a point x_t, and then sees the loss f_t(x_t) and a (sub)gradient g_t of
f_t there. The regret against u is the loss that playing u in every round would have saved,

    R_T(u) = sum_t f_t(x_t) - f_t(u)  <=  sum_t <g_t, x_t - u>     for convex f_t.

The right-hand side is linear in u. It depends on the past through the sums over t of g_t and of
<g_t, x_t> only, so memory does not grow with the number of rounds.
"""

from .certificate import Sums, gap
from .tracker import Tracker

__all__ = ["Sums", "Tracker", "gap"]
