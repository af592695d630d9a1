"""Optimizers as values: one file a family, with its formulas and its dataclasses.

A *rule* is a scalar function that reads like the paper's formula. It takes one coordinate ``x``,
its gradient ``g``, its state and the coefficients of the step, and returns the new ``x``, the
effective learning rate of the coordinate, and the new state. ``*_rate`` gives that rate as a
function of the new state. ``*_coefficients`` holds what all coordinates of a step share; it is
evaluated once a step, in float64. ``*_carry`` runs before it and takes the scalars of a method,
numbers that go through the run, to the next step. ``*_idle`` brings a coordinate through ``k``
steps without a gradient.

``eps_in`` and ``eps_out`` are the two places of eps, inside and outside the root; one of them is
zero. ``lr_in`` and ``lr_out`` are the two places of the learning rate, inside and outside the
momentum buffer; one of them is one. Adding zero and multiplying by one are exact.

A rate overflows to infinity if eps is tiny, or if there is none and the accumulator has faded. So
a rule multiplies by it with `times`: a zero gradient moves nothing.
"""
