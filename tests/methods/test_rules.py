"""The mathematics of the rules, on Python floats, without a compiler."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from methods_table import METHODS, RATED

import adaptopt as ao
from adaptopt import scalar
from adaptopt.methods import adagrad, adam, decay, momentum, nadam, rmsprop
from adaptopt.methods.in_units import in_units

pytestmark = pytest.mark.quick

gradients = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def run(rule, slots, gradients, coefs, x=1.0):
    for g in gradients:
        x, rate, slots = rule(x, g, *slots, *coefs)
    return x, rate, slots


def numpy_floats(numbers):
    """Return numbers whose quotients by 0 are infinite, as in a kernel."""
    return tuple(np.float64(number) for number in numbers)


TINY = [5e-324, 1e-310, 1e-300, 1e-8]


@pytest.mark.parametrize("name", METHODS)
@given(
    eps=st.sampled_from(TINY),
    lr=st.sampled_from([1e-3, 5.0, 1e10]),
    x=st.floats(-1e6, 1e6),
    t=st.sampled_from([1, 2, 1000]),
)
def test_a_zero_gradient_makes_no_finite_point_nan(name, eps, lr, x, t):
    method = dataclasses.replace(METHODS[name], lr=lr, weight_decay=0.0, decoupled=False)
    if hasattr(method, "eps") and method.eps:
        method = dataclasses.replace(method, eps=eps)
    with np.errstate(all="ignore"):
        scalars = method.initial_scalars()
        for step in range(1, t + 1) if method.scalars else ():
            scalars = method.carried(step, scalars, (0.0,) * len(method.measures))
        coefs = numpy_floats(method.coefficients_at(t, scalars)[1])
        # State that has faded, or never was.
        slots = numpy_floats([0.0] * len(method.slots))
        new, rate, slots = method.rule(np.float64(x), np.float64(0.0), *slots, *coefs)
    assert not math.isnan(new)
    assert not math.isnan(rate)
    assert not any(map(math.isnan, slots))
    assert new == x or isinstance(method, ao.AdaGradDA | ao.FTRL)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("g", [0.0, 1.0, -1e10])
def test_at_rate_0_every_method_rests(name, g):
    if isinstance(METHODS[name], ao.AdaGradDA):
        pytest.skip("its point is proportional to the rate")
    method = dataclasses.replace(METHODS[name], lr=lambda t: 0.0, weight_decay=0.0)
    with np.errstate(all="ignore"):
        scalars = method.carried(1, method.initial_scalars()) if method.scalars else ()
        coefs = numpy_floats(method.coefficients_at(1, scalars)[1])
        slots = numpy_floats([0.0] * len(method.slots))
        new, rate, slots = method.rule(np.float64(3.0), np.float64(g), *slots, *coefs)
    assert (new, rate) == (3.0, 0.0)
    assert np.isfinite(slots).all()


def test_without_momentum_there_is_no_dampening():
    """torch keeps no buffer then, and so nothing is dampened."""
    x, slots = 0.0, (0.0,)
    for t in range(1, 4):
        coefs = momentum.momentum_coefficients(t, 1.0, 0.0, False, 0.5, False)
        x, _, slots = momentum.momentum(x, 1.0, *slots, *coefs)
    assert x == -3.0


def test_sgd_is_one_rate_for_all():
    assert momentum.sgd(1.0, 4.0, 0.5) == (-1.0, 0.5, ())


def test_momentum_remembers_the_gradients():
    x, _, (b,) = run(momentum.momentum, (0.0,), [1.0, 1.0, 0.0], (0.5, 1.0, 0.1, 0.2))
    assert b == 0.75
    assert x == pytest.approx(1 - 0.1 * (1 + 1.5 + 0.75))


def test_nesterov_steps_ahead_of_the_buffer():
    x, _, (b,) = run(momentum.nesterov, (0.0,), [1.0], (0.5, 1.0, 0.1, 0.2))
    assert (x, b) == (pytest.approx(1 - 0.1 * (1 + 0.5)), 1.0)


def test_the_first_gradient_enters_the_buffer_undampened():
    coefs = [momentum.momentum_coefficients(t, 0.1, 0.9, False, 0.25, False)[:3] for t in (1, 2)]
    assert coefs == [(0.9, 1.0, 0.1), (0.9, 0.75, 0.1)]


def test_adagrad_first_step_is_lr_times_the_sign():
    for g in (1e-6, -3.0, 1e6):
        x, _, _ = adagrad.adagrad(0.0, g, 0.0, 0.1, 0.0, 1e-30)
        assert x == pytest.approx(-math.copysign(0.1, g))


@given(gradients)
def test_adagrad_sums_the_squares(gs):
    _, _, (G,) = run(adagrad.adagrad, (0.0,), gs, (0.1, 0.0, 1e-8))
    assert G == pytest.approx(sum(g * g for g in gs))


@given(gradients)
def test_adagrad_rates_only_fall(gs):
    x, G, last = 0.0, 0.0, math.inf
    for g in gs:
        x, rate, (G,) = adagrad.adagrad(x, g, G, 0.1, 0.0, 1e-8)
        assert rate <= last
        last = rate


def test_eps_inside_and_outside_differ():
    inside = adagrad.adagrad_rate(4.0, *adagrad.adagrad_coefficients(1, 1.0, 0.1, 0.0, True))
    outside = adagrad.adagrad_rate(4.0, *adagrad.adagrad_coefficients(1, 1.0, 0.1, 0.0, False))
    assert inside == 1 / math.sqrt(4.1)
    assert outside == 1 / 2.1


def rmsprop_coefs(rho=0.9, momentum=0.0, lr=0.1, eps=1e-8, lr_inside=False):
    return rmsprop.rmsprop_coefficients(
        1, lr, rho, eps, momentum, False, False, False, lr_inside, 0.0
    )


@given(gradients)
def test_rmsprop_weights_the_squares_by_their_age(gs):
    _, _, (E,) = run(rmsprop.rmsprop, (0.0,), gs, rmsprop_coefs())
    weights = 0.1 * 0.9 ** np.arange(len(gs))[::-1]
    assert E == pytest.approx(float(weights @ np.square(gs)))


def test_rmsprop_rate_recovers_after_a_large_gradient():
    coefs = rmsprop_coefs()
    _, before, slots = run(rmsprop.rmsprop, (0.0,), [1.0] * 50, coefs)
    _, shocked, slots = run(rmsprop.rmsprop, slots, [1e3], coefs)
    _, after, _ = run(rmsprop.rmsprop, slots, [1.0] * 300, coefs)
    assert shocked < before / 100
    assert after == pytest.approx(before, rel=1e-2)


@given(gradients)
def test_centered_variance_is_the_second_moment_less_the_mean_squared(gs):
    _, _, (V, m) = run(rmsprop.rmsprop_centered, (0.0, 0.0), gs, rmsprop_coefs())
    weights = 0.1 * 0.9 ** np.arange(len(gs))[::-1]
    E, mean = float(weights @ np.square(gs)), float(weights @ np.array(gs))
    assert m == pytest.approx(mean, abs=1e-9)
    assert pytest.approx(E - mean**2, abs=1e-9 * (1 + E)) == V


@given(gradients)
def test_centered_variance_is_never_negative(gs):
    """The difference of two moments is, by rounding, for constant gradients."""
    x, V, m = 0.0, 0.0, 0.0
    for g in gs * 5:
        x, _, (V, m) = rmsprop.rmsprop_centered(x, g, V, m, *rmsprop_coefs())
        assert V >= 0


def test_centered_rmsprop_stays_finite_under_constant_gradients():
    x, _, _ = run(rmsprop.rmsprop_centered, (0.0, 0.0), [0.1] * 2000, rmsprop_coefs())
    assert math.isfinite(x)


@pytest.mark.parametrize("rule", [rmsprop.rmsprop_momentum, rmsprop.rmsprop_nesterov])
def test_lr_inside_the_buffer_is_the_same_for_a_constant_lr(rule):
    inside, _, _ = run(rule, (0.0, 0.0), [1.0, -2.0, 3.0], rmsprop_coefs(momentum=0.9))
    outside, _, _ = run(
        rule, (0.0, 0.0), [1.0, -2.0, 3.0], rmsprop_coefs(momentum=0.9, lr_inside=True)
    )
    assert inside == pytest.approx(outside, rel=1e-14)


def corrected(method, t=1):
    """Return the coefficients of step t of a method without scalars."""
    return method.coefficients_at(t)[1]


def test_adadelta_starts_with_steps_of_the_root_of_eps():
    """D is 0 and E is (1 - rho) g**2: with rho = 3/4 the step is sqrt(eps) * 2 * sign(g)."""
    for g in (30.0, -1e4):
        coefs = rmsprop.adadelta_coefficients(1, 1.0, 0.75, 1e-4)
        x, _, (E, D) = rmsprop.adadelta(0.0, g, 0.0, 0.0, *coefs)
        assert x == pytest.approx(-math.copysign(0.02, g), rel=1e-5)
        assert E == 0.25 * g * g
        assert pytest.approx(0.25 * 0.02**2, rel=1e-5) == D


@given(gradients)
def test_adadelta_steps_do_not_depend_on_the_scale_of_the_gradients(gs):
    """Zeiler's argument: steps have the units of x, not of 1 / g (for gradients above eps)."""
    gs = [math.copysign(1.0 + abs(g), g) for g in gs]
    coefs = rmsprop.adadelta_coefficients(1, 1.0, 0.9, 1e-12)
    x, _, _ = run(rmsprop.adadelta, (0.0, 0.0), gs, coefs)
    scaled, _, _ = run(rmsprop.adadelta, (0.0, 0.0), [1e3 * g for g in gs], coefs)
    assert x == pytest.approx(scaled, rel=1e-6, abs=1e-12)


