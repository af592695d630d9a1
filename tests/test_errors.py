"""Bad input: an error that names argument, expectation and value, before anything is modified."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from methods_table import METHODS, STILL
from scipy import sparse
from scipy.optimize import Bounds

import adaptopt as ao


def fails(error, *words):
    """Expect an error whose message holds all the words, in their order."""
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


# -- hyperparameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name", "value", "expected"),
    [
        (ao.AdaGrad, "lr", 0.0, "> 0"),
        (ao.AdaGrad, "lr", -1.0, "> 0"),
        (ao.AdaGrad, "lr", np.nan, "> 0"),
        (ao.AdaGrad, "lr", np.inf, "> 0"),
        (ao.SGD, "lr", 0, "> 0"),
        (ao.AdaGrad, "eps", -1e-9, ">= 0"),
        (ao.AdaGrad, "eps", np.nan, ">= 0"),
        (ao.AdaGrad, "initial_accumulator", -0.1, ">= 0"),
        (ao.AdaGrad, "weight_decay", -0.1, ">= 0"),
        (ao.RMSProp, "rho", 1.0, "[0, 1)"),
        (ao.RMSProp, "rho", -0.1, "[0, 1)"),
        (ao.RMSProp, "rho", np.nan, "[0, 1)"),
        (ao.RMSProp, "momentum", 1.0, "[0, 1)"),
        (ao.AdaDelta, "rho", 1.0, "[0, 1)"),
        (ao.Adam, "beta1", 1.0, "[0, 1)"),
        (ao.Adam, "beta2", -0.1, "[0, 1)"),
        (ao.Adam, "eps_root", -1e-9, ">= 0"),
        (ao.AdamW, "weight_decay", -0.1, ">= 0"),
        (ao.Adamax, "beta2", 1.0, "[0, 1)"),
        (ao.Nadam, "momentum_decay", -1e-3, ">= 0"),
        (ao.Nadam, "momentum_decay", np.inf, ">= 0"),
        (ao.AMSGrad, "beta1", np.nan, "[0, 1)"),
        (ao.Momentum, "momentum", 1.5, "[0, 1)"),
        (ao.Momentum, "dampening", -0.5, "[0, 1)"),
    ],
)
def test_a_hyperparameter_out_of_range(method, name, value, expected):
    with fails(ValueError, f"{method.__name__}.{name} is {value!r}", expected):
        method(**{name: value})


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, [0.1]])
def test_a_hyperparameter_that_is_no_number(value):
    with fails(TypeError, f"AdaGrad.eps is {value!r}", "number"):
        ao.AdaGrad(eps=value)


def test_a_flag_that_is_none():
    with fails(TypeError, "RMSProp.centered is 'yes'", "True or False"):
        ao.RMSProp(centered="yes")


def test_an_unknown_hyperparameter():
    with fails(TypeError, "rho"):
        ao.AdaGrad(rho=0.9)


@pytest.mark.parametrize("method", [ao.AdaGrad, ao.RMSProp])
def test_eps_zero_without_an_accumulator(method):
    with fails(ValueError, "eps is 0", "initial_accumulator 0", "> 0"):
        method(eps=0.0)


@pytest.mark.parametrize("method", [ao.Adam, ao.AdamW, ao.Nadam, ao.AMSGrad])
def test_eps_zero_without_another_under_the_root(method):
    with fails(ValueError, f"{method.__name__}.eps is 0.0 with eps_root 0.0", "one of them > 0"):
        method(eps=0.0)


@pytest.mark.parametrize("method", [ao.AdaDelta, ao.Adamax])
def test_eps_zero_where_it_is_all_there_is(method):
    with fails(ValueError, f"{method.__name__}.eps is 0.0, expected eps > 0", "divide by zero"):
        method(eps=0.0)


@pytest.mark.parametrize("name", STILL)
def test_a_zero_gradient_before_any_other_moves_nothing(name):
    method = METHODS[name]
    x = np.ones(2)
    ao.Optimizer(x, method).step(np.zeros(2))
    assert x.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make", [ao.AdaGrad, ao.RMSProp, ao.AdaDelta, ao.Adam, ao.Adamax, ao.AMSGrad]
)
def test_a_tiny_eps_is_enough_for_a_zero_gradient(make, dtype):
    x = np.ones(2, dtype)
    opt = ao.Optimizer(x, make(eps=float(np.finfo(dtype).tiny)))
    for _ in range(3):
        opt.step(np.zeros(2, dtype))
    assert x.tolist() == [1, 1]


def test_adagrad_without_eps_but_with_an_accumulator_is_fine():
    x = np.ones(2)
    ao.Optimizer(x, ao.AdaGrad(0.1, eps=0.0, initial_accumulator=0.1)).step(np.zeros(2))
    assert x.tolist() == [1, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ao.RMSProp(nesterov=True),
        lambda: ao.Momentum(momentum=0.0, nesterov=True),
        lambda: ao.Momentum(dampening=0.1, nesterov=True),
    ],
)
def test_nesterov_without_momentum(make):
    with fails(ValueError, "nesterov is True", "momentum > 0"):
        make()


def test_methods_are_frozen():
    with fails(AttributeError, "lr"):
        ao.AdaGrad().lr = 1.0


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_a_schedule_that_goes_wrong(bad):
    x = np.ones(2)
    opt = ao.Optimizer(x, ao.AdaGrad(lambda t: 0.1 if t < 3 else bad))
    for _ in range(2):
        opt.step(np.ones(2))
    before = x.copy()
    with fails(ValueError, f"lr(3) is {bad}", ">= 0"):
        opt.step(np.ones(2))
    np.testing.assert_array_equal(x, before)
    assert opt.t == 2


def test_a_rule_that_is_a_method():
    @dataclass(frozen=True)
    class Mine(ao.Method):
        lr: float = 0.1

        def rule(self, x, g, lr):
            return x, lr, ()

    with fails(TypeError, "Mine.rule", "staticmethod"):
        Mine()


def test_a_rule_that_returns_too_few_slots():
    @dataclass(frozen=True)
    class Mine(ao.Method):
        lr: float = 0.1
        slots = ("a", "b")
        rule = staticmethod(lambda x, g, a, b, lr: (x, lr, (a,)))

    with fails(ValueError, "Mine.rule returned 1 new slots", "2"):
        ao.Optimizer(np.ones(2), Mine())


def test_a_rule_that_returns_something_else():
    @dataclass(frozen=True)
    class Mine(ao.Method):
        lr: float = 0.1
        rule = staticmethod(lambda x, g, lr: x)

    with fails(TypeError, "Mine.rule returned", "(x, rate, new slots)"):
        ao.Optimizer(np.ones(2), Mine())


# -- scalars ---------------------------------------------------------------------------------------


def test_a_later_step_needs_its_scalars():
    method = ao.Nadam()
    assert method.coefficients_at(1) == method.coefficients_at(1, method.carried(1, (1.0,)))
    with fails(ValueError, "scalars are ()", "('mu_product',)", "Nadam.carried", "step 2"):
        method.coefficients_at(2)


@pytest.mark.parametrize("method", [ao.Nadam(), ao.Adam()])
def test_scalars_that_are_too_many(method):
    with fails(ValueError, "scalars are (1.0, 1.0)", f"{tuple(method.scalars)}"):
        method.coefficients_at(1, (1.0, 1.0))


def test_a_carry_that_is_a_method():
    @dataclass(frozen=True)
    class Mine(ao.Method):
        lr: float = 0.1
        scalars = {"s": 1.0}  # noqa: RUF012
        rule = staticmethod(lambda x, g, lr, s: (x, lr, ()))

        def carry(self, t, lr, s):
            return (s,)

    with fails(TypeError, "Mine.carry", "staticmethod"):
        Mine()


@pytest.mark.parametrize("returned", [(), (1.0, 2.0), 1.0, [1.0]])
def test_a_carry_that_returns_something_else(returned):
    @dataclass(frozen=True)
    class Mine(ao.Method):
        lr: float = 0.1
        scalars = {"s": 1.0}  # noqa: RUF012
        rule = staticmethod(lambda x, g, lr, s: (x, lr, ()))
        carry = staticmethod(lambda t, lr, s: returned)

    with fails(ValueError, f"Mine.carry returned {returned!r}", "a tuple of 1 like scalars ('s',)"):
        Mine().carried(1, (1.0,))


# -- Optimizer -------------------------------------------------------------------------------------


def read_only(x):
    x.flags.writeable = False
    return x


UNALIGNED = np.zeros(33, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ([1.0, 2.0], TypeError, "params is a list, expected a NumPy array"),
        (
            np.ones(3, np.int64),
            TypeError,
            "params has dtype int64, expected float16, bfloat16, float32 or float64",
        ),
        (np.ones(3, complex), TypeError, "params has dtype complex128"),
        (np.ones(3, object), TypeError, "params has dtype object"),
        (np.ones(3, ">f8"), TypeError, "params has dtype >f8"),
        (np.ones(3, np.longdouble), TypeError, "params has dtype"),
        (np.ones(6)[::2], ValueError, "params is not C-contiguous"),
        (np.ones((2, 3)).T, ValueError, "params is not C-contiguous"),
        (read_only(np.ones(3)), ValueError, "params is read-only"),
        (UNALIGNED, ValueError, "params is not aligned"),
        (np.ma.masked_array([1.0, 2.0]), TypeError, "params is a MaskedArray"),
    ],
)
def test_params_that_no_kernel_takes(params, error, words):
    with fails(error, words):
        ao.Optimizer(params, ao.AdaGrad())


@pytest.mark.parametrize(
    ("grads", "error", "words"),
    [
        (np.ones(3), ValueError, "grads has shape (3,), expected (4,) like params"),
        (np.ones((4, 1)), ValueError, "grads has shape (4, 1), expected (4,)"),
        (np.ones(4, np.float32), TypeError, "grads has dtype float32, expected float64"),
        (np.ones(4, complex), TypeError, "grads has dtype complex128, expected float64"),
        (np.ones(8)[::2], ValueError, "grads is not C-contiguous"),
        ([1.0] * 4, TypeError, "grads is a list, expected a NumPy array"),
        (None, TypeError, "grads is a NoneType"),
    ],
)
def test_grads_that_do_not_fit_modify_nothing(grads, error, words):
    x = np.arange(4.0)
    opt = ao.Optimizer(x, ao.AdaGrad())
    with fails(error, words):
        opt.step(grads)
    assert x.tolist() == [0, 1, 2, 3]
    assert opt.state["G"].tolist() == [0] * 4
    assert opt.t == 0


def test_grads_that_overlap_params():
    x = np.arange(5.0)
    opt = ao.Optimizer(x[:4], ao.SGD())
    with fails(ValueError, "grads overlaps params"):
        opt.step(x[1:])
    assert x.tolist() == [0, 1, 2, 3, 4]


def test_grads_that_overlap_params_in_memory_of_something_else():
    memory = bytearray(40)
    x, g = np.frombuffer(memory, count=4), np.frombuffer(memory, offset=8, count=4)
    opt = ao.Optimizer(x, ao.SGD())
    with fails(ValueError, "grads overlaps params"):
        opt.step(g)


def test_grads_that_own_the_memory_of_params():
    g = np.arange(4.0)
    opt = ao.Optimizer(g[::-1][::-1][:3], ao.SGD(0.5))
    opt.step(g[:3])
    assert g.tolist() == [0, 0.5, 1, 3]
    with fails(ValueError, "grads overlaps params"):
        opt.step(g[1:])


def test_a_schedule_that_fails_leaves_the_step_untaken():
    x = np.ones(2)
    opt = ao.Optimizer(x, ao.SGD(lambda t: 0.5 if t == 1 else -1.0))
    opt.step(np.ones(2))
    with fails(ValueError, "lr(2) is -1.0, expected a finite number >= 0"):
        opt.step(np.ones(2))
    assert (opt.t, x.tolist()) == (1, [0.5, 0.5])


def test_params_may_be_their_own_gradient():
    x = np.arange(5.0)
    ao.Optimizer(x, ao.SGD(0.5)).step(x)
    assert x.tolist() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize("method", [3.0, np.ndarray, None])
def test_an_optimizer_takes_a_method_only(method):
    with fails(TypeError, "method is", "expected a Method such as AdaGrad(lr=0.1)"):
        ao.Optimizer(np.ones(3), method)


def test_a_prox_that_is_none():
    with fails(TypeError, "prox is (0, 1)", "Box"):
        ao.Optimizer(np.ones(3), ao.SGD(), prox=(0, 1))


def test_a_hyperparameter_that_vanishes_in_float32():
    with fails(ValueError, "eps is 1e-50, which is 0 in float32"):
        ao.Optimizer(np.ones(3, np.float32), ao.AdaGrad(eps=1e-50))


def test_a_box_that_does_not_fit():
    with fails(ValueError, "bounds have shape (2,)", "(3,)"):
        ao.Optimizer(np.ones(3), ao.SGD(), prox=ao.Box([0, 0], 1))


@pytest.mark.parametrize(
    ("lo", "hi"), [(1, 0), (np.nan, 1), (0, np.nan), (np.inf, np.inf), (-np.inf, -np.inf)]
)
def test_a_box_without_room(lo, hi):
    with fails(ValueError, f"({float(lo)}, {float(hi)})", "lower <= upper"):
        ao.Box(lo, hi)


# -- minimize --------------------------------------------------------------------------------------


def never(x, *args):
    raise AssertionError("fun was called")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x0": [1j]}, TypeError, "x0 has dtype complex128, expected float32, float64"),
        ({"x0": np.array([None])}, TypeError, "x0 has dtype object"),
        ({"x0": ["a"]}, TypeError, "x0 has dtype <U1"),
        ({"x0": np.ones(2, np.float16)}, TypeError, "x0 has dtype float16"),
        ({"x0": [1.0, np.nan]}, ValueError, "x0[1] is nan, expected finite"),
        ({"fun": 3}, TypeError, "fun is 3, expected a callable"),
        ({"method": "adagard"}, ValueError, "method is 'adagard', expected one of"),
        ({"method": 3}, TypeError, "method is 3, expected a Method"),
        ({"jac": "4-point"}, ValueError, "jac is '4-point', expected a callable"),
        ({"jac": 7}, ValueError, "jac is 7"),
        ({"bounds": [(0, 1)]}, ValueError, "bounds has 1 entries, expected 2 pairs"),
        ({"bounds": [(0, 1), (3, 2)]}, ValueError, "bounds[1] is (3.0, 2.0)"),
        ({"bounds": Bounds([0, 3], [1, 2])}, ValueError, "bounds[1] is (3.0, 2.0)"),
        ({"bounds": Bounds([0, 0, 0], 1)}, ValueError, "bounds.lb has shape (3,), expected (2,)"),
        ({"bounds": [(0, 1), (np.nan, 2)]}, ValueError, "bounds[1] is (nan, 2.0)"),
        ({"constraints": {"type": "eq"}}, ValueError, "constraints is {'type': 'eq'}"),
        ({"callback": 3}, TypeError, "callback is 3, expected a callable"),
        ({"prox": 3}, TypeError, "prox is 3, expected a Proximal"),
        ({"prox": ao.Simplex(), "bounds": [(0, 1)] * 2}, ValueError, "bounds are given with Simp"),
        ({"prox": ao.L1(np.ones(3))}, ValueError, "L1 have shape (3,), expected a shape that broa"),
        ({"state": 3}, TypeError, "state is 3, expected the state"),
        ({"tol": -1.0}, ValueError, "'gtol'] is -1.0, expected a number >= 0 or None"),
    ],
)
def test_minimize_refuses_before_it_evaluates(arguments, error, words):
    arguments = {"fun": never, "x0": np.ones(2), "jac": True, **arguments}
    with fails(error, words):
        ao.minimize(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("maxiter", -1, "a whole number >= 0 or None"),
        ("maxiter", 1.5, "a whole number >= 0 or None"),
        ("maxiter", "many", "a whole number >= 0 or None"),
        ("maxfev", 0, "a whole number >= 1 or None"),
        ("maxtime", -1.0, "a number >= 0 or None"),
        ("gtol", np.nan, "a number >= 0 or None"),
        ("ftol", "small", "a number >= 0 or None"),
        ("xtol", -1, "a number >= 0 or None"),
        ("f_target", np.nan, "a number or None"),
        ("patience", 0, "a whole number >= 1 or None"),
        ("callback_every", 0, "a whole number >= 1"),
        ("history", "yes", "True, False or a whole number >= 0"),
        ("history", -1, "True, False or a whole number >= 0"),
        ("disp", "no", "True or False"),
        ("nan_policy", "propagate", "one of stop, raise, omit"),
        ("fd_method", "5-point", "one of 2-point, 3-point, cs"),
    ],
)
def test_an_option_out_of_range(name, value, expected):
    with fails(ValueError, f"options[{name!r}] is {value!r}, expected {expected}"):
        ao.minimize(never, np.ones(2), jac=True, options={name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"), [("lr", -1.0, "AdaGrad.lr is -1.0"), ("eps", "x", "AdaGrad.eps")]
)
def test_a_hyperparameter_among_the_options(name, value, words):
    with fails((TypeError, ValueError), words):
        ao.minimize(never, np.ones(2), jac=True, options={name: value})


def test_the_state_of_another_problem():
    state = ao.minimize(lambda x: (x @ x, 2 * x), np.ones(3), jac=True).state
    with fails(ValueError, "state has params of float64 and shape (3,), expected float64 and (2,)"):
        ao.minimize(never, np.ones(2), jac=True, state=state)


def test_the_state_of_another_method():
    state = ao.minimize(lambda x: (x @ x, 2 * x), np.ones(3), jac=True).state
    with fails(ValueError, "state has the method AdaGrad, expected RMSProp"):
        ao.minimize(never, np.ones(3), jac=True, state=state, method="rmsprop")


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (3.0, TypeError, "fun returned 3.0, expected a pair (value, gradient) with jac=True"),
        ((1.0, np.ones(3)), ValueError, "the gradient has shape (3,), expected (2,)"),
        ((np.ones(2), np.ones(2)), ValueError, "expected a scalar"),
        ((1j, np.ones(2)), TypeError, "fun returned 1j, expected a real number"),
        ((1.0, np.ones(2) * 1j), TypeError, "the gradient has dtype complex128"),
        (("a", np.ones(2)), TypeError, "fun returned 'a', expected a real number"),
    ],
)
def test_an_objective_that_returns_something_else(returned, error, words):
    with fails(error, words):
        ao.minimize(lambda x: returned, np.ones(2), jac=True)


# -- what gradients are given as -------------------------------------------------------------------


class Exported:
    """An array of another library that has a graph, as torch's."""

    def __init__(self, array, graph=True):
        self.array, self.graph = array, graph

    def detach(self):
        return Exported(self.array, graph=False)

    def __array__(self, dtype=None, copy=None):
        if self.graph:
            raise RuntimeError("call detach() first")
        return self.array


