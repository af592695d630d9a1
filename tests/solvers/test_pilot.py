"""lr="auto" of minimize_finite_sum: a pilot, the way travelled, and where no rate is found."""

import numpy as np
import pytest
import scipy.sparse

import adaptopt as ao
from adaptopt.solvers.distance import Segment, play

N, D = 400, 4
RNG = np.random.default_rng(0)
A = RNG.standard_normal((N, D))
B = A @ [1.0, -2.0, 0.5, 0.0] + 0.1 * RNG.standard_normal(N)
LEAST = float(0.5 * np.square(A @ np.linalg.lstsq(A, B)[0] - B).mean())


def squares(x, A, b):
    r = A @ x.reshape(-1) - b
    return r @ r / (2 * len(b)), (A.T @ r / len(b)).reshape(x.shape)


def solve(fun=squares, x0=None, data=(A, B), **others):
    x0 = np.zeros(D) if x0 is None else x0
    return ao.minimize_finite_sum(fun, x0, data, **{"rng": 0, "epochs": 5, **others})


def least_squares(**others):
    return solve(ao.problems.LeastSquares(scipy.sparse.csr_array(A), B), data=None, **others)


NAMES = ["adagrad", "adagradnorm", "rmsprop", "adam", "amsgrad", "adamax", "nadam"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_needs_no_rate(name, in_python):
    res = solve(method=name, epochs=10)
    assert res.fun - LEAST < 1e-3 * (squares(np.zeros(D), A, B)[0] - LEAST)
    assert res.lr > 0


@pytest.mark.parametrize("scale", [1e-5, 1e8])
def test_the_units_of_x_and_of_the_objective_drop_out(scale):
    res, scaled = solve(), solve(data=(A * scale, B))
    np.testing.assert_allclose(scaled.x * scale, res.x, atol=1e-3)
    scaled = solve(lambda x, A, b: tuple(1e6 * value for value in squares(x, A, b)))
    np.testing.assert_allclose(scaled.x, res.x, rtol=1e-4)


FAR_APART = np.array([1e-3, 30.0, 1.0, 1e3])


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adam"])
def test_the_units_of_columns_drop_out(name):
    plain, other = solve(method=name), solve(method=name, data=(A * FAR_APART, B))
    assert other.fun - LEAST < 10.0 * (plain.fun - LEAST)
    rates = other.learning_rates * FAR_APART**2  # in the units of plain
    np.testing.assert_allclose(rates, plain.learning_rates, rtol=1.0)


@pytest.mark.parametrize("name", ["adagrad", "rmsprop"])
def test_units_are_those_of_dense_rows_over_sparse_ones(name, in_python):
    scaled = A * FAR_APART * (RNG.random(A.shape) < 0.3)
    dense, sparse = (
        solve(ao.problems.LeastSquares(rows, B), data=None, method=name)
        for rows in (scaled, scipy.sparse.csr_array(scaled))
    )
    assert sparse.path == "compiled sparse epochs"
    np.testing.assert_allclose(sparse.x, dense.x, rtol=1e-9)


def test_the_shape_of_x_does_not_matter():
    np.testing.assert_array_equal(solve(x0=np.zeros((2, 2))).x.reshape(-1), solve().x)


def test_float32_stays_float32(in_python):
    res = solve(x0=np.zeros(D, np.float32), data=(A.astype(np.float32), B.astype(np.float32)))
    assert res.x.dtype == np.float32
    np.testing.assert_allclose(res.x, solve().x, rtol=1e-4)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_pilot_takes_rows_of_all_kinds(shuffle):
    order = np.argsort(B)
    res = solve(data=(A[order], B[order]), shuffle=shuffle, epochs=10)
    assert res.fun - LEAST < 1e-3


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_few_rows_are_enough(rows):
    res = solve(data=(A[:rows], B[:rows]), batch_size=2, epochs=20)
    least = squares(np.linalg.lstsq(A[:rows], B[:rows])[0], A[:rows], B[:rows])[0]
    assert res.fun - least < 0.01 * squares(np.zeros(D), A[:rows], B[:rows])[0]


def test_compiled_epochs_take_the_steps_of_python():
    """All epochs of CSR rows agree with the loop in Python up to the order of sums."""
    in_python = least_squares(options={"nan_policy": "omit"})
    assert in_python.path.startswith("Python loop")
    np.testing.assert_allclose(least_squares().x, in_python.x, rtol=1e-9)
    res = least_squares(options={"history": 7})
    np.testing.assert_allclose(least_squares().x, res.x, rtol=1e-9)


@pytest.mark.parametrize("average", [None, "last"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_going_on_is_exact(tmp_path, average, epochs):
    whole, part = least_squares(average=average), least_squares(average=average, epochs=epochs)
    if average is None:  # a rate that falls to 0 depends on where the run ends
        part.state.save(tmp_path / "state.npz")
        rest = least_squares(state=tmp_path / "state.npz", epochs=5 - epochs)
        np.testing.assert_array_equal(rest.x, whole.x)
        assert rest.lr == whole.lr
    assert part.fun > whole.fun


@pytest.mark.parametrize("call", [3, 9, 12, 13, 14, 17, 26, 27, 40])
@pytest.mark.parametrize("average", [None, "last"])
def test_an_interrupt_loses_nothing(call, average):
    """In the pilot, between it and the first step, and within segments of the rate."""
    calls = 0

    def interrupted(x, A, b):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return squares(x, A, b)

    whole = solve(average=average)
    with pytest.raises(KeyboardInterrupt) as error:
        solve(interrupted, average=average)
    state = error.value.state
    rest = solve(average=average, state=state, epochs=5 - state.epoch)
    np.testing.assert_array_equal(rest.x, whole.x)


def test_a_run_with_a_rate_can_go_on_without(in_python):
    before = solve(method=ao.AdaGrad(0.01), epochs=1)
    res = solve(state=before.state)
    assert res.fun - LEAST < 0.01 < before.fun - LEAST


def test_a_run_without_a_rate_goes_on_only_without():
    with pytest.raises(ValueError, match=r"AdaGrad in units \(lr='auto'\), expected AdaGrad"):
        solve(method=ao.AdaGrad(0.01), state=solve(epochs=1).state)


def test_a_penalty_has_exact_zeros(in_python):
    res = solve(prox=ao.L1(0.1))
    assert res.x[3] == 0.0
    assert res.state.average is None
    averaged = solve(prox=ao.L1(0.1), average="polynomial")
    assert averaged.x[3] != 0.0
    assert abs(res.fun - averaged.fun) < 1e-3


def test_the_rate_falls_for_a_last_iterate():
    assert solve(average="last").lr < 0.2 * solve().lr


def test_bounds_hold_in_the_pilot_too():
    seen = []

    def fun(x, A, b):
        seen.append(x.copy())
        return squares(x, A, b)

    solve(fun, bounds=[(-0.5, 0.5)] * D, epochs=1)
    assert np.abs(seen).max() <= 0.5


def test_nothing_is_drawn_for_the_pilot():
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    solve(rng=one)
    solve(rng=other, method=ao.AdaGrad(0.1))
    assert one.bit_generator.state == other.bit_generator.state


def test_values_that_are_not_finite():
    spoilt = np.where(RNG.random(A.shape) < 0.01, np.nan, A)
    res = solve(data=(spoilt, B))
    assert (res.status, res.success) == (3, False)
    with pytest.raises(FloatingPointError, match="pilot"):
        solve(data=(spoilt, B), options={"nan_policy": "raise"})
    res = solve(data=(spoilt, B), options={"nan_policy": "omit"}, epochs=10)
    assert np.abs(res.x - solve().x).max() < 0.05


def test_a_gradient_of_the_wrong_sign_is_no_success():
    def wrong(x, A, b):
        f, g = squares(x, A, b)
        return f, -g

    res = solve(wrong)
    assert not res.success
    assert "not the gradient" in res.message


SPARSE = ao.problems.LeastSquares(scipy.sparse.csr_array(A), B)


@pytest.mark.parametrize(
    ("method", "others", "words"),
    [
        (ao.SGD("auto"), {}, "AdaGradNorm is SGD"),
        (ao.Momentum("auto"), {}, "grow with the gradients"),
        (ao.AdaDelta(lr="auto"), {}, "finds the unit"),
        (ao.AdaGradDA("auto"), {}, "anew from sums"),
        (ao.FTRL("auto"), {}, "anew from sums"),
        (ao.RowWiseAdaGrad("auto"), {"x0": np.zeros((2, 2))}, "rows of a table"),
        (ao.Adam("auto", weight_decay=0.1, decoupled=True), {}, "decoupled"),
        (ao.AdaGrad("auto"), {"prox": ao.Simplex()}, "ties coordinates"),
        (ao.AdaGrad("auto"), {"fun": SPARSE, "data": None, "parallel": "hogwild"}, "hogwild"),
    ],
)
def test_where_no_rate_is_found_it_is_said(method, others, words):
    with pytest.raises(ValueError, match=words):
        solve(method=method, **others)


def test_a_name_then_means_the_default_rate():
    res = solve(method="sgd", epochs=1)
    np.testing.assert_array_equal(res.x, solve(method=ao.SGD(), epochs=1).x)
    assert "lr" not in res


def test_segments_follow_one_another():
    """Each begins where the last one ends, however a run that goes on is cut."""
    steps, pieces = 37, 8
    for t in range(3 * steps):
        segment = Segment.around(t, t % steps, steps, pieces)
        assert segment.first <= t < segment.last
        inner = range(segment.first, segment.last)
        assert {Segment.around(s, s % steps, steps, pieces) for s in inner} == {segment}


def test_rates_under_gradients_of_one():
    np.testing.assert_allclose(play(ao.Adam(), 1.0, 50).rates, 1.0, rtol=1e-7)
    expected = 1 / np.sqrt(1 - 0.99 ** np.arange(1, 51))
    np.testing.assert_allclose(play(ao.RMSProp(rho=0.99), 1.0, 50).rates, expected, rtol=1e-6)


@pytest.mark.parametrize("distance", [0.0, -1.0, np.inf, np.nan])
def test_a_forged_distance_is_refused(distance):
    state = solve(epochs=1).state
    state.distance = distance
    with pytest.raises(ValueError, match="distance"):
        solve(state=state)


def test_a_result_stands_for_its_state():
    part = solve(epochs=2)
    np.testing.assert_array_equal(
        solve(state=part, epochs=3).x, solve(state=part.state, epochs=3).x
    )
    assert repr(part.state) == "<EpochState: step 26 of AdaGrad in units (lr='auto'), 4 variables>"


def test_a_pilot_on_fewer_rows_than_columns_does_no_harm():
    """Its rows are separable: their loss has no minimum."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1900, 150))
    y = np.where(rows[:, 0] + rng.logistic(size=1900) > 0, 1.0, -1.0)
    for weights, least in ((None, 0.57), (np.where(rng.random(1900) < 0.9, 0.0, 1.0), 0.35)):
        p = ao.problems.Logistic(rows, y, sample_weight=weights)
        for seed in range(2):
            res = ao.minimize_finite_sum(p, np.zeros(150), None, rng=seed, epochs=5)
            assert res.success
            assert res.fun < least
