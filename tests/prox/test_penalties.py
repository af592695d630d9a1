"""Proximal maps with penalties, and those that tie coordinates together."""

import copy
import pickle
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods_table import EACH_SHAPE, METHODS, in_turn, takes
from scipy import optimize

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
from adaptopt.prox.base import then_clip
from adaptopt.prox.separable import shrink

points = st.floats(-5, 5)
weights = st.floats(0, 3)
rates = st.floats(1e-3, 10)

SEPARABLE = {
    "l1": ao.L1(0.3),
    "l2": ao.L2(0.5),
    "elastic": ao.ElasticNet(0.2, 0.5),
    "box": ao.Box(-0.4, 0.2),
    "l1-in-box": ao.L1(0.3).within(ao.Box(-0.4, 0.2)),
    "l2-in-box": ao.L2(0.5).within(ao.Box(-0.4, 0.2)),
    "elastic-nonnegative": ao.ElasticNet(0.2, 0.5).within(ao.NonNegative()),
}


def applied(prox, x, rate):
    """Apply a map of scalar parameters to a number."""
    _, scalars = prox.parameters((1,), np.dtype(np.float64))
    return prox.prox(x, rate, *scalars)


def objective(prox, u, x, rate):
    return prox.penalty(np.array([u])) + (u - x) ** 2 / (2 * rate)


# -- separable maps --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEPARABLE)
@given(x=points, rate=rates, other=points)
def test_a_map_minimises_penalty_plus_distance(name, x, rate, other):
    prox = SEPARABLE[name]
    u = applied(prox, x, rate)
    (other,) = prox.feasible(np.array([other]))
    assert prox.feasible(np.array([u]))[0] == u
    assert objective(prox, u, x, rate) <= objective(prox, other, x, rate) + 1e-12


@given(x=points, rate=rates, l1=weights)
def test_l1_makes_exact_zeros(x, rate, l1):
    u = applied(ao.L1(l1), x, rate)
    assert (u == 0) == (abs(x) <= rate * l1)


@pytest.mark.parametrize("name", SEPARABLE)
@given(x=points, rate=rates, k=st.integers(1, 60))
def test_a_map_repeated_is_the_map_so_many_times(name, x, rate, k):
    prox = SEPARABLE[name]
    _, scalars = prox.parameters((1,), np.dtype(np.float64))
    (x,) = prox.feasible(np.array([x]))  # as every iterate is
    expected = x
    for _ in range(k):
        expected = prox.prox(expected, rate, *scalars)
    assert prox.repeat(k, x, rate, *scalars) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", SEPARABLE)
def test_a_nan_stays_a_nan(name):
    assert np.isnan(applied(SEPARABLE[name], np.nan, 0.1))


@pytest.mark.parametrize("name", SEPARABLE)
@given(x=st.integers(-50, 50).map(lambda k: k / 10), g=points)
def test_the_residual_is_zero_where_a_step_does_not_move(name, x, g):
    prox = SEPARABLE[name]
    (x,) = prox.feasible(np.array([x]))
    _, scalars = prox.parameters((1,), np.dtype(np.float64))
    residual = prox.residual(x, g, *scalars)
    moved = applied(prox, x - 1e-3 * g, 1e-3) - x
    assert (abs(residual) < 1e-9) == (abs(moved) < 1e-12)


# A kernel of each shape with one map in turn, every map with one method.
DTYPES = (np.float32, np.float64)
PAIRS = dict.fromkeys(
    [
        *[
            (name, map_ if takes(name, SEPARABLE[map_]) else "box", dtype)
            for name, map_, dtype in in_turn(EACH_SHAPE, SEPARABLE, DTYPES)
        ],
        *[("nadam", name, dtype) for name, dtype in in_turn(SEPARABLE, DTYPES)],
    ]
)


@pytest.mark.parametrize(("method", "name", "dtype"), PAIRS)
def test_every_method_applies_it_in_its_own_metric(method, name, dtype, in_python):
    """The map takes the rate that the step itself reports."""
    method, prox, rng = METHODS[method], SEPARABLE[name], np.random.default_rng(0)
    x, g = rng.standard_normal((2, 50)).astype(dtype)
    plain, mapped = x.copy(), x.copy()
    free, tied = ao.Optimizer(plain, method), ao.Optimizer(mapped, method, prox)
    free.step(g)
    tied.step(g)
    rates = free.learning_rates()
    np.testing.assert_array_equal(tied.learning_rates(), rates)
    _, scalars = prox.parameters((1,), np.dtype(dtype))
    scalars = [dtype(s) for s in scalars]
    expected = [prox.prox(v, r, *scalars) for v, r in zip(plain, rates, strict=True)]
    np.testing.assert_array_equal(mapped, np.array(expected, dtype))