def matrix(array):
    return array.view(np.matrix)  # np.matrix(...) warns that it may be removed


@pytest.mark.parametrize("kind", [Exported, matrix], ids=["detached", "matrix"])
def test_arrays_of_other_kinds_are_gradients(kind):
    x = np.ones((2, 2))
    opt = ao.Optimizer(x, ao.SGD(1.0))
    opt.step(kind(np.ones((2, 2))))
    if kind is Exported:
        opt.step_rows([0], kind(np.ones((1, 2))))
    assert x[1].tolist() == [0, 0]


@pytest.mark.parametrize("form", ["csc", "coo", "lil", "dok", "bsr", "dia"])
def test_sparse_matrices_but_csr_are_refused(form):
    opt = ao.Optimizer(np.ones((3, 2)), ao.SGD())
    with fails(TypeError, "expected a pair (rows, grads)", "use its tocsr()"):
        opt.step(sparse.random(3, 2, 0.9, format=form, random_state=0))


MASKED = np.ma.masked_equal([1.0, 2.0], 1.0)


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        (MASKED, "expected an array without a mask"),
        ((np.ma.masked_equal([0, 1], 1), np.ones(2)), "expected integers without a mask"),
        (([0, 1], MASKED), "expected an array without a mask"),
        ([1.0, 2.0], "use numpy.asarray(..., float64)"),
        (np.ones(2, int), "use its astype('float64')"),
        (np.ones(2, ">f8"), "use its astype('float64')"),
    ],
)
def test_gradients_are_refused_with_the_call_that_converts_them(grads, words):
    x = np.ones(2)
    with fails(TypeError, words):
        ao.Optimizer(x, ao.SGD()).step(grads)
    assert x.tolist() == [1, 1]


