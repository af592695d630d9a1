"""Optimizer: one step at a time, in place."""

import copy
import pickle
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from methods_table import EACH_SHAPE, KERNELS, METHODS, in_turn
from naive import naive_steps

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM

DTYPES = [np.float32, np.float64]


def gradients(steps, n, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, n)) * np.logspace(-2, 2, n)


def test_steps_follow_the_rule_coordinate_by_coordinate(method):
    gs = gradients(50, 7)
    x0 = np.linspace(-1, 1, 7)
    x = x0.copy()
    opt = ao.Optimizer(x, method)
    for g in gs:
        opt.step(g)
    expected, slots, rates = naive_steps(method, x0, gs)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(list(opt.state.values()), list(slots))
    np.testing.assert_array_equal(opt.learning_rates(), rates)


def test_float32_steps_stay_near_float64_ones(method):
    gs = gradients(20, 50)
    narrow, wide = np.zeros(50, np.float32), np.zeros(50)
    a, b = ao.Optimizer(narrow, method), ao.Optimizer(wide, method)
    for g in gs.astype(np.float32):
        a.step(g)
        b.step(g.astype(np.float64))
    np.testing.assert_allclose(narrow, wide, rtol=2e-4, atol=1e-6)


def one_step(method, dtype, t, x, g, slots, scalars):
    """Return x after step t + 1 from the given state, in dtype."""
    x = x.astype(dtype)
    opt = ao.Optimizer(x, method)
    state = opt.state_dict()
    slots = {name: slot.astype(dtype) for name, slot in zip(method.slots, slots, strict=True)}
    state["parameters"][""] |= {"state": slots, "scalars": scalars}
    opt.load_state_dict({**state, "t": t})
    opt.step(g.astype(dtype))
    return x.astype(np.float64)


# A soft threshold is a difference, in which all digits may cancel.
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not getattr(m, "l1", 0)])
@pytest.mark.parametrize("t", [0, 1, 10, 1000])
def test_a_float32_step_is_within_4_ulp_of_the_float64_one(name, t):
    """Of the same float32 inputs, from any state, on scales from 1e-3 to 1e3.

    One ulp is 2**-23 of the larger of abs(x) and the size of the update, which is that of the
    update without its signs: where beta1 * m and (1 - beta1) * g cancel, no order of operations
    keeps more. The signs of x and g agree, for the same reason: coupled decay adds the two.
    """
    method, rng = METHODS[name], np.random.default_rng(t)
    n = 20_000

    def draw():
        values = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)
        return values.astype(np.float32).astype(np.float64)

    g = draw()
    x = np.copysign(draw(), g)
    slots = [abs(draw()) if name in method.second_moments else draw() for name in method.slots]
    scalars = method.initial_scalars()
    for k in range(1, t + 1):
        scalars = method.carried(k, scalars)
    scalars = dict(zip(method.scalars, scalars, strict=True))

    narrow = one_step(method, np.float32, t, x, g, slots, scalars)
    wide = one_step(method, np.float64, t, x, g, slots, scalars)
    sizes = [abs(a) for a in slots]
    update = abs(x) - one_step(method, np.float64, t, abs(x), abs(g), sizes, scalars)
    ulp = 2.0**-23 * np.maximum(abs(x), abs(update))
    assert np.max(abs(narrow - wide) / ulp) <= 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_keeps_the_dtype(kernel, dtype):
    x = np.ones(5, dtype)
    opt = ao.Optimizer(x, kernel)
    opt.step(np.ones(5, dtype))
    assert {a.dtype for a in (x, opt.learning_rates(), *opt.state.values())} == {np.dtype(dtype)}


def test_a_step_returns_nothing_and_counts():
    opt = ao.Optimizer(np.ones(3), ao.AdaGrad())
    assert opt.step(np.ones(3)) is None
    assert opt.t == 1


@pytest.mark.parametrize(("name", "shape"), in_turn(KERNELS, [(), (1,), (0,), (2, 3), (2, 3, 4)]))
def test_any_shape_is_the_flat_one_reshaped(name, shape):
    method = METHODS[name]
    n = int(np.prod(shape))
    flat, shaped = np.full(n, 2.0), np.full(shape, 2.0)
    g = gradients(1, max(n, 1))[0][:n]
    a, b = ao.Optimizer(flat, method), ao.Optimizer(shaped, method)
    for _ in range(3):
        a.step(g)
        b.step(g.reshape(shape))
    np.testing.assert_array_equal(flat.reshape(shape), shaped)
    assert {v.shape for v in b.state.values()} <= {shape}
    assert b.learning_rates().shape == shape