@pytest.mark.parametrize("name", ["l1-in-box"])  # a penalty and bounds; a box alone elsewhere
def test_threaded_equals_serial(name):
    n = THREADED_FROM + 9
    x, g = np.random.default_rng(0).standard_normal((2, n)).astype(np.float32)
    whole = x.copy()
    ao.Optimizer(whole, ao.AdaGrad(0.1), SEPARABLE[name]).step(g)
    part = x[-9:].copy()
    ao.Optimizer(part, ao.AdaGrad(0.1), SEPARABLE[name]).step(g[-9:].copy())
    np.testing.assert_array_equal(whole[-9:], part)


@pytest.mark.parametrize(
    ("prox", "scalar"),
    [
        (lambda v: ao.L1(v), lambda v: ao.L1(v)),
        (lambda v: ao.ElasticNet(v, 0.5), lambda v: ao.ElasticNet(v, 0.5)),
        (
            lambda v: ao.L2(v).within(ao.Box(-0.5, 0.5)),
            lambda v: ao.L2(v).within(ao.Box(-0.5, 0.5)),
        ),
        (
            lambda v: ao.L1(0.5).within(ao.Box(-v, 1.0)),
            lambda v: ao.L1(0.5).within(ao.Box(-v, 1.0)),
        ),
    ],
)
def test_an_array_of_weights_is_a_weight_for_each_coordinate(prox, scalar, in_python):
    weights = np.array([0.0, 0.2, 0.7])
    x, g = np.array([1.0, -0.3, 0.6]), np.array([0.5, -0.5, 1.0])
    together = x.copy()
    ao.Optimizer(together, ao.AdaGrad(0.3), prox(weights)).step(g)
    for i, weight in enumerate(weights):
        alone = x[i : i + 1].copy()
        ao.Optimizer(alone, ao.AdaGrad(0.3), scalar(weight)).step(g[i : i + 1].copy())
        assert alone[0] == together[i]


def test_groups_have_maps_of_their_own(in_python):
    params = {"a": np.ones(3), "b": np.ones((2, 2))}
    opt = ao.Optimizer(params, ao.SGD(0.5), {"a": ao.L1(1.0), "b": ao.Simplex()})
    opt.step({"a": np.zeros(3), "b": np.array([[1.0, 0], [0, 0]])})
    assert opt.params["a"].tolist() == [0.5] * 3
    assert opt.params["b"].sum() == pytest.approx(1)


# -- maps that tie coordinates together ------------------------------------------------------------

TIED = {
    "simplex": ao.Simplex(1.5),
    "ball": ao.L2Ball(0.8),
    "groups": ao.GroupL2(0.4, [0, 0, 1, 1, 2, 2]),
}
CONSTRAINTS = {
    "simplex": [{"type": "eq", "fun": lambda u: u.sum() - 1.5}],
    "ball": [{"type": "ineq", "fun": lambda u: 0.8**2 - u @ u}],
    "groups": [],
}


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("seed", range(8))
def test_it_minimises_penalty_plus_distance_in_the_metric_of_the_rates(name, seed):
    rng = np.random.default_rng(seed)
    v, r = rng.standard_normal(6), 10.0 ** rng.uniform(-2, 1, 6)
    prox = TIED[name]
    u = prox.solve(v, r)

    def total(u):
        return prox.penalty(u) + ((u - v) ** 2 / (2 * r)).sum()

    bounds = [(0, None)] * 6 if name == "simplex" else None
    found = optimize.minimize(
        total, prox.feasible(v), bounds=bounds, constraints=CONSTRAINTS[name],
        method="SLSQP", options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    assert total(u) <= found.fun + 1e-9


@given(seed=st.integers(0, 999), spread=st.integers(0, 12))
@settings(deadline=None)
def test_results_are_feasible_whatever_the_rates(seed, spread):
    rng = np.random.default_rng(seed)
    v, r = 10 * rng.standard_normal(20), 10.0 ** rng.uniform(-spread, spread, 20)
    simplex = ao.Simplex().solve(v, r)
    assert (simplex >= 0).all()
    assert simplex.sum() == pytest.approx(1)
    assert np.linalg.norm(ao.L2Ball(2.0).solve(v, r)) <= 2 * (1 + 1e-12)


def test_a_point_inside_the_ball_stays():
    x = np.array([0.1, 0.2])
    assert ao.L2Ball(1.0).solve(x, np.ones(2)) is x


def test_whole_groups_become_exactly_zero():
    u = ao.GroupL2(1.0, [0, 0, 1, 1]).solve(np.array([3.0, 4.0, 0.1, 0.1]), np.ones(4))
    np.testing.assert_allclose(u, [2.4, 3.2, 0, 0])
    assert u[2:].tolist() == [0, 0]


def test_groups_by_label_and_by_index_are_the_same():
    v, r = np.arange(1.0, 6.0), np.full(5, 0.5)
    by_label = ao.GroupL2(1.0, [7, 3, 7, 3, 3]).solve(v, r)
    by_index = ao.GroupL2(1.0, [np.array([0, 2]), np.array([1, 3, 4])]).solve(v, r)
    np.testing.assert_allclose(by_label, by_index)


def test_elements_in_no_group_are_left_alone():
    u = ao.GroupL2(1.0, [np.array([0, 1])]).solve(np.array([3.0, 4.0, 9.0]), np.ones(3))
    assert u[2] == 9


# The map runs on the host, after a step that writes its rates down: a kernel of each shape with one
# map and dtype in turn, every map and dtype with one method.
TIED_DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16]
TIED_CASES = dict.fromkeys(
    [
        *[
            (name, map_ if takes(name, TIED[map_]) else "ball", dtype)
            for name, map_, dtype in in_turn(EACH_SHAPE, TIED, TIED_DTYPES)
        ],
        *[("adagrad", name, dtype) for name in TIED for dtype in TIED_DTYPES],
    ]
)


