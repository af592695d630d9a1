"""Optimizers: one file per family, with its formulas and its dataclasses.

A *rule* is a scalar function that reads like the paper's formula. It takes one coordinate ``x``,
its gradient ``g``, its state and the coefficients of the step. It returns the new ``x``, the
effective learning rate of the coordinate, and the new state. ``*_rate`` gives that rate as a
function of the new state. ``*_coefficients`` returns the numbers that all coordinates of a step
share. It runs once a step, in float64. Before it runs ``*_carry``, which updates the scalars of a
method: numbers that the whole run carries along. ``*_idle`` applies ``k`` steps without a gradient
to a coordinate.

``eps_in`` and ``eps_out`` are the positions of eps, inside and outside the root; one of them is
zero. ``lr_in`` and ``lr_out`` are the positions of the learning rate, inside and outside the
momentum buffer; one of them is one. Adding zero and multiplying by one are exact.

A rate can be infinite if eps is tiny, or if eps is 0 and the accumulator has decayed to 0. So a
rule multiplies by the rate with `times`, and a zero gradient moves nothing.
"""