def test_params_are_the_array_given():
    x = np.ones(3)
    assert ao.Optimizer(x, ao.SGD()).params is x


def test_a_read_only_gradient_is_taken():
    g = np.ones(3)
    g.flags.writeable = False
    x = np.zeros(3)
    ao.Optimizer(x, ao.SGD(0.5)).step(g)
    assert x.tolist() == [-0.5] * 3


def test_the_gradient_is_not_modified(kernel):
    g = np.ones(4)
    ao.Optimizer(np.ones(4), kernel).step(g)
    assert g.tolist() == [1.0] * 4


def test_learning_rates_are_nan_before_the_first_step(kernel):
    assert np.isnan(ao.Optimizer(np.ones(3), kernel).learning_rates()).all()


def test_learning_rates_are_a_copy():
    opt = ao.Optimizer(np.ones(3), ao.AdaGrad())
    opt.step(np.ones(3))
    opt.learning_rates()[:] = 9
    assert opt.learning_rates()[0] == ao.AdaGrad().lr / (1 + 1e-8)


def test_state_is_the_slots_by_name():
    opt = ao.Optimizer(np.ones((2, 2)), ao.RMSProp(centered=True, momentum=0.5))
    assert list(opt.state) == ["V", "m", "b"]


def test_the_initial_accumulator_fills_the_state():
    opt = ao.Optimizer(np.ones(3), ao.AdaGrad(initial_accumulator=0.1))
    assert opt.state["G"].tolist() == [0.1] * 3


def test_a_rare_coordinate_keeps_a_larger_rate_than_a_frequent_one():
    opt = ao.Optimizer(np.zeros(2), ao.AdaGrad(0.1))
    for t in range(100):
        opt.step(np.array([1.0, 1.0 if t % 50 == 0 else 0.0]))
    frequent, rare = opt.learning_rates()
    assert rare == pytest.approx(frequent * np.sqrt(100 / 2))


def test_a_schedule_is_asked_for_step_one_first():
    asked = []

    def lr(t):
        asked.append(t)
        return 1.0 / t

    x = np.zeros(1)
    opt = ao.Optimizer(x, ao.SGD(lr))
    asked.clear()
    opt.step(np.ones(1))
    opt.step(np.ones(1))
    assert asked == [1, 2]
    assert x[0] == -1.5


@pytest.mark.parametrize("name", EACH_SHAPE)
def test_box_is_applied_in_the_same_step(name):
    method = METHODS[name]
    x0, gs = np.linspace(-0.1, 0.1, 5), gradients(20, 5)
    x = x0.copy()
    opt = ao.Optimizer(x, method, prox=ao.Box(-0.1, 0.2))
    for g in gs:
        opt.step(g)
    np.testing.assert_array_equal(x, naive_steps(method, x0, gs, clip=(-0.1, 0.2))[0])


def test_a_box_of_arrays_is_a_box_for_each_coordinate():
    x = np.zeros((2, 2), np.float32)
    lo = np.array([[-1.0, -2.0], [-3.0, -4.0]])
    opt = ao.Optimizer(x, ao.SGD(10.0), prox=ao.Box(lo, 0.0))
    opt.step(np.ones((2, 2), np.float32))
    assert x.tolist() == lo.tolist()


@dataclass(frozen=True)
class Unrated(ao.Method):
    """AdaGrad without a formula for its rates."""

    lr: float = 0.1
    eps: float = 1e-8
    slots = ("G",)

    @staticmethod
    def rule(x, g, G, lr, eps):
        G = G + g * g
        rate = lr / (np.sqrt(G) + eps)
        return x - rate * g, rate, (G,)