@pytest.mark.parametrize(("method", "name", "dtype"), TIED_CASES)
def test_every_method_and_dtype_takes_it(method, name, dtype):
    x, g = np.random.default_rng(0).standard_normal((2, 6)).astype(dtype)
    opt = ao.Optimizer(x, METHODS[method], TIED[name])
    opt.step(g)
    u = x.astype(np.float64)
    tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-12}[x.dtype.itemsize]
    feasible = TIED[name].feasible(u)
    np.testing.assert_allclose(u, feasible, atol=tolerance)
    assert np.isfinite(u).all()


@pytest.mark.parametrize("method", [ao.AdaGradDA(0.5, l2=1.0), ao.FTRL(0.5, l1=0.1)])
def test_a_map_that_ties_coordinates_is_refused_with_penalties_of_the_method(method):
    for prox in (ao.Simplex(2.0), ao.L2Ball(1.5)):
        with pytest.raises(ValueError, match=r"prox is a .* with .*, expected l1 and l2 0.0"):
            ao.Optimizer(np.ones(2), method, prox)
    ao.Optimizer(np.ones(2), method, ao.Box(0.0, 1.0))


def test_a_master_copy_is_projected_too(in_python):
    x = np.array([1.0, 1.0], ml_dtypes.bfloat16)
    opt = ao.Optimizer(x, ao.SGD(0.1), ao.Simplex(), master=True)
    opt.step(np.zeros(2, ml_dtypes.bfloat16))
    assert x.tolist() == [0.5, 0.5]


def exact_simplex(v, r, total):
    """Return the projection by fractions, by sorting ``v / r``."""
    v, r, total = [Fraction(a) for a in v], [Fraction(a) for a in r], Fraction(total)
    sum_v, sum_r, tau = Fraction(0), Fraction(0), None
    for i in sorted(range(len(v)), key=lambda i: -v[i] / r[i]):
        if tau is not None and v[i] / r[i] <= tau:
            break
        sum_v, sum_r = sum_v + v[i], sum_r + r[i]
        tau = (sum_v - total) / sum_r
    return np.array([float(max(a - tau * b, 0)) for a, b in zip(v, r, strict=True)])


@given(
    points=st.lists(st.floats(-1, 1), min_size=1, max_size=7),
    powers=st.lists(st.integers(-40, 40), min_size=7, max_size=7),
    size=st.integers(-20, 300),
    total=st.sampled_from([1e-5, 1.0, 3e4]),
    same=st.booleans(),
)
@settings(deadline=None)
def test_the_projection_onto_the_simplex_is_exact_from_anywhere(points, powers, size, total, same):
    v = np.array(points) * 10.0**size
    r = np.full(v.size, 0.3) if same else 1.3 ** np.array(powers[: v.size])
    u = ao.Simplex(total).solve(v, r)
    np.testing.assert_allclose(u, exact_simplex(v, r, total), rtol=1e-12, atol=1e-13 * total)


