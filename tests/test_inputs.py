"""What users of other libraries hand over: it comes out right, or is refused in clear words."""

import re
import warnings

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, sparse

import adaptopt as ao

M = ao.AdaGrad(1.0)
MASKED = np.ma.masked_array([1.0, 2.0])  # refused without a masked entry, too


def fails(error, *words):
    """Expect an error whose message holds all the words, in their order."""
    return pytest.raises(error, match="(?s:.*)".join(re.escape(word) for word in words))


def pair(x, *args):
    return float(((x - 3) ** 2).sum()), 2 * (x - 3)


def value(x):
    return pair(x)[0]


@njit
def in_place(x, g_out, centre):
    f = 0.0
    for i in range(x.size):
        g_out[i] = 2 * (x[i] - centre)
        f += (x[i] - centre) ** 2
    return f


@njit
def only_value(x, centre):
    return ((x - centre) ** 2).sum()


def solve(fun=pair, x0=(0.0, 0.0), **keywords):
    return ao.minimize(fun, np.array(x0), **{"jac": True, "method": M, **keywords})


def fit(data, fun=pair, **keywords):
    return ao.minimize_finite_sum(fun, np.zeros(2), data, **{"rng": 0, **keywords})


def play(x, f, g):
    ao.regret.Tracker().play(x, f, g)


# -- masked arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda m: ao.minimize(pair, m, jac=True),
        lambda m: ao.minimize(pair, [np.ma.masked, 1.0], jac=True),
        lambda m: solve(lambda x: (1.0, m)),
        lambda m: solve(lambda x: (np.ma.masked, x)),
        lambda m: solve(bounds=np.ma.masked_array([[0.0, 1.0], [0.0, 1.0]])),
        lambda m: solve(in_place, jac=None, args=(m,)),
        lambda m: ao.minimize_many(in_place, np.ma.zeros((2, 2)), args=(3.0,)),
        lambda m: ao.minimize_many(in_place, np.zeros((2, 2)), row_args=(m,)),
        lambda m: fit((np.eye(2), m)),
        lambda m: fit(np.eye(2), validation=np.ma.masked_array(np.eye(2))),
        lambda m: fit(2, validation=np.ma.masked_array([0, 1])),
        lambda m: ao.problems.LeastSquares(np.ma.masked_array(np.eye(2)), [1.0, 2.0]),
        lambda m: ao.problems.LeastSquares(np.eye(2), m),
        lambda m: ao.problems.LeastSquares(np.eye(2), [1.0, 2.0], sample_weight=m),
        lambda m: ao.problems.Logistic(np.eye(2), np.ma.masked_array([-1, 1])),
        lambda m: ao.problems.LeastSquares(np.eye(2), [1.0, 2.0])(m),
        lambda m: ao.problems.LeastSquares(np.eye(2), [1.0, 2.0]).batch(np.ones(2), m.astype(int)),
        lambda m: ao.Optimizer(m, M),
        lambda m: ao.Optimizer(np.zeros(2), M).step(m),
        lambda m: ao.L1(m),
        lambda m: ao.L2(m),
        lambda m: ao.ElasticNet(0.1, m),
        lambda m: ao.Box(0.0, m),
        lambda m: ao.GroupL2(0.1, np.ma.masked_array([0, 1])),
        lambda m: ao.L2Ball(m[0:1]),
        lambda m: ao.schedules.piecewise(m, [1.0, 2.0, 3.0]),
        lambda m: ao.schedules.piecewise([1], m),
        lambda m: play(m, 1.0, np.ones(2)),
        lambda m: play(np.ones(2), 1.0, m),
        lambda m: play(np.ones(2), np.ma.masked, np.ones(2)),
    ],
)
def test_a_masked_array_is_refused(hand_over):
    with fails((TypeError, ValueError), "mask"):
        hand_over(MASKED)


# -- arrays of other kinds -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(
    "x0",
    [
        [0, 0],
        np.zeros(2, ">f8"),
        np.zeros(2, ">i4"),
        np.zeros(4)[::2],
        np.array([False, False]),
        np.zeros((1, 2)).view(np.matrix),
        np.asfortranarray(np.zeros((2, 2))),
    ],
    ids=str,
)
def test_x0_of_any_kind_comes_out_native_and_contiguous(x0):
    x = ao.minimize(pair, x0, jac=True, method=M).x
    assert type(x) is np.ndarray
    assert x.dtype == np.float64
    assert x.dtype.isnative
    assert x.flags.c_contiguous
    assert x.shape == np.shape(x0)
    assert_allclose(x, 3, atol=1e-4)


