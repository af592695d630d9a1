"""The mathematics of the rules, on Python floats, without a compiler."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptopt import rules

gradients = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def run(rule, slots, gradients, coefs, x=1.0):
    for g in gradients:
        x, rate, slots = rule(x, g, *slots, *coefs)
    return x, rate, slots


def test_sgd_is_one_rate_for_all():
    assert rules.sgd(1.0, 4.0, 0.5) == (-1.0, 0.5, ())


def test_momentum_remembers_the_gradients():
    x, _, (b,) = run(rules.momentum, (0.0,), [1.0, 1.0, 0.0], (0.5, 1.0, 0.1))
    assert b == 0.75
    assert x == pytest.approx(1 - 0.1 * (1 + 1.5 + 0.75))


def test_nesterov_steps_ahead_of_the_buffer():
    x, _, (b,) = run(rules.nesterov, (0.0,), [1.0], (0.5, 1.0, 0.1))
    assert (x, b) == (pytest.approx(1 - 0.1 * (1 + 0.5)), 1.0)


def test_the_first_gradient_enters_the_buffer_undampened():
    coefs = [rules.momentum_coefficients(t, 0.1, 0.9, False, 0.25, False) for t in (1, 2)]
    assert coefs == [(0.9, 1.0, 0.1), (0.9, 0.75, 0.1)]


def test_adagrad_first_step_is_lr_times_the_sign():
    for g in (1e-6, -3.0, 1e6):
        x, _, _ = rules.adagrad(0.0, g, 0.0, 0.1, 0.0, 1e-30)
        assert x == pytest.approx(-math.copysign(0.1, g))


@given(gradients)
def test_adagrad_sums_the_squares(gs):
    _, _, (G,) = run(rules.adagrad, (0.0,), gs, (0.1, 0.0, 1e-8))
    assert G == pytest.approx(sum(g * g for g in gs))


@given(gradients)
def test_adagrad_rates_only_fall(gs):
    x, G, last = 0.0, 0.0, math.inf
    for g in gs:
        x, rate, (G,) = rules.adagrad(x, g, G, 0.1, 0.0, 1e-8)
        assert rate <= last
        last = rate


def test_eps_inside_and_outside_differ():
    inside = rules.adagrad_rate(4.0, *rules.adagrad_coefficients(1, 1.0, 0.1, 0.0, True))
    outside = rules.adagrad_rate(4.0, *rules.adagrad_coefficients(1, 1.0, 0.1, 0.0, False))
    assert inside == 1 / math.sqrt(4.1)
    assert outside == 1 / 2.1


def rmsprop_coefs(rho=0.9, momentum=0.0, lr=0.1, eps=1e-8, lr_inside=False):
    return rules.rmsprop_coefficients(
        1, lr, rho, eps, momentum, False, False, False, lr_inside, 0.0
    )


@given(gradients)
def test_rmsprop_weights_the_squares_by_their_age(gs):
    _, _, (E,) = run(rules.rmsprop, (0.0,), gs, rmsprop_coefs())
    weights = 0.1 * 0.9 ** np.arange(len(gs))[::-1]
    assert E == pytest.approx(float(weights @ np.square(gs)))


def test_rmsprop_rate_recovers_after_a_large_gradient():
    coefs = rmsprop_coefs()
    _, before, slots = run(rules.rmsprop, (0.0,), [1.0] * 50, coefs)
    _, shocked, slots = run(rules.rmsprop, slots, [1e3], coefs)
    _, after, _ = run(rules.rmsprop, slots, [1.0] * 300, coefs)
    assert shocked < before / 100
    assert after == pytest.approx(before, rel=1e-2)


@given(gradients)
def test_centered_variance_is_the_second_moment_less_the_mean_squared(gs):
    _, _, (V, m) = run(rules.rmsprop_centered, (0.0, 0.0), gs, rmsprop_coefs())
    weights = 0.1 * 0.9 ** np.arange(len(gs))[::-1]
    E, mean = float(weights @ np.square(gs)), float(weights @ np.array(gs))
    assert m == pytest.approx(mean, abs=1e-9)
    assert pytest.approx(E - mean**2, abs=1e-9 * (1 + E)) == V


@given(gradients)
def test_centered_variance_is_never_negative(gs):
    """The difference of two moments is, by rounding, for constant gradients."""
    x, V, m = 0.0, 0.0, 0.0
    for g in gs * 5:
        x, _, (V, m) = rules.rmsprop_centered(x, g, V, m, *rmsprop_coefs())
        assert V >= 0


def test_centered_rmsprop_stays_finite_under_constant_gradients():
    x, _, _ = run(rules.rmsprop_centered, (0.0, 0.0), [0.1] * 2000, rmsprop_coefs())
    assert math.isfinite(x)


@pytest.mark.parametrize("rule", [rules.rmsprop_momentum, rules.rmsprop_nesterov])
def test_lr_inside_the_buffer_is_the_same_for_a_constant_lr(rule):
    inside, _, _ = run(rule, (0.0, 0.0), [1.0, -2.0, 3.0], rmsprop_coefs(momentum=0.9))
    outside, _, _ = run(
        rule, (0.0, 0.0), [1.0, -2.0, 3.0], rmsprop_coefs(momentum=0.9, lr_inside=True)
    )
    assert inside == pytest.approx(outside, rel=1e-14)


def test_coupled_decay_is_the_gradient_of_half_the_square():
    assert rules.coupled_decay(3.0, 1.0, 0.5) == (3.0, 2.5)


def test_decoupled_decay_shrinks_the_point():
    assert rules.decoupled_decay(3.0, 1.0, 0.5) == (1.5, 1.0)


def test_the_rate_of_a_method_is_the_rate_that_its_rule_returns(method):
    slots = tuple(method.initial_state().get(name, 0.0) for name in method.slots)
    for t, g in enumerate((0.3, -2.0, 0.0, 5.0), start=1):
        _, coefs = method.coefficients_at(t)
        _, rate, slots = method.rule(1.0, g, *slots, *coefs)
        assert method.rate(*slots, *coefs) == rate