@pytest.mark.parametrize("size", [1e8, 1e18, 1e300])
def test_a_point_far_from_the_simplex_lands_on_it(size):
    x = np.full(5, 0.2)
    ao.Optimizer(x, ao.SGD(1.0), ao.Simplex()).step(size * np.array([3.0, 1.0, -2.0, 0.5, -1.0]))
    assert x.tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("size", [1.0, 1e20, 1e150, 1e155, 1e300])
def test_points_as_large_as_they_come_are_scaled_first(size):
    v, r = size * np.array([3.0, -4.0]), np.ones(2)
    np.testing.assert_allclose(ao.L2Ball(0.5).solve(v, r), [0.3, -0.4], rtol=1e-14)
    shrunk = ao.GroupL2(size, [0, 0]).solve(v, r)
    np.testing.assert_allclose(shrunk / size, [2.4, -3.2], rtol=1e-14)
    assert ao.GroupL2(1.0, [0, 0]).penalty(v) == pytest.approx(5 * size, rel=1e-14)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("rates", [[np.inf] * 6, [0.0] * 6, [1.0, np.inf, 0.0, 1e-300, 1e300, 1]])
def test_rates_of_any_size_leave_numbers(name, rates):
    u = TIED[name].solve(np.array([3.0, -1.0, 0.0, 2.0, 1.0, 0.5]), np.array(rates))
    assert np.isfinite(u).all()
    np.testing.assert_allclose(TIED[name].feasible(u), u, atol=1e-12)


@pytest.mark.parametrize("groups", [[0, 0], [0, 0, 1, 1], [np.array([0, 3])]])
def test_groups_that_do_not_fit_are_refused_before_the_first_step(groups):
    with pytest.raises(ValueError, match=r"GroupL2.groups has .* expected"):
        ao.Optimizer(np.ones(3), ao.SGD(0.1), ao.GroupL2(0.1, groups))


def test_labels_as_an_array_have_the_shape_of_the_parameters():
    by_row = np.repeat(np.arange(3), 2).reshape(3, 2)
    x = np.tile([3.0, 4.0], (3, 1))
    ao.Optimizer(x, ao.SGD(1.0), ao.GroupL2(1.0, by_row)).step(np.zeros((3, 2)))
    np.testing.assert_allclose(x, np.tile([2.4, 3.2], (3, 1)))
    with pytest.raises(ValueError, match=r"of shape \(3, 2\), expected .* shape \(6,\) .*tolist"):
        ao.Optimizer(np.ones(6), ao.SGD(1.0), ao.GroupL2(1.0, by_row))


def test_an_array_of_flat_indices_is_not_taken_for_labels():
    indices = np.arange(6).reshape(3, 2)
    with pytest.raises(ValueError, match=r"another label for each element.*pass groups.tolist\(\)"):
        ao.GroupL2(1.0, indices)
    u = ao.GroupL2(1.0, indices.tolist()).solve(np.tile([3.0, 4.0], 3), np.ones(6))
    np.testing.assert_allclose(u, np.tile([2.4, 3.2], 3))
    with pytest.raises(ValueError, match="only empty groups"):
        ao.GroupL2(1.0, [[]])


# -- maps as values --------------------------------------------------------------------------------