@pytest.mark.parametrize(
    ("x0", "error", "words"),
    [
        (np.zeros(2, np.float16), TypeError, ["x0 has dtype float16", "x0.astype(numpy.float64)"]),
        ({"a": 1.0}, TypeError, ["x0 is {'a': 1.0}, expected an array"]),
        (None, TypeError, ["x0 is None"]),
        (sparse.csr_array(np.eye(2)), TypeError, ["x0 is sparse", "toarray()"]),
        ((np.zeros(2), np.zeros(3)), ValueError, ["x0 is no array"]),
        (np.array([1.0, None]), TypeError, ["x0 has dtype object", "numpy.asarray(..., float)"]),
    ],
)
def test_what_is_no_starting_point(x0, error, words):
    with fails(error, *words):
        ao.minimize(pair, x0, jac=True)


class Tensor:
    """Like a tensor of torch that requires a gradient."""

    def __init__(self, array, free=False):
        self._array, self._free = np.asarray(array), free

    def detach(self):
        return Tensor(self._array, free=True)

    def __array__(self, dtype=None, copy=None):
        if not self._free:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self._array


def test_tensors_that_require_a_gradient_are_detached():
    expected = solve().x
    f, x0 = lambda x: tuple(map(Tensor, pair(x))), Tensor(np.zeros(2))
    assert_array_equal(ao.minimize(f, x0, jac=True, method=M).x, expected)


def test_a_data_frame_becomes_what_it_holds():
    pandas = pytest.importorskip("pandas")
    A = np.random.default_rng(0).standard_normal((8, 2))

    def squares(x, A, b):
        r = A @ x - b
        return r @ r / 2 / len(r), A.T @ r / len(r)

    a = fit((A, np.ones(8)), squares)
    b = fit((pandas.DataFrame(A), pandas.Series(np.ones(8))), squares)
    assert_array_equal(a.x, b.x)


@pytest.mark.parametrize(
    ("A", "use"),
    [
        ([[1.0, 2.0]], "numpy.ascontiguousarray(A, numpy.float64)"),
        (np.asfortranarray(np.eye(2)), "numpy.ascontiguousarray(A)"),
        (np.eye(2, dtype=int), "A.astype(numpy.float64)"),
        (np.eye(2, dtype=">f8"), "A.astype(numpy.float64)"),
    ],
)
def test_a_matrix_of_another_kind_is_refused_with_the_call_that_converts_it(A, use):
    with fails((TypeError, ValueError), use):
        ao.problems.LeastSquares(A, [1.0, 2.0])


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["spam", "ham"], ["y has dtype <U4", "numpy.where(y == label, 1, -1)"]),
        (np.array(["spam", "ham"], object), ["y has dtype object", "numpy.where(y == label"]),
        (np.ones((2, 1)), ["y has shape (2, 1), expected (2,)", "numpy.ravel(y)"]),
        (None, ["y is None"]),
    ],
)
def test_labels_of_another_kind_are_refused_with_the_call_that_converts_them(y, words):
    with fails((TypeError, ValueError), *words):
        ao.problems.Logistic(np.eye(2), y)


def test_duplicates_count_as_their_sum_in_every_form(in_python):
    A = sparse.csr_array((np.ones(3), [0, 0, 1], [0, 2, 2, 3]), (3, 2))  # an empty row, too
    dense = ao.problems.LeastSquares(A.toarray(), [1.0, 2.0, 3.0])
    both = [ao.problems.LeastSquares(A, [1.0, 2.0, 3.0]), dense]
    (f, g), (expected, plain) = (p(np.ones(2)) for p in both)
    assert f == expected
    assert_allclose(g, plain)
    runs = [ao.minimize_finite_sum(p, np.zeros(2), None, rng=0, batch_size=1) for p in both]
    assert_allclose(runs[0].x, runs[1].x, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ao.L1("0.1"), "L1.lam has dtype <U3"),
        (lambda: ao.L1(np.array([1j])), "L1.lam has dtype complex128"),
        (lambda: ao.Box(None, 1), "Box.lo is None"),
        (lambda: ao.L2Ball("1"), "L2Ball.radius has dtype <U1"),
        (lambda: ao.schedules.piecewise([np.nan], [1.0, 2.0]), "boundaries is (nan,)"),
        (lambda: ao.problems.LeastSquares(np.eye(2), [1, 2], intercept="no"), "intercept is 'no'"),
        (lambda: fit(np.eye(2), shuffle="no"), "shuffle is 'no', expected True or False"),
        (lambda: fit(np.eye(2), drop_last="no"), "drop_last is 'no', expected True or False"),
    ],
)
def test_words_are_no_numbers_and_no_flags(make, words):
    with fails((TypeError, ValueError), words):
        make()