def test_adadelta_lr_scales_the_step_and_not_the_memory_of_it():
    states = [
        rmsprop.adadelta(0.0, 2.0, 0.5, 0.1, *rmsprop.adadelta_coefficients(1, lr, 0.9, 1e-6))
        for lr in (1.0, 0.5)
    ]
    assert states[0][0] == 2 * states[1][0]
    assert states[0][2] == states[1][2]


@pytest.mark.parametrize("method", [ao.Adam(0.1), ao.AMSGrad(0.1), ao.Adamax(0.1)])
def test_first_step_is_lr_times_the_sign(method):
    for g in (1e-3, -3.0, 1e6):
        x, _, _ = method.rule(0.0, g, *[0.0] * len(method.slots), *corrected(method))
        assert x == pytest.approx(-math.copysign(0.1, g), rel=1e-4)


@given(gradients)
def test_adam_divides_the_weighted_mean_by_the_weighted_root_mean_square(gs):
    method = ao.Adam(0.1)
    x, slots = 1.0, (0.0, 0.0)
    for t, g in enumerate(gs, start=1):
        before = x
        x, rate, slots = adam.adam(x, g, *slots, *corrected(method, t))
    ages = np.arange(len(gs))[::-1]
    mean = np.average(gs, weights=0.9**ages)
    square = np.average(np.square(gs), weights=0.999**ages)
    assert rate == pytest.approx(0.1 / (math.sqrt(square) + 1e-8))
    assert x - before == pytest.approx(-rate * mean, abs=1e-12)