def test_a_matrix_of_parameters_is_updated_in_place():
    x = matrix(np.ones((2, 2)))
    ao.Optimizer(x, ao.SGD(1.0)).step(np.ones((2, 2)))
    assert x.sum() == 0


# -- methods by name -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adagrad", "AdaGrad", ao.AdaGrad])
def test_an_optimizer_takes_a_name_or_a_class(method):
    assert ao.Optimizer(np.ones(1), method).method == ao.AdaGrad()
    assert ao.Optimizer({"a": np.ones(1)}, {"a": method}).method == {"a": ao.AdaGrad()}


def test_a_name_that_is_no_methods():
    with fails(ValueError, "method['a'] is 'adagard', expected one of", "did you mean 'adagrad'?"):
        ao.Optimizer({"a": np.ones(1)}, {"a": "adagard"})


# -- gradients that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["one", "named", "rows"])
def test_nan_policy_skip_leaves_the_step_out(kind, bad):
    params = {"a": np.ones((2, 1)), "b": np.ones((2, 1))}
    opt = ao.Optimizer(params["a"] if kind == "one" else params, ao.AdaGrad(), nan_policy="skip")
    g = np.array([[1.0], [bad]])
    grads = {"one": g, "named": {"a": g, "b": np.zeros((2, 1))}, "rows": {"a": ([0, 1], g)}}[kind]
    with pytest.warns(RuntimeWarning, match="step 1 was skipped: a gradient is not finite"):
        opt.step(grads)
    assert (opt.t, opt.skipped) == (0, 1)
    assert np.isfinite(opt.params if kind == "one" else opt.params["a"]).all()


def test_nan_policy_raise_modifies_nothing():
    x = np.ones(2)
    opt = ao.Optimizer(x, ao.AdaGrad(), nan_policy="raise")
    with fails(FloatingPointError, "grads of step 1 hold a value that is not finite"):
        opt.step(np.array([1.0, np.nan]))
    assert (x.tolist(), opt.t, opt.skipped) == ([1, 1], 0, 0)


def test_nan_is_propagated_by_default():
    x = np.ones(2)
    ao.Optimizer(x, ao.AdaGrad()).step(np.array([1.0, np.nan]))
    assert np.isnan(x).tolist() == [False, True]


def test_nan_cannot_be_propagated_through_a_norm():
    with fails(ValueError, "nan_policy is 'propagate' with clip_norm", "expected skip or raise"):
        ao.Optimizer(np.ones(1), ao.SGD(), clip_norm=1.0, nan_policy="propagate")
    with fails(ValueError, "nan_policy is 'omit', expected None, propagate, skip or raise"):
        ao.Optimizer(np.ones(1), ao.SGD(), nan_policy="omit")