# -- what fun returns ------------------------------------------------------------------------------


@njit
def compiled_pair(x):
    return ((x - 3) ** 2).sum(), 2 * (x - 3)


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
@pytest.mark.parametrize("front", [ao.minimize, optimize.minimize])
@pytest.mark.parametrize("jac", [None, lambda x: 2 * (x - 3)], ids=["none", "callable"])
@pytest.mark.parametrize("fun", [pair, lambda x: list(pair(x)), compiled_pair])
def test_a_forgotten_jac_true_is_explained(fun, jac, front):
    with fails(TypeError, "fun returned", "expected a scalar", "pass jac=True"):
        front(fun, np.ones(2), jac=jac, method=M)


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        ((np.ones(3), np.ones((3, 2))), ValueError, ["expected a scalar", "residuals"]),
        (np.ones(2), TypeError, ["fun returned array([1., 1.]), expected a pair"]),
        ((1.0, None), TypeError, ["the gradient is None"]),
        ((1.0, sparse.csr_array(np.ones((1, 2)))), TypeError, ["the gradient is sparse"]),
    ],
)
def test_what_is_no_value_and_gradient(returned, error, words):
    with fails(error, *words):
        solve(lambda x: returned)


@pytest.mark.parametrize(
    "as_user",
    [
        lambda f, g: (np.array([f]), g[:, None]),
        lambda f, g: (np.array(f), g[None]),
        lambda f, g: [np.float64(f), list(g)],
        lambda f, g: (f, g.astype(">f8")),
    ],
)
def test_a_value_and_gradient_of_other_shapes_are_read(as_user):
    assert_array_equal(solve(lambda x: as_user(*pair(x))).x, solve().x)


def test_a_gradient_array_that_fun_uses_again_is_copied():
    buffer = np.zeros(2)

    def reuses(x):
        buffer[:] = 2 * (x - 3)
        return value(x), buffer

    res = solve(reuses, callback=lambda xk: reuses(xk + 100), options={"maxiter": 5})
    assert_array_equal(res.x, solve(options={"maxiter": 5}).x)
    before = res.state.jac.copy()
    reuses(np.full(2, 99.0))
    assert_array_equal(res.state.jac, before)


def test_a_gradient_that_is_a_method_of_the_objective_is_its_gradient():
    """SciPy's wrapper for jac=True has an attribute ``fun`` as well; no other object is one."""

    class Model:
        def __call__(self, x):
            return value(x)

        def fun(self, x):
            return 0.0, np.zeros(2)

        def grad(self, x):
            return 2 * (x - 3)

    model = Model()
    assert_array_equal(solve(model, jac=model.grad).x, solve().x)


def test_validation_rows_are_not_counted_from_the_end():
    with fails(ValueError, "validation holds -1, expected row numbers >= 0"):
        fit(4, validation=[-1])


# -- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize("jac", [None, False, True, np.True_])
def test_a_problem_needs_no_jac(jac):
    p = ao.problems.LeastSquares(np.eye(2), [1.0, 2.0])
    for front in (ao.minimize, optimize.minimize):
        assert_allclose(front(p, np.zeros(2), jac=jac, method=M).x, [1, 2], atol=1e-3)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda p: ao.minimize(p, np.zeros((2, 1))), "x0 has shape (2, 1), expected (2,)"),
        (lambda p: ao.minimize(p, np.zeros(2), args=(1,)), "args is (1,), expected ()"),
        (lambda p: fit((np.eye(2), np.ones(2)), p), "expected None: fun has its data with it"),
        (
            lambda p: ao.minimize_finite_sum(p, np.zeros((1, 2)), None),
            "x0 has shape (1, 2), expected (2,)",
        ),
    ],
)
def test_what_does_not_fit_a_problem_is_said_before_it_runs(run, words, monkeypatch):
    p = ao.problems.LeastSquares(np.eye(2), [1.0, 2.0])
    monkeypatch.delattr(ao.problems.Problem, "_rows")
    with fails(ValueError, words):
        run(p)


