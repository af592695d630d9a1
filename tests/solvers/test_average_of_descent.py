"""average= of minimize: noisy objectives, exact continuation, and what it is not."""

import zlib

import numpy as np
import pytest

import adaptopt as ao

SOLUTION = np.array([1.0, -2.0, 0.5])


def noisy(seed=0):
    """Return a quadratic whose gradients carry noise that depends on the point alone."""

    def fun(x):
        noise = np.random.default_rng(zlib.crc32(x.tobytes()) + seed).standard_normal(3)
        away = x - SOLUTION
        return float(away @ away / 2), away + noise

    return fun


def solve(fun=None, x0=(0.0, 0.0, 0.0), **others):
    options = {"maxiter": 400, "gtol": None, **others.pop("options", {})}
    others = {"method": ao.AdaGrad(lr=0.5), "jac": True, **others}
    return ao.minimize(fun or noisy(), np.array(x0), options=options, **others)


@pytest.mark.parametrize("kind", ["uniform", "polynomial"])
def test_the_average_is_that_of_the_iterates(kind):
    res = solve(average=kind, options={"return_all": True})
    t = np.arange(1, len(res.allvecs))
    eta = {"uniform": 0, "polynomial": 3}[kind]
    weights = np.ones(t.size)
    for i in range(1, eta + 1):
        weights *= t + i - 1
    expected = np.average(res.allvecs[1:], axis=0, weights=weights)
    np.testing.assert_allclose(res.x, expected, rtol=1e-12)
    assert res.fun == noisy()(res.x)[0]
    np.testing.assert_array_equal(res.jac, noisy()(res.x)[1])


def test_last_is_no_average():
    last, averaged = solve(average="last"), solve(average="polynomial")
    assert np.linalg.norm(averaged.x - SOLUTION) < 0.3
    np.testing.assert_array_equal(last.x, solve().x)
    assert averaged.nit == last.nit
    assert averaged.nfev == last.nfev + 1


@pytest.mark.parametrize("method", [ao.AdaGrad(lr=0.5), ao.Adam("auto")])
@pytest.mark.parametrize("call", [1, 2, 20])
def test_an_interrupt_loses_nothing(method, call):
    fun, calls = noisy(), 0
    if method.searches:  # a search needs values that follow their gradients
        fun = lambda x: (float(((x - SOLUTION) ** 4).sum()), 4 * (x - SOLUTION) ** 3)  # noqa: E731

    def interrupted(x):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return fun(x)

    options = {"maxiter": 30}
    whole = solve(fun, method=method, average="uniform", options=options)
    with pytest.raises(KeyboardInterrupt) as error:
        solve(interrupted, method=method, average="uniform", options=options)
    state = error.value.state
    done = state.t if state.search is None else state.search.steps
    rest = solve(
        fun, method=method, average="uniform", state=state, options={"maxiter": whole.nit - done}
    )
    np.testing.assert_array_equal(rest.x, whole.x)


def test_a_state_goes_through_a_file(tmp_path):
    path = tmp_path / "state.npz"
    solve(average="uniform", options={"maxiter": 100}).state.save(path)
    rest = solve(average="uniform", options={"maxiter": 300}, state=path)
    np.testing.assert_array_equal(rest.x, solve(average="uniform").x)


def test_bounds_hold_for_the_average():
    res = solve(average="uniform", bounds=[(0.1, 0.2)] * 3)
    assert (res.x >= 0.1).all()
    assert (res.x <= 0.2).all()


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="average is 'mean', expected None, last or uniform"):
        solve(average="mean")


@pytest.mark.parametrize(
    ("name", "value"),
    [("average_count", 500), ("average_kind", "mean"), ("average", np.zeros(2))],
)
def test_a_forged_average_is_refused(name, value):
    state = solve(average="uniform", options={"maxiter": 10}).state
    setattr(state, name, value)
    with pytest.raises(ValueError, match="average"):
        solve(average="uniform", state=state)


def test_a_success_is_that_of_an_iterate():
    exact = lambda x: (float(x @ x), 2 * x)  # noqa: E731
    res = solve(exact, x0=(1.0, 1.0, 1.0), average="uniform", options={"f_target": 1e-6})
    assert (res.status, res.success) == (5, True)
    assert res.fun <= 1e-6