def test_adam_under_a_constant_gradient_steps_by_lr():
    method = ao.Adam(0.1)
    x, slots = 0.0, (0.0, 0.0)
    for t in range(1, 11):
        x, _, slots = adam.adam(x, 5.0, *slots, *corrected(method, t))
        assert x == pytest.approx(-0.1 * t)


def test_eps_hat_is_eps_before_the_correction():
    """The paper's second form: lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)."""
    m, v, t = 0.3, 0.04, 5
    coefs = corrected(ao.Adam(0.1, 0.9, 0.99, 0.05, eps_hat=True), t)
    x, _, (m, v) = adam.adam(0.0, 2.0, m, v, *coefs)
    alpha = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    assert x == pytest.approx(-alpha * m / (math.sqrt(v) + 0.05))


def test_eps_root_is_added_to_the_corrected_square():
    coefs = corrected(ao.Adam(0.1, eps=0.0, eps_root=7.0))
    assert adam.adam(0.0, 3.0, 0.0, 0.0, *coefs)[0] == pytest.approx(-0.1 * 3 / math.sqrt(9 + 7))


def test_adamax_keeps_the_largest_gradient_fading():
    coefs = adam.adamax_coefficients(1, 0.1, 0.0, 0.5, 0.0, True)
    _, rate, (_, u) = run(adam.adamax, (0.0, 0.0), [8.0, -1.0, 1.0], coefs)
    assert (u, rate) == (2.0, 0.05)