# -- compiled objectives ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"nan_policy": "omit"}, {"nan_policy": "raise"}])
def test_args_forgotten_of_a_compiled_fun_are_said(options):
    with fails(TypeError, "writes nothing to g_out", "'centre' is taken for g_out", "0 in args"):
        ao.minimize(only_value, np.zeros(2), options=options)


def test_args_forgotten_are_said_of_many_and_of_sums_too():
    with fails(TypeError, "'centre' is taken for g_out"):
        ao.minimize_many(only_value, np.zeros((2, 2)))

    @njit
    def of_rows(x, idx, centre):
        return ((x - centre) ** 2).sum()

    with fails(TypeError, "'centre' is taken for g_out"):
        fit(8, of_rows)


def test_args_forgotten_of_a_compiled_pair_are_said():
    @njit
    def returns_both(x, centre):
        return ((x - centre) ** 2).sum(), 2 * (x - centre)

    with fails(TypeError, "'centre' is taken for g_out"):
        ao.minimize(returns_both, np.zeros(2), jac=True)


def test_a_gradient_of_nan_is_no_forgotten_argument():
    @njit
    def logarithm(x, g_out):
        f = 0.0
        for i in range(x.size):
            g_out[i] = np.log(x[i])
            f += g_out[i]
        return f

    assert ao.minimize(logarithm, -np.ones(2)).status == 3


def test_where_defaults_leave_it_open_the_name_tells_the_gradient():
    @njit
    def with_default(x, g_out, centre=3.0):
        g_out[:] = 2 * (x - centre)
        return ((x - centre) ** 2).sum()

    assert_allclose(solve(with_default, jac=None).x, 3, atol=1e-4)
    assert_allclose(solve(with_default, jac=None, args=(2.0,)).x, 2, atol=1e-4)


@pytest.mark.parametrize("number", ["float64", "float32"])
@pytest.mark.parametrize("centre", [3, 3.0, np.float32(3)])
def test_numbers_become_what_a_signature_declares(number, centre):
    signature = f"{number}({number}[::1], {number}[::1], {number})"
    declared = njit(signature)(in_place.py_func)
    x0 = np.zeros(2, number)
    assert_allclose(ao.minimize(declared, x0, (centre,), M).x, 3, atol=1e-4)
    if number == "float64":
        many = ao.minimize_many(declared, x0[None], (), M, row_args=(np.array([centre]),))
        assert_allclose(many.x, 3, atol=1e-4)


def test_a_fraction_is_not_cut_off_where_a_signature_declares_integers():
    declared = njit("float64(float64[::1], float64[::1], int64)")(in_place.py_func)
    with fails(TypeError, "it was compiled for", "int64"):
        ao.minimize(declared, np.zeros(2), (2.7,))


def test_a_point_of_another_dtype_than_declared_is_refused():
    declared = njit("float64(float64[::1], float64[::1], float64)")(in_place.py_func)
    with fails(TypeError, "float32", "it was compiled for", "float64"):
        ao.minimize(declared, np.zeros(2, np.float32), (3.0,))


@pytest.mark.parametrize("arg", [{}, np.ones(2, ">f8"), MASKED, Tensor(1.0)])
def test_args_that_numba_cannot_take_are_named(arg):
    with fails(TypeError, f"args[0] is a {type(arg).__name__}", "compiled function can take"):
        ao.minimize(in_place, np.zeros(2), (arg,))


def test_many_problems_say_what_they_need_of_fun():
    no_gradient = njit(lambda x: (x * x).sum())
    with fails(TypeError, "expected one that writes its gradient to g_out, or returns a pair"):
        ao.minimize_many(no_gradient, np.zeros((2, 2)))