@pytest.mark.parametrize("n", [5, THREADED_FROM + 1])
def test_a_method_without_a_rate_formula_has_its_rates_written_down(n):
    x, y = np.zeros(n), np.zeros(n)
    a, b = ao.Optimizer(x, Unrated()), ao.Optimizer(y, ao.AdaGrad(0.1))
    assert np.isnan(a.learning_rates()).all()
    for g in gradients(3, n):
        a.step(g)
        b.step(g)
    np.testing.assert_array_equal(a.learning_rates(), b.learning_rates())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_used_method_is_as_new(name, copied):
    method = replace(METHODS[name])
    before = pickle.dumps(method)
    method.coefficients_at(1)
    other = copied(method)
    assert pickle.dumps(method) == pickle.dumps(other) == before
    assert (other, hash(other)) == (method, hash(method))
    assert other.numbers_after_lr == method.numbers_after_lr is not None


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_pickle_compare_and_copy(name):
    method = METHODS[name]
    assert pickle.loads(pickle.dumps(method)) == copy.deepcopy(method) == method


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_norm_is_the_largest_absolute_entry(dtype):
    opt = ao.Optimizer(np.zeros(4, dtype), ao.SGD())
    assert opt.gradient_norm(np.array([1, -7, 3, 0], dtype)) == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("prox", [None, ao.Box(0.0, 1.0)])
def test_gradient_norm_is_nan_where_an_entry_is_not_finite(bad, prox):
    opt = ao.Optimizer(np.zeros(4), ao.SGD(), prox=prox)
    assert np.isnan(opt.gradient_norm(np.array([1.0, bad, 3.0, 2.0])))


def test_gradient_norm_is_cut_short_at_the_walls():
    opt = ao.Optimizer(np.array([0.0, 1.0, 0.4]), ao.SGD(), prox=ao.Box(0.0, 1.0))
    assert opt.gradient_norm(np.array([5.0, -5.0, 0.1])) == 0.1


def test_the_gradient_norm_is_that_without_the_loss_scale():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones((2, 2))}, ao.SGD(), loss_scale=4.0)
    assert opt.gradient_norm({"a": np.array([8.0, -4.0])}) == 2
    assert opt.gradient_norm({"a": None, "b": ([1, 1], np.full((2, 2), 8.0))}) == 4
    with pytest.raises(ValueError, match="grads holds no gradient"):
        opt.gradient_norm({})


def test_scalars_are_kept_in_float64_by_name():
    opt = ao.Optimizer(np.zeros(2, np.float32), ao.Nadam(beta1=0.5, momentum_decay=1e3))
    assert opt.scalars == {"mu_product": 1.0}
    for _ in range(3):
        opt.step(np.ones(2, np.float32))
    assert opt.scalars == {"mu_product": 0.125}
    assert ao.Optimizer(np.zeros(2), ao.Adam()).scalars == {}


def test_an_optimizer_goes_on_from_anothers_scalars():
    gs = gradients(20, 3)
    x, method = np.zeros(3), ao.Nadam(0.1)
    first = ao.Optimizer(x, method)
    for g in gs[:10]:
        first.step(g)
    y = x.copy()
    second = ao.Optimizer(y, method)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(second.learning_rates(), first.learning_rates())
    for g in gs[10:]:
        first.step(g)
        second.step(g)
    np.testing.assert_array_equal(y, x)


@dataclass(frozen=True)
class Damped(ao.Method):
    """Gradient descent with a factor that halves in each step, and one that stays."""

    lr: float = 0.5
    scalars: ClassVar[dict[str, float]] = {"damping": 2.0, "kept": 3.0}

    @staticmethod
    def carry(t, lr, damping, kept):
        return damping / 2, kept

    @staticmethod
    def coefficients(t, lr, damping, kept):
        return lr, damping * kept

    @staticmethod
    def rule(x, g, lr, damping):
        return x - lr * damping * g, lr * damping, ()


def test_coefficients_get_the_scalars_of_their_step():
    x = np.zeros(1)
    opt = ao.Optimizer(x, Damped())
    opt.step(np.ones(1))
    assert x[0] == -1.5
    opt.step(np.ones(1))
    assert x[0] == -1.5 - 0.75
    assert opt.scalars == {"damping": 0.5, "kept": 3.0}


@dataclass(frozen=True)
class Kept(ao.Method):
    """A method that names scalars and no carry."""

    lr: float = 0.5
    scalars: ClassVar[dict[str, float]] = {"a": 2.0, "b": 3.0}
    coefficients = staticmethod(lambda t, lr, a, b: (lr, a, b))
    rule = staticmethod(lambda x, g, lr, a, b: (x - lr * a * b * g, lr, ()))


def test_scalars_without_a_carry_stay_as_they_are():
    x = np.zeros(1)
    opt = ao.Optimizer(x, Kept())
    for _ in range(2):
        opt.step(np.ones(1))
    assert (x[0], opt.scalars) == (-6.0, {"a": 2.0, "b": 3.0})