def test_adamax_eps_is_inside_or_outside_the_maximum():
    for inside, u, divisor in ((True, 3.5, 3.5), (False, 3.0, 3.5)):
        coefs = adam.adamax_coefficients(1, 0.1, 0.0, 0.5, 0.5, inside)
        _, rate, slots = adam.adamax(0.0, -3.0, 0.0, 0.0, *coefs)
        assert (slots[1], rate) == (u, 0.1 / divisor)


def test_nadam_is_adam_without_momentum():
    plain, ahead = ao.Adam(0.1, beta1=0.0), ao.Nadam(0.1, beta1=0.0)
    state = (1.0, 2.0, 0.0, 0.5)
    assert nadam.nadam(*state, *corrected(ahead)) == adam.adam(*state, *corrected(plain))


def test_nadam_momentum_rises_from_half_of_beta1_to_beta1():
    method = ao.Nadam(beta1=0.8, momentum_decay=4e-3)
    products = [1.0]
    for t in range(1, 100_001):
        products += method.carried(t, tuple(products[-1:]))
        if t == 3:
            momenta = [0.8 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (1, 2, 3)]
            assert products[3] == pytest.approx(math.prod(momenta))
    assert products[1] == pytest.approx(0.4, rel=1e-3)
    (late,) = method.carried(100_000, (1.0,))
    assert late == pytest.approx(0.8, rel=1e-6)


def test_nadam_momentum_is_constant_from_a_decay_of_1000():
    scalars = (1.0,)
    method = ao.Nadam(beta1=0.9, momentum_decay=1e3)
    for t in range(1, 6):
        scalars = method.carried(t, scalars)
        c_m, c_g = method.coefficients_at(t, scalars)[1][5:7]
        assert c_m == pytest.approx(0.9 / (1 - 0.9 ** (t + 1)), rel=1e-15)
        assert c_g == pytest.approx((1 - 0.9) / (1 - 0.9**t), rel=1e-15)


@given(gradients)
def test_amsgrad_rates_only_fall_without_correction(gs):
    for method in (ao.AMSGrad(bias_correction=False), ao.AMSGrad(corrected_max=True)):
        x, slots, last = 0.0, (0.0, 0.0, 0.0), math.inf
        for t, g in enumerate(gs, start=1):
            x, rate, slots = adam.amsgrad(x, g, *slots, *corrected(method, t))
            assert rate <= last
            last = rate


def test_amsgrad_takes_the_maximum_before_or_after_the_correction():
    """Of a first gradient of 4, v is 4**2 / 2 and its corrected value 4**2, with beta2 = 1/2."""
    for option, v_max in ((False, 8.0), (True, 16.0)):
        method = ao.AMSGrad(0.1, beta2=0.5, eps=0.0, eps_root=1e-300, corrected_max=option)
        _, rate, slots = adam.amsgrad(0.0, 4.0, 0.0, 0.0, 0.0, *corrected(method))
        assert slots[1:] == (8.0, v_max)
        assert rate == pytest.approx(0.1 / 4, rel=1e-15)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_not_hidden(method, bad):
    """A maximum that drops a NaN would leave a run that looks well."""
    x, slots, scalars = 1.0, [0.5] * len(method.slots), method.initial_scalars()
    for t, g in enumerate((bad, 1.0), start=1):
        scalars = method.carried(t, scalars)
        decay_coefs, coefs = method.coefficients_at(t, scalars)
        x, g = method.decay(x, g, *decay_coefs)
        x, _, slots = method.rule(x, g, *slots, *coefs)
    assert not math.isfinite(x)
    if math.isnan(bad):
        assert any(math.isnan(s) for s in slots) or not slots