# -- bounds, options, callbacks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0, 4), ["bounds[0] is 0, expected Bounds, or a pair", "[(0, 4)] for one"]),
        ([(0, 1, 2), (0, 1)], ["bounds[0] is (0, 1, 2), expected", "a pair (lower, upper)"]),
        ([("a", "b"), (0, 1)], ["bounds has dtype <U"]),
        (optimize.Bounds(np.array([0j, 0]), 1), ["bounds.lb has dtype complex128"]),
        (3, ["bounds is 3, expected Bounds, or a pair"]),
    ],
)
def test_what_is_no_bounds(bounds, words):
    for front in (ao.minimize, optimize.minimize):
        with fails((TypeError, ValueError), *words):
            front(pair, np.zeros(2), jac=True, bounds=bounds, method=M)


def test_none_is_a_pair_without_bounds():
    assert_allclose(solve(bounds=[None, (0, 1)]).x, [3, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("method", "name", "hint"),
    [
        (M, "learning_rate", "did you mean 'lr'?"),
        (M, "step_size", "did you mean 'lr'?"),
        (ao.RMSProp(), "alpha", "did you mean 'rho' or 'lr'?"),
        (ao.Adam(), "b1", "did you mean 'beta1'?"),
        (M, "n_epochs", "did you mean 'maxiter'?"),
        (M, "maxfun", "did you mean 'maxfev'?"),
        (M, "maxcor", "a first-order method has no such option"),
        (M, "callback", "it is an argument, callback=..., and no option"),
    ],
)
def test_an_option_of_another_library_hints_the_right_name(method, name, hint):
    with pytest.warns(optimize.OptimizeWarning, match=f"{name}.*{re.escape(hint)}"):
        solve(method=method, options={name: 1, "maxiter": 1})


@pytest.mark.parametrize(
    ("name", "hint"), [("maxiter", "epochs=..."), ("batch_size", "batch_size=..."), ("gtol", "tol")]
)
def test_an_option_of_minimize_hints_what_it_is_in_a_sum(name, hint):
    with pytest.warns(optimize.OptimizeWarning, match=re.escape(hint)):
        fit(np.eye(2), epochs=1, options={name: 1})


def test_eps_of_finite_differences_is_not_silently_that_of_the_method():
    with (
        pytest.warns(RuntimeWarning, match="no gradient"),
        pytest.warns(optimize.OptimizeWarning, match="eps of AdaGrad"),
    ):
        ao.minimize(value, np.zeros(2), method=M, options={"eps": 1e-3, "maxiter": 1})
    with pytest.warns(optimize.OptimizeWarning, match="eps of AdaGrad"):
        optimize.minimize(pair, np.zeros(2), jac=True, method=M, options={"eps": 1e-3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(options={"eps": 1e-3})


@pytest.mark.parametrize("options", [[("lr", 1.0)], "lr", 3, ["lr"]])
def test_options_that_are_no_dict(options):
    for run in (solve, lambda options: fit(np.eye(2), options=options)):
        with fails(TypeError, f"options is {options!r}, expected a dict"):
            run(options=options)


@pytest.mark.parametrize(
    "callback", [lambda x, state: None, lambda: None, lambda x, *, intermediate_result: None]
)
def test_a_callback_of_another_signature_is_refused_before_the_run(callback):
    with fails(TypeError, "callback takes (", "expected callback(xk)"):
        solve(lambda x: pytest.fail("fun was called"), callback=callback)


def test_a_class_for_a_method_is_said():
    with fails(TypeError, "method is the class AdaGrad, expected AdaGrad(...)"):
        optimize.minimize(pair, np.zeros(2), jac=True, method=ao.AdaGrad)


def test_bounds_of_a_data_frame_and_flags_for_counts_are_refused_in_words():
    frame = pytest.importorskip("pandas").DataFrame({"lo": [0.0, 0.0], "hi": [1.0, 1.0]})
    with pytest.raises(TypeError, match=r"bounds is a DataFrame, .* use bounds.to_numpy\(\)"):
        ao.minimize(lambda x: (x @ x, 2 * x), np.ones(2), jac=True, bounds=frame)
    with pytest.raises(ValueError, match=r"options\['maxiter'\] is True, expected a whole number"):
        ao.minimize(lambda x: (x @ x, 2 * x), np.ones(2), jac=True, options={"maxiter": True})