MAKERS = [
    lambda: ao.L1(0.1),
    lambda: ao.L1([0.1, 0.2]),
    lambda: ao.L2(0.1),
    lambda: ao.ElasticNet(0.1, [0.2, 0.3]),
    lambda: ao.Box([-1.0, 0.0], 1.0),
    lambda: ao.NonNegative(),
    lambda: ao.L1(0.1).within(ao.Box([-1.0, 0.0], 1.0)),
    lambda: ao.Simplex(2.0),
    lambda: ao.L2Ball(2.0),
    lambda: ao.GroupL2(0.1, [0, 1]),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_map_cannot_be_changed(make):
    prox = make()
    for name in vars(prox):
        if not name.startswith("_") and type(prox).__name__ != "_Bounded":
            with pytest.raises(AttributeError):
                setattr(prox, name, 0.5)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_maps_with_the_same_parameters_are_equal(make, copied):
    prox = make()
    for other in (make(), copied(prox)):
        assert prox == other
        assert hash(prox) == hash(other)
    assert sum(prox == other() for other in MAKERS) == 1


# -- minimize --------------------------------------------------------------------------------------


def quadratic(x):
    d = x - np.array([1.0, 0.05, -0.8])
    return float(d @ d) / 2, d


FALLING = ao.schedules.exponential(0.1, 0.995)


@pytest.mark.parametrize(
    "method", [ao.AdaGrad(0.5), ao.RMSProp(FALLING), ao.Adam(FALLING), ao.SGD(0.5)], ids=str
)
def test_minimize_finds_the_minimum_with_the_penalty(method, in_python):
    res = ao.minimize(quadratic, np.ones(3), jac=True, method=method, prox=ao.L1(0.3))
    assert res.success, res.message
    np.testing.assert_allclose(res.x, [0.7, 0, -0.5], atol=1e-4)
    assert res.fun == pytest.approx(quadratic(res.x)[0] + 0.3 * np.abs(res.x).sum())


def test_bounds_and_a_separable_prox_are_handled_together(in_python):
    res = ao.minimize(
        quadratic, np.zeros(3), jac=True, method=ao.AdaGrad(0.5), prox=ao.ElasticNet(0.3, 1.0),
        bounds=[(0, 0.2), (None, None), (-0.1, None)],
    )  # fmt: skip
    np.testing.assert_allclose(res.x, [0.2, 0, -0.1], atol=1e-5)
    assert res.success


@pytest.mark.parametrize(
    "method",
    [
        ao.Momentum(0.02),
        ao.Momentum(0.02, nesterov=True),
        ao.Momentum(0.02, lr_inside=True, dampening=0.5),
        ao.RMSProp(FALLING, momentum=0.9),
    ],
    ids=str,
)
def test_momentum_leaves_the_penalty_what_it_is(method):
    """A gradient that lasts moves a ball 1 / (1 - momentum) times as far as a single one."""
    res = ao.minimize(
        quadratic, np.ones(3), jac=True, method=method, prox=ao.L1(0.3), options={"maxiter": 5000}
    )
    np.testing.assert_allclose(res.x, [0.7, 0, -0.5], atol=1e-4)


@pytest.mark.parametrize("name", TIED)
def test_minimize_converges_with_every_map(name):
    def fun(x):
        d = x - np.array([1.0, 0.05, -0.8, 0.4, 0.0, 0.1])
        return float(d @ d) / 2, d

    res = ao.minimize(fun, np.ones(6), jac=True, method=ao.AdaGrad(0.5), prox=TIED[name])
    assert res.success, res.message
    expected = TIED[name].solve(np.array([1.0, 0.05, -0.8, 0.4, 0.0, 0.1]), np.ones(6))
    np.testing.assert_allclose(res.x, expected, atol=1e-4)


def test_the_start_is_made_feasible():
    seen = []

    def fun(x):
        seen.append(x)
        return float(x @ x), 2 * x

    ao.minimize(fun, np.full(3, 9.0), jac=True, prox=ao.Simplex(), options={"maxiter": 1})
    assert seen[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("name", TIED)
def test_going_on_is_exact(name):
    def fun(x):
        return float(x @ x), 2 * x - 0.3

    def go(n, **rest):
        return ao.minimize(
            fun, np.ones(6), jac=True, method=ao.AdaGrad(0.1), prox=TIED[name],
            options={"maxiter": n, "gtol": None}, **rest,
        )  # fmt: skip

    rest = go(6, state=go(4).state)
    np.testing.assert_array_equal(rest.state.x, go(10).state.x)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ao.L1(-1.0), ValueError, "L1.lam is -1.0, expected finite numbers >= 0"),
        (lambda: ao.L2(np.nan), ValueError, "L2.lam is nan"),
        (lambda: ao.ElasticNet(0.1, np.inf), ValueError, "ElasticNet.l2 is inf"),
        (lambda: ao.Simplex(0.0), ValueError, "Simplex.total is 0.0, expected a finite number > 0"),
        (lambda: ao.L2Ball(-1.0), ValueError, "L2Ball.radius is -1.0"),
        (lambda: ao.GroupL2(-1.0, [0]), ValueError, "GroupL2.lam is -1.0"),
        (lambda: ao.GroupL2(1.0, [0.5]), TypeError, "GroupL2.groups has dtype float64"),
        (
            lambda: ao.GroupL2(1.0, [np.array([0, 1]), np.array([1])]),
            ValueError,
            "GroupL2.groups overlap",
        ),
        (
            lambda: ao.GroupL2(1.0, [np.array([9])]).solve(np.ones(2), np.ones(2)),
            ValueError,
            "GroupL2.groups has index 9, expected less than 2",
        ),
        (
            lambda: ao.Simplex().within(ao.Box(0, 1)),
            ValueError,
            "bounds are given with Simplex, expected one of them",
        ),
    ],
)
def test_parameters_that_make_no_sense(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_maps_are_composed_once():
    """So that equal compositions share a kernel."""
    assert then_clip(shrink) is then_clip(shrink)