def test_coupled_decay_is_the_gradient_of_half_the_square():
    assert decay.coupled_decay(3.0, 1.0, 0.5) == (3.0, 2.5)


def test_decoupled_decay_shrinks_the_point():
    assert decay.decoupled_decay(3.0, 1.0, 0.5) == (1.5, 1.0)


@pytest.mark.parametrize("name", RATED)
def test_the_rate_of_a_method_is_the_rate_that_its_rule_returns(name):
    method = METHODS[name]
    slots = tuple(method.initial_state().get(name, 0.0) for name in method.slots)
    scalars = method.initial_scalars()
    for t, g in enumerate((0.3, -2.0, 0.0, 5.0), start=1):
        scalars = method.carried(t, scalars)
        _, coefs = method.coefficients_at(t, scalars)
        _, rate, slots = method.rule(1.0, g, *slots, *coefs)
        assert method.rate(*slots, *coefs) == rate


def test_second_moments_are_never_negative(method):
    assert set(method.second_moments) <= set(method.slots)
    slots = tuple(method.initial_state().get(name, 0.0) for name in method.slots)
    scalars = method.initial_scalars()
    for t, g in enumerate((0.3, -2.0, 0.0, 5.0, 5.0, 5.0, -1e-3), start=1):
        scalars = method.carried(t, scalars)
        _, _, slots = method.rule(1.0, g, *slots, *method.coefficients_at(t, scalars)[1])
        named = dict(zip(method.slots, slots, strict=True))
        assert all(named[name] >= 0 for name in method.second_moments)


@given(st.floats(0.01, 1.0), st.integers(1, 10_000))
def test_geometric_sums_are_those_of_the_powers(f, k):
    power, total = scalar.geometric(f, k)
    powers = f ** np.arange(1, k + 1)
    assert power == pytest.approx(powers[-1], rel=1e-11, abs=1e-300)
    assert total == pytest.approx(math.fsum(powers), rel=1e-11)


def constant(method):
    return not callable(getattr(method, "lr", None))


IDLE = {n: m for n, m in METHODS.items() if m.idle and constant(m) and not m.scalars}


@pytest.mark.parametrize("steps", [1, 2, 37, 1000])
@pytest.mark.parametrize("name", IDLE)
def test_idle_is_many_steps_without_a_gradient_in_one_go(name, steps):
    method = dataclasses.replace(IDLE[name], weight_decay=0.0)
    slots = tuple(method.initial_state().get(name, 0.0) for name in method.slots)
    x, _, slots = run(method.rule, slots, [0.3, -2.0], method.coefficients_at(2)[1])
    coefs = method.coefficients_at(2 + steps)[1]
    by_steps, by_idle = (x, slots), method.idle(steps, x, *slots, *coefs)
    for t in range(3, 3 + steps):
        x, _, slots = method.rule(*by_steps[:1], 0.0, *by_steps[1], *method.coefficients_at(t)[1])
        by_steps = x, slots
    assert by_idle[0] == pytest.approx(by_steps[0], rel=1e-12)
    # The sum of a dual averaging method does not move, its penalties grow: exact at the last step.
    assert by_idle[1] == pytest.approx(by_steps[1], rel=1e-12, abs=1e-200)


@pytest.mark.parametrize("method", [ao.AdaGrad(), ao.RMSProp(), ao.RMSProp(momentum=0.5)])
def test_idle_in_units_is_many_steps_too(method):
    method = in_units(method)
    x, _, slots = run(
        method.rule,
        (8.0, *[0.0] * (len(method.slots) - 1)),
        [0.3, -2.0],
        method.coefficients_at(2)[1],
    )
    coefs = method.coefficients_at(40)[1]
    by_idle, by_steps = method.idle(37, x, *slots, *coefs), (x, slots)
    for _ in range(37):
        x, _, slots = method.rule(*by_steps[:1], 0.0, *by_steps[1], *coefs)
        by_steps = x, slots
    assert by_idle[0] == pytest.approx(by_steps[0], rel=1e-12)
    assert by_idle[1] == pytest.approx(by_steps[1], rel=1e-12)
