"""minimize_finite_sum: batches, their order, averages, validation, statuses, going on exactly."""

import importlib
import pickle
import re
import time
import tracemalloc
from itertools import chain

import numpy as np
import pytest
import scipy.sparse
from methods_table import KERNELS, METHODS, in_turn
from scipy.optimize import OptimizeResult, OptimizeWarning

import adaptopt as ao

N, D = 50, 3
RNG = np.random.default_rng(0)
A = RNG.standard_normal((N, D))
B = A @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(N)
SOLUTION = np.linalg.lstsq(A, B)[0]
HELD_OUT = (A[:13] + 0.1, B[:13])


def squares(x, A, b):
    """Half the mean square of the residuals."""
    r = A @ x.reshape(-1) - b
    return r @ r / (2 * len(b)), (A.T @ r / len(b)).reshape(x.shape)


def numbered(x, idx):
    return squares(x, A[idx], B[idx])


class Problem:
    """What the problems of adaptopt look like from here."""

    n_features = D

    def __call__(self, x):
        return squares(x, A, B)

    def batch(self, x, idx):
        return numbered(x, idx)

    def __len__(self):
        return N


def solve(fun=squares, x0=(0.0, 0.0, 0.0), data=(A, B), options=None, **others):
    others = {"batch_size": 8, "epochs": 3, "rng": 0, "method": "adagrad", **others}
    return ao.minimize_finite_sum(fun, x0, data, options={"lr": 0.5, **(options or {})}, **others)


def fails(error, *words):
    """Expect an error whose message holds all the words, in their order."""
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


def orders(**others):
    """Return the batches of row numbers that a run takes, without those of the last evaluation."""
    seen = []

    def fun(x, idx):
        seen.append(idx.tolist())
        return numbered(x, idx)

    res = solve(fun, data=N, **others)
    return seen[: res.nit]


def steps(**others):
    """Return the result and the iterates after every step, as the batches see them."""
    seen = []

    def fun(x, idx):
        seen.append(x)
        return numbered(x, idx)

    res = solve(fun, data=N, **others)
    return res, [*seen[1 : res.nit], res.state.x]


def assert_same_run(ours, theirs):
    for key in ("x", "fun", "jac", "learning_rates"):
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert pickle.dumps(ours.state) == pickle.dumps(theirs.state)


# -- what it solves --------------------------------------------------------------------------------


def test_sgd_with_a_decaying_rate_comes_to_the_least_squares_solution():
    res = solve(method="sgd", epochs=400, options={"lr": ao.schedules.inverse_time(0.2, 0.02)})
    np.testing.assert_allclose(res.x, SOLUTION, atol=5e-3)


@pytest.mark.parametrize("average", [None, "uniform", "polynomial"])
def test_adagrad_comes_near_the_least_squares_solution(average):
    res = solve(epochs=200, average=average)
    np.testing.assert_allclose(res.x, SOLUTION, atol=3e-2)


def test_fun_and_jac_are_those_of_all_data_at_x():
    res = solve()
    f, g = squares(res.x, A, B)
    assert res.fun == pytest.approx(f, rel=1e-14)
    np.testing.assert_allclose(res.jac, g, rtol=1e-12, atol=1e-15)


def test_the_last_evaluation_weights_its_batches(monkeypatch):
    monkeypatch.setattr("adaptopt.solvers.epochs.FULL_ROWS", 1)
    res = solve(batch_size=32)
    assert res.fun == pytest.approx(squares(res.x, A, B)[0], rel=1e-14)
    assert res.nfev == res.nit + 2


def test_the_last_evaluation_takes_a_bounded_number_of_rows():
    n, most = 20_000, []

    def fun(x, idx):
        most.append(idx.size)
        return float(x @ x), 2 * x

    res = solve(fun, data=n, batch_size=5000, epochs=1)
    assert (max(most), res.nfev) == (5000, 8)
    solve(fun, data=n, batch_size=10, epochs=1)
    assert max(most[8:]) == 1024


def test_a_penalty_is_part_of_fun():
    class Taxed(ao.Box):
        def penalty(self, x):
            return 7.0 + x.ndim

    res = solve(x0=np.zeros((D, 1)), prox=Taxed(-9, 9))
    assert res.fun == pytest.approx(squares(res.x, A, B)[0] + 9.0)


# -- forms of data ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.coo_array]
)
def test_sparse_data_gives_the_run_of_dense_data(form):
    np.testing.assert_allclose(solve(data=(form(A), B)).x, solve().x, rtol=1e-12)


def test_sparse_batches_are_csr():
    formats = set()

    def fun(x, A, b):
        formats.add((A.format, A.shape[0] == len(b)))
        return squares(x, A, b)

    solve(fun, data=(scipy.sparse.csc_array(A), B))
    assert formats == {("csr", True)}


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize("name", ["data", "validation"])
def test_sparse_data_that_points_beside_its_arrays_is_refused(form, name):
    good, bad = form(A), form(A)
    bad.indices[0] = max(A.shape)
    given = {"data": (good, B), "validation": (good, B), name: (bad, B)}
    with pytest.raises(ValueError, match=rf"{name}\[0\].indices goes from 0 to {max(A.shape)}"):
        solve(**given)


@pytest.mark.parametrize("fun", [numbered, Problem()], ids=["numbers", "problem"])
def test_every_form_of_data_gives_the_same_run(fun):
    assert_same_run(solve(fun, data=None if isinstance(fun, Problem) else N), solve())


def test_one_array_needs_no_tuple():
    def mean(x, a):
        return float(((a - x) ** 2).sum() / len(a)), 2 * (x - a.mean(0))

    assert_same_run(solve(mean, data=A), solve(mean, data=(A,)))


def test_a_list_of_arrays_stands_for_a_tuple():
    assert_same_run(solve(data=[A, B]), solve())


def test_args_come_after_the_batch():
    def fun(x, A, b, scale):
        f, g = squares(x, A, b)
        return scale * f, scale * g

    assert solve(fun, args=(2.0,)).fun == pytest.approx(2 * squares(solve().x, A, B)[0], rel=1e-6)


def test_data_are_not_modified_by_what_fun_does_to_its_batch():
    before = A.copy(), B.copy()

    def fun(x, A, b):
        result = squares(x, A, b)
        A[:] = b[:] = np.nan
        return result

    assert_same_run(solve(fun, shuffle=False), solve(shuffle=False))
    np.testing.assert_array_equal(A, before[0])
    np.testing.assert_array_equal(B, before[1])


def test_what_fun_does_to_row_numbers_stays_there():
    def fun(x, idx):
        result = numbered(x, idx)
        idx[:] = 0
        return result

    assert_same_run(solve(fun, data=N), solve())


# -- x0 and bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [None, "uniform"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_of_x0_are_kept(dtype, average, in_python):
    x0 = np.zeros((1, D, 1), dtype)
    res = solve(x0=x0, average=average)
    assert {a.shape for a in (res.x, res.jac, res.learning_rates)} == {x0.shape}
    assert {a.dtype for a in (res.x, res.jac, res.learning_rates)} == {np.dtype(dtype)}
    assert not x0.any()


@pytest.mark.parametrize("average", [None, "uniform", "polynomial"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_hold(dtype, average, in_python):
    bounds = [(0.1, 0.3), (-0.7, None), (None, None)]
    res = solve(x0=np.ones(D, dtype), bounds=bounds, average=average, epochs=20)
    assert 0.1 <= res.x[0].astype(float) <= 0.3
    assert res.x[1].astype(float) >= -0.7


# -- order -----------------------------------------------------------------------------------------


def test_every_epoch_takes_every_row_once():
    batches = orders(epochs=4)
    assert len(batches) == 4 * 7
    for k in range(4):
        assert sorted(chain(*batches[7 * k : 7 * k + 7])) == list(range(N))


def test_every_epoch_has_a_permutation_of_its_own():
    batches = orders(epochs=2)
    assert batches[:7] != batches[7:]


def test_the_order_depends_on_the_seed_only():
    assert orders(rng=3) == orders(rng=3, method="rmsprop", average="uniform", drop_last=False)
    assert orders(rng=3) != orders(rng=4)


def test_without_a_seed_runs_differ():
    assert orders(rng=None) != orders(rng=None)


def test_a_generator_is_used_and_advanced_by_a_permutation_an_epoch():
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    batches = orders(rng=ours, epochs=2)
    assert list(chain(*batches)) == [*theirs.permutation(N), *theirs.permutation(N)]
    assert ours.bit_generator.state == theirs.bit_generator.state


def test_without_shuffling_rows_are_taken_as_they_lie():
    assert list(chain(*orders(shuffle=False, epochs=2))) == [*range(N), *range(N)]


def test_the_short_last_batch_is_kept_or_dropped():
    assert [len(b) for b in orders(batch_size=20, epochs=1)] == [20, 20, 10]
    assert [len(b) for b in orders(batch_size=20, epochs=1, drop_last=True)] == [20, 20]


def test_counts_may_be_numpys():
    assert_same_run(solve(epochs=np.int32(2), batch_size=np.uint64(8)), solve(epochs=2))


def test_a_batch_may_be_all_data():
    assert solve(batch_size=1000).nit == 3


def test_epoch_losses_weight_the_last_batch():
    losses = []

    def fun(x, idx):
        f, g = numbered(x, idx)
        losses.append(f)
        return f, g

    res = solve(fun, data=N, batch_size=20, epochs=1)
    assert res.epoch_losses[0] == pytest.approx(np.average(losses[:3], weights=[20, 20, 10]))


def test_counts():
    res = solve(epochs=4)
    assert (res.epochs, res.nit, res.state.t, res.nfev) == (4, 28, 28, 29)
    assert res.epoch_losses.shape == (4,)
    assert res.validation_losses.shape == (0,)


# -- averages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("average", ["uniform", "polynomial"])
def test_the_average_is_that_of_a_naive_computation(average, dtype):
    res, iterates = steps(average=average, x0=np.zeros(D, dtype))
    naive = np.zeros(D)
    for t, x in enumerate(iterates, 1):
        weight = 1 / t if average == "uniform" else 4 / (t + 3)
        naive = (1 - weight) * naive + weight * np.float64(x)
    if average == "uniform":
        np.testing.assert_allclose(naive, np.mean(np.float64(iterates), axis=0), rtol=1e-12)
    assert res.x.dtype == dtype
    np.testing.assert_allclose(res.state.average, naive, rtol=1e-12)
    np.testing.assert_array_equal(res.x, res.state.average.astype(dtype))


def test_without_an_average_x_is_the_last_iterate():
    res = solve()
    np.testing.assert_array_equal(res.x, res.state.x)


def test_an_average_does_not_change_the_iterates():
    np.testing.assert_array_equal(solve(average="uniform").state.x, solve().state.x)


def test_an_average_takes_no_memory_a_step():
    from adaptopt.solvers.averaging import Average

    x = np.ones(100_000)
    average = Average("polynomial", x)
    tracemalloc.start()
    average.update(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


def test_an_average_may_start_in_a_later_run():
    first = solve()
    res, iterates = steps(average="uniform", state=first.state, epochs=2)
    np.testing.assert_allclose(res.x, np.mean(iterates, axis=0), rtol=1e-12)


# -- validation ------------------------------------------------------------------------------------


def test_x_is_the_iterate_of_the_best_validation():
    values = iter([3.0, 1.0, 2.0])
    seen = []

    def validation(x):
        seen.append(x)
        return next(values)

    res = solve(validation=validation)
    np.testing.assert_array_equal(res.x, seen[1])
    assert res.validation_losses.tolist() == [3.0, 1.0, 2.0]
    assert res.fun == pytest.approx(squares(res.x, A, B)[0])


def test_the_average_is_what_is_validated():
    seen = []
    res = solve(average="uniform", validation=lambda x: seen.append(x) or -len(seen))
    np.testing.assert_array_equal(seen[-1], res.x)
    np.testing.assert_array_equal(seen[-1], solve(average="uniform").x)


@pytest.mark.parametrize("form", ["arrays", "numbers", "problem"])
def test_validation_on_data_is_their_mean_loss(form):
    if form == "arrays":
        res, expected = solve(validation=HELD_OUT), lambda x: squares(x, *HELD_OUT)[0]
    elif form == "numbers":
        rows = np.array([1, 5, 7])
        res = solve(numbered, data=N, validation=rows)
        expected = lambda x: numbered(x, rows)[0]  # noqa: E731
    else:
        res, expected = solve(Problem(), data=None, validation=Problem()), Problem().__call__
    value = expected(res.x)
    value = value[0] if isinstance(value, tuple) else value
    assert min(res.validation_losses) == pytest.approx(value, rel=1e-13)


def test_validation_on_data_is_counted():
    assert solve(validation=HELD_OUT).nfev == 21 + 3 + 1


def test_validation_sees_the_shape_of_x0_and_a_copy():
    def validation(x):
        shape = x.shape
        x[:] = np.nan
        return float(shape != (D, 1))

    res = solve(x0=np.zeros((D, 1)), validation=validation)
    assert res.validation_losses.tolist() == [0, 0, 0]
    assert np.isfinite(res.x).all()


# -- stopping --------------------------------------------------------------------------------------


def test_all_epochs_done_is_a_success_where_nothing_else_was_asked():
    res = solve()
    assert (res.status, res.success, res.message) == (1, True, "All epochs (epochs=3) are done.")


@pytest.mark.parametrize("asked", [{"tol": 0.0}, {"options": {"f_target": -1.0}}])
def test_all_epochs_done_is_no_success_where_more_was_asked(asked):
    res = solve(**asked)
    assert (res.status, res.success) == (1, False)


def test_tol_is_a_convergence():
    res = solve(tol=1e-3, epochs=1000)
    before, last = res.epoch_losses[-2:]
    assert (res.status, res.success) == (0, True)
    assert abs(before - last) <= 1e-3 * max(before, last)
    assert "tol = 0.001" in res.message


def test_a_loss_of_zero_converges():
    res = solve(lambda x, idx: (0.0, np.zeros(D)), data=N, tol=0.0)
    assert (res.status, res.epochs) == (0, 2)


def test_maxtime_ends_within_an_epoch():
    def slow(x, idx):
        time.sleep(0.01)
        return numbered(x, idx)

    res = solve(slow, data=N, batch_size=1, options={"maxtime": 0.1})
    assert (res.status, res.success, res.epochs) == (4, False, 0)
    assert 0 < res.nit < N
    assert "maxtime" in res.message


def test_no_time_at_all_is_no_step():
    res = solve(options={"maxtime": 0, "history": True}, callback=lambda xk: None)
    assert (res.status, res.nit, res.x.tolist()) == (4, 0, [0, 0, 0])


def test_f_target_of_the_mean_loss_is_a_success():
    res = solve(options={"f_target": 0.5}, epochs=100)
    assert (res.status, res.success) == (5, True)
    assert res.epoch_losses[-1] <= 0.5 < res.epoch_losses[-2]


def test_f_target_of_the_validation_is_a_success():
    values = iter([3.0, 2.0, 1.0])
    res = solve(validation=lambda x: next(values), options={"f_target": 2.0})
    assert (res.status, res.success, res.epochs) == (5, True, 2)


def test_patience_with_the_validation():
    values = iter([3.0, 1.0, 2.0, 1.5, 9.0])
    res = solve(validation=lambda x: next(values), options={"patience": 2}, epochs=99)
    assert (res.status, res.success, res.epochs) == (6, False, 4)
    assert "the best validation = 1 is of epoch 2" in res.message


def test_patience_with_the_mean_loss():
    res = solve(lambda x, idx: (1.0, np.zeros(D)), data=N, options={"patience": 2}, epochs=99)
    assert (res.status, res.epochs) == (6, 3)


# -- what is not finite ----------------------------------------------------------------------------


def cliff(bad_f, bad_g):
    """A line that falls, with something bad beyond x = 2."""

    def fun(x, idx):
        bad = x[0] > 2
        return (bad_f if bad else -x[0]), np.array([bad_g if bad else -1.0])

    return fun


BAD = [(np.nan, -1.0), (np.inf, -1.0), (-np.inf, -1.0), (0.0, np.nan), (0.0, np.inf)]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_finite_never_ends_in_success(bad):
    res = solve(
        cliff(*bad), [0.0], 10, method=ao.SGD(), batch_size=1,
        options={"lr": 0.3, "f_target": -99}, epochs=2,
    )  # fmt: skip
    assert (res.status, res.success, res.nit) == (3, False, 7)
    assert res.x[0] == pytest.approx(1.8)
    assert res.fun == pytest.approx(-1.8)
    assert "after step 7" in res.message


def test_a_bad_end_is_no_success():
    res = solve(
        cliff(np.nan, -1.0), [0.0], 7, method="sgd", batch_size=1, options={"lr": 0.3}, epochs=1
    )
    assert (res.status, res.success, res.nit, res.epochs) == (3, False, 7, 1)
    assert res.x[0] == pytest.approx(1.8)


def test_a_bad_start():
    res = solve(lambda x, idx: (np.nan, x), data=N)
    assert (res.status, res.nit, res.x.tolist()) == (3, 0, [0, 0, 0])


@pytest.mark.parametrize("n", [7, 10])
def test_nan_policy_raise(n):
    options = {"lr": 0.3, "nan_policy": "raise"}
    with pytest.raises(FloatingPointError, match=r"not finite|value nan"):
        solve(cliff(np.nan, -1.0), [0.0], n, method="sgd", batch_size=1, options=options, epochs=1)


def test_nan_policy_omit_leaves_bad_batches_out(monkeypatch):
    monkeypatch.setattr("adaptopt.solvers.epochs.FULL_ROWS", 1)

    def noisy(x, idx):
        f, g = numbered(x, idx)
        return (np.nan if 3 in idx else f), g

    res = solve(noisy, data=N, options={"nan_policy": "omit"}, batch_size=5)
    assert (res.status, res.success, res.nit, res.state.t) == (1, True, 30, 27)
    assert np.isfinite([*res.epoch_losses, res.fun]).all()


def test_nan_policy_omit_of_everything_is_no_success():
    res = solve(lambda x, idx: (np.nan, x), data=N, options={"nan_policy": "omit"})
    assert (res.status, res.success) == (3, False)
    assert np.isnan(res.epoch_losses).all()


def test_nan_policy_omit_of_every_step_is_no_success():
    def noisy(x, idx):
        f, g = numbered(x, idx)
        return (np.nan if 3 in idx else f), g

    res = solve(noisy, data=N, options={"nan_policy": "omit"}, batch_size=N)
    assert (res.status, res.success, res.nit, res.state.t) == (1, False, 3, 0)
    assert "All 3 steps were left out" in res.message
    res = solve(noisy, data=N, options={"nan_policy": "omit"}, batch_size=-(-N // 2))
    assert (res.success, res.nit) == (True, 6)
    assert "3 of 6 steps were left out" in res.message


def test_a_validation_that_is_not_finite_ends_the_run():
    values = iter([1.0, np.nan])
    res = solve(validation=lambda x: next(values))
    assert (res.status, res.success, res.epochs) == (3, False, 2)
    assert "validation" in res.message


# -- callbacks and options -------------------------------------------------------------------------


def test_a_callback_of_an_intermediate_result():
    seen = []

    def callback(*, intermediate_result):
        seen.append(intermediate_result)

    res = solve(callback=callback, validation=HELD_OUT)
    assert all(isinstance(r, OptimizeResult) for r in seen)
    assert [(r.epoch, r.nit, r.nfev) for r in seen] == [(1, 7, 8), (2, 14, 16), (3, 21, 24)]
    assert [r.fun for r in seen] == res.epoch_losses.tolist()
    assert [r.validation for r in seen] == res.validation_losses.tolist()


def test_a_callback_of_xk_sees_the_iterates_of_the_epochs():
    seen = []
    res = solve(callback=seen.append)
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[-1], res.x)


def test_callback_every_counts_epochs():
    seen = []
    solve(callback=seen.append, epochs=7, options={"callback_every": 3})
    assert len(seen) == 2


def test_stop_iteration_ends_the_run():
    def callback(xk):
        raise StopIteration

    res = solve(callback=callback)
    assert (res.status, res.success, res.epochs) == (99, False, 1)


def test_options_override_hyperparameters():
    assert_same_run(solve(options={"eps": 1e-3}), solve(method=ao.AdaGrad(eps=1e-3)))


@pytest.mark.parametrize("name", ["maxiter", "maxfev", "gtol", "fd_method", "epoch"])
def test_options_that_make_no_sense_here_are_a_warning(name):
    with pytest.warns(OptimizeWarning, match=f"Unknown solver options: {name} ") as caught:
        solve(options={name: 5})
    assert caught[0].filename == __file__


def test_history_keeps_steps():
    res = solve(options={"history": 5, "history_rates": True})
    assert res.history["t"].tolist() == [5, 10, 15, 20, 21]
    assert res.history["learning_rate_quantiles"].shape == (5, 5)
    np.testing.assert_array_equal(
        res.history["learning_rate_quantiles"][-1],
        np.quantile(res.learning_rates, res.history["quantiles"]),
    )


def test_disp_prints_a_summary(capsys):
    res = solve(options={"disp": True})
    assert res.message in capsys.readouterr().out


def test_progress_shows_a_bar_of_steps(capsys):
    solve(progress=True)
    assert "21/21" in capsys.readouterr().err


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype", "average"),
    in_turn(KERNELS, [np.float32, np.float64], [None, "uniform", "polynomial"]),
)
def test_a_run_in_two_parts_is_the_run_in_one(name, average, dtype, tmp_path, in_python):
    def go(epochs, **others):
        return ao.minimize_finite_sum(
            squares, np.zeros(D, dtype), (A, B), method=METHODS[name], batch_size=8, rng=1,
            epochs=epochs, average=average, validation=HELD_OUT, **others,
        )  # fmt: skip

    whole, first = go(5), go(2)
    first.state.save(tmp_path / "run")
    for state in (first.state, pickle.loads(pickle.dumps(first.state)), tmp_path / "run"):
        second = go(3, state=state)
        assert_same_run(second, whole)
        for key in ("epoch_losses", "validation_losses"):
            np.testing.assert_array_equal([*first[key], *second[key]], whole[key])


KINDS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [False, True])
def test_every_generator_goes_on(kind, given, tmp_path):
    whole = solve(rng=np.random.Generator(kind(7)), epochs=4)
    first = solve(rng=np.random.Generator(kind(7)), epochs=1)
    first.state.save(tmp_path / "run")
    rng = np.random.Generator(kind(99)) if given else None
    assert_same_run(solve(rng=rng, state=tmp_path / "run"), whole)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 5, 7, 8, 11, 21, 22])
def test_an_exception_arrives_as_itself_with_the_state_so_far(at, error, tmp_path):
    calls = []

    def fun(x, A, b):
        calls.append(1)
        if len(calls) == at:
            raise error("here")
        return squares(x, A, b)

    others = {"average": "polynomial"}
    with pytest.raises(error, match="here") as caught:
        solve(fun, **others)
    caught.value.state.save(tmp_path / "run")
    assert caught.value.state.t == at - 1
    left = 4 - caught.value.state.epoch
    assert_same_run(solve(state=tmp_path / "run", epochs=left, **others), solve(epochs=4, **others))


@pytest.mark.parametrize(
    ("where", "method"),
    [
        ("optimizer.group.Group.step_alone", ao.AdaGrad(0.5)),
        ("optimizer.steps.Steps._run", ao.AdaGradNorm(0.5)),  # its step needs more than the kernel
        ("solvers.averaging.Average.update", ao.AdaGrad(0.5)),
        ("solvers.epochs.EpochRun._settle", ao.AdaGrad(0.5)),
    ],
    ids=["step-alone", "step", "average", "settle"],
)
def test_an_interrupt_right_after_part_of_a_step_loses_nothing(where, method, monkeypatch):
    """As a Ctrl-C during a kernel, which Python raises when it returns."""
    others = {"average": "uniform", "method": method}
    whole = solve(**others)
    module, owner, name = where.rsplit(".", 2)
    owner = getattr(importlib.import_module(f"adaptopt.{module}"), owner)
    original, calls = getattr(owner, name), []

    def interrupted(self, *arguments):
        original(self, *arguments)
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        solve(**others)
    assert caught.value.state.t == 5
    assert_same_run(solve(state=caught.value.state, **others), whole)


def test_a_generator_that_fun_draws_from_too_goes_on_exactly():
    def noisy(rng, at=None):
        calls = []

        def fun(x, A, b):
            noise = rng.standard_normal(D)
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            f, g = squares(x, A, b)
            return f, g + noise

        return fun

    rng = np.random.default_rng(2)
    whole = solve(noisy(rng), rng=rng)
    rng = np.random.default_rng(2)
    with pytest.raises(KeyboardInterrupt) as caught:
        solve(noisy(rng, at=10), rng=rng)
    rest = solve(noisy(rng), rng=rng, state=caught.value.state, epochs=2)
    np.testing.assert_array_equal(rest.state.x, whole.state.x)


def test_an_exception_in_the_evaluation_of_the_start_leaves_the_generator_where_the_run_ended():
    def noisy(rng, at=None):
        calls = []

        def fun(x, A, b):
            calls.append(rng.random())
            if len(calls) == at:
                raise KeyboardInterrupt
            f, g = squares(x, A, b)
            return f + (len(calls) > 7), g

        return fun

    rng = np.random.default_rng(2)
    state = solve(noisy(rng), rng=rng, epochs=1).state
    rng = np.random.default_rng(2)
    with pytest.raises(KeyboardInterrupt) as caught:  # 7 steps, the end, the start
        solve(noisy(rng, at=9), rng=rng, epochs=1)
    assert caught.value.state.rng == state.rng


def test_an_exception_of_the_validation_leaves_its_epoch_open():
    values = iter([1.0, None, 2.0, 3.0])

    def validation(x):
        if (value := next(values)) is None:
            raise OSError("disk full")
        return value

    with pytest.raises(OSError, match="disk full") as caught:
        solve(validation=validation)
    state = caught.value.state
    assert (state.t, state.epoch, state.done) == (14, 1, N)
    rest = solve(validation=validation, state=state, epochs=2)
    np.testing.assert_array_equal(rest.state.x, solve().x)
    np.testing.assert_array_equal(rest.x, solve(epochs=1).x)


def test_an_exception_of_the_callback_carries_the_state():
    def callback(xk):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as caught:
        solve(callback=callback)
    assert_same_run(solve(state=caught.value.state, epochs=2), solve())


def test_the_note_names_the_function():
    def fun(x, idx):
        raise OSError

    with pytest.raises(OSError) as caught:  # noqa: PT011
        solve(fun, data=N)
    if hasattr(caught.value, "__notes__"):
        assert "minimize_finite_sum(..., state=...)" in caught.value.__notes__[0]


def test_maxtime_goes_on_within_the_epoch():
    first = solve(options={"maxtime": 0})
    assert_same_run(solve(state=first.state), solve())


@pytest.mark.parametrize("options", [{"patience": 2}, {"f_target": 1.5}])
def test_stopping_tests_go_on_across_a_state(options):
    values = [3.0, 2.0, 2.5, 2.7, 1.0]

    def go(values, **others):
        values = iter(values)
        return solve(validation=lambda x: next(values), options=options, **others)

    whole, first = go(values, epochs=5), go(values, epochs=3)
    second = go(values[3:], epochs=5, state=first.state)
    assert first.epochs + second.epochs == whole.epochs
    assert second.status == whole.status
    assert_same_run(second, whole)


def test_tol_goes_on_across_a_state():
    whole = solve(tol=1e-3, epochs=999)
    first = solve(tol=1e-3, epochs=whole.epochs - 1)
    second = solve(tol=1e-3, epochs=999, state=first.state)
    assert (second.epochs, second.status) == (1, 0)


def test_a_state_is_not_modified_by_going_on():
    state = solve(average="uniform", validation=HELD_OUT).state
    before = pickle.dumps(state)
    solve(average="uniform", validation=HELD_OUT, state=state)
    assert pickle.dumps(state) == before


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_a_state_under_other_bounds_forgets_what_was_best_the_average_and_the_start(
    form, in_python
):
    p = ao.problems.LeastSquares(form(A), B)
    keywords = {"validation": lambda x: p(x)[0], "average": "uniform"}
    first = solve(p, data=None, epochs=6, prox=ao.L1(0.1), **keywords)
    bounds = [(0.0, 0.1)] * D
    assert first.x.max() > 0.1
    res = solve(p, data=None, bounds=bounds, state=first.state, tol=10.0, **keywords)
    assert ((res.x >= 0) & (res.x <= 0.1)).all()
    assert res.fun == pytest.approx(p(res.x)[0])
    assert (res.epochs, res.state.average_count) == (2, 2 * -(-N // 8))
    assert ((res.state.start >= 0) & (res.state.start <= 0.1)).all()
    assert np.array_equal(res.state.best_x, res.x)


# -- one objective ---------------------------------------------------------------------------------


def nothing_but_penalty(x, idx):
    return 0.0, np.zeros(D)


PENALISED = {
    "prox": ({"prox": ao.L2(1.0)}, lambda x: x @ x / 2),
    "decay": ({"method": ao.SGD(0.1, weight_decay=1.0)}, lambda x: x @ x / 2),
    "both": ({"method": ao.SGD(0.1, weight_decay=1.0), "prox": ao.L1(0.5)},
             lambda x: x @ x / 2 + abs(x).sum() / 2),
    "dual averaging": ({"method": ao.AdaGradDA(0.1, l1=0.5, l2=1.0)},
                       lambda x: x @ x / 2 + abs(x).sum() / 2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("both", {"tol": 1e-3}),
        ("prox", {"options": {"f_target": 0.01}}),
        ("decay", {"options": {"f_target": 0.01}}),
    ],
)
def test_penalties_count_in_what_is_judged(name, asked):
    keywords, penalty = PENALISED[name]
    seen = []
    res = ao.minimize_finite_sum(
        nothing_but_penalty, np.full(D, 9.0), N, rng=0, epochs=500,
        callback=lambda intermediate_result: seen.append(intermediate_result.fun),
        **{"method": ao.SGD(0.1), **asked, **keywords},
    )  # fmt: skip
    assert res.success
    assert res.fun == pytest.approx(penalty(res.x), abs=1e-12)
    assert res.fun <= (0.01 if "options" in asked else 0.1)
    assert seen[-1] == pytest.approx(penalty(res.x), abs=1e-12)
    assert not res.epoch_losses.any()


@pytest.mark.parametrize("name", PENALISED)
def test_fun_has_the_penalty_and_jac_does_not(name):
    keywords, penalty = PENALISED[name]
    res = ao.minimize_finite_sum(numbered, np.ones(D), N, rng=0, epochs=2, **keywords)
    f, g = squares(res.x, A, B)
    assert res.fun == pytest.approx(f + penalty(res.x), rel=1e-12)
    np.testing.assert_allclose(res.jac, g, rtol=1e-12)


def test_decoupled_decay_is_in_no_objective():
    res = ao.minimize_finite_sum(numbered, np.ones(D), N, rng=0, method=ao.AdamW(weight_decay=1.0))
    assert res.fun == pytest.approx(squares(res.x, A, B)[0], rel=1e-12)


def test_a_target_is_met_by_the_point_that_is_returned():
    """Each epoch the mean loss is 0 over the steps, and the last step ends at 1 or below."""
    ends = iter([3.0, 2.0, 0.5])

    def fun(x, idx):
        if idx.size == N:
            return next(ends), np.zeros(D)
        return 0.0, np.zeros(D)

    res = solve(fun, data=N, options={"f_target": 1.0}, epochs=9)
    assert (res.status, res.epochs, res.fun) == (5, 3, 0.5)


# -- divergence ------------------------------------------------------------------------------------

DIVERGING = {"method": ao.SGD(1.5), "batch_size": 1, "epochs": 2, "options": {"lr": 1.5}}


@pytest.mark.parametrize("average", [None, "uniform"])
@pytest.mark.parametrize("fun", ["function", "dense", "csr"])
def test_a_run_that_ends_above_its_start_is_no_success(fun, average, in_python):
    if fun == "function":
        given = squares, (A, B)
    else:
        form = np.asarray if fun == "dense" else scipy.sparse.csr_array
        given = ao.problems.LeastSquares(form(A), B), None
    res = solve(given[0], data=given[1], average=average, **DIVERGING)
    start = squares(np.zeros(D), A, B)[0]
    assert res.fun > start
    assert (res.status, res.success) == (1, False)
    assert f"The objective ended at {res.fun:.6g}, above its start, {start:.6g}" in res.message


def test_the_start_is_that_of_the_first_part():
    first = solve(**DIVERGING)
    assert not first.success
    rest = solve(state=first.state, options={"lr": 1e-3}, method=ao.SGD(), epochs=1, batch_size=8)
    assert squares(np.zeros(D), A, B)[0] < rest.fun < first.fun
    assert not rest.success
    near = solve(epochs=30)
    worse = solve(state=near.state, epochs=1, x0=[9.0] * D)
    assert worse.success


def test_a_converged_run_above_its_start_is_no_success(in_python):
    p = ao.problems.LeastSquares(A, B)
    res = solve(p, data=None, bounds=[(-5, 50)] * D, tol=0.9, method="sgd", options={"lr": 300.0})
    assert (res.status, res.success) == (1, False)
    assert "Converged" in res.message
    assert "above its start" in res.message


def test_a_run_that_stays_is_a_success():
    assert solve(method="sgd", options={"lr": 1e-12}).success
    assert solve(x0=SOLUTION, method="sgd", options={"lr": 1e-300}).success


# -- rows left out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["numbers", "arrays"])
def test_the_final_mean_leaves_out_rows_and_not_parts(form):
    bad = np.array([3, 4, 2047, 2999])
    rows = np.arange(3000.0)[:, None] / 3000

    def fun(x, a):
        f = (a[:, 0] if form == "arrays" else rows[a, 0]) - x[0]
        sick = np.isin(np.rint(3000 * (f + x[0])).astype(int), bad)
        return float(np.where(sick, np.nan, f * f / 2).mean()), np.array([-f.mean()])

    res = ao.minimize_finite_sum(
        fun, np.zeros(1), rows if form == "arrays" else 3000, rng=0, epochs=1, batch_size=8,
        validation=rows[:10] if form == "arrays" else np.arange(10),
        options={"nan_policy": "omit"},
    )  # fmt: skip
    good = np.delete(rows[:, 0], bad) - res.x[0]
    assert res.omitted == 4
    assert res.fun == pytest.approx((good**2 / 2).mean(), rel=1e-12)
    assert res.jac[0] == pytest.approx(-good.mean(), rel=1e-12)
    held_out = np.delete(rows[:10, 0], [3, 4]) - res.x[0]
    assert res.validation_losses[0] == pytest.approx((held_out**2 / 2).mean(), rel=1e-12)


# -- states that are none --------------------------------------------------------------------------


def _set(**fields):
    def forge(state):
        for name, value in fields.items():
            setattr(state, name, value)

    return forge


def _twice(state):
    state.order = state.order.copy()
    state.order[0] = state.order[1]


FORGED = {
    "an order with a row twice": _twice,
    "an order beyond the rows": lambda s: setattr(s, "order", s.order + 1),
    "a negative order": lambda s: setattr(s, "order", s.order - 1),
    "a short order": lambda s: setattr(s, "order", s.order[1:]),
    "an order of floats": lambda s: setattr(s, "order", s.order * 1.0),
    "a list for an order": lambda s: setattr(s, "order", s.order.tolist()),
    **{f"{name} {value!r}": _set(**{name: value})
       for name in ("done", "epoch", "loss_rows", "average_count", "best_epoch")
       for value in (-1, 2.0, True, "3", None, 2**70)},
    "too much done": _set(done=N + 1),
    "a best epoch to come": _set(best_epoch=1),
    "too many losses": _set(loss_rows=N + 1),
    **{f"{name} None": _set(**{name: None}) for name in ("loss_sum", "previous_loss", "best_fun")},
    "validated 2": _set(validated=2),
    "another average": _set(average_kind="mean"),
    "no kind of average": _set(average_kind=None),
    "an average of another shape": _set(average=np.zeros(D + 1)),
    "an average of float32": _set(average=np.zeros(D, np.float32)),
    "a best point of another shape": _set(best_x=np.zeros((D, 1))),
    "a start of another shape": _set(start=np.zeros(D + 1)),
    "no generator": _set(rng={}),
    "a list for a generator": _set(rng=[1]),
    "a generator of another kind": lambda s: s.rng.update(bit_generator="SFC64"),
    "a negative position": lambda s: s.rng["state"].update(state=-1),
    "a position too large": lambda s: s.rng["state"].update(state=2**200),
    "no position": lambda s: s.rng.pop("state"),
    "a position in words": lambda s: s.rng["state"].update(state="here"),
}  # fmt: skip


@pytest.fixture(scope="module")
def midway():
    return solve(average="uniform", options={"maxtime": 0}).state


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("stored", [False, True])
def test_a_forged_state_is_refused_before_anything_is_modified(name, stored, midway, tmp_path):
    state, rng = pickle.loads(pickle.dumps(midway)), np.random.default_rng(7)
    FORGED[name](state)
    if stored:
        state.save(tmp_path / "run")
        state = tmp_path / "run"
    before = rng.bit_generator.state
    with pytest.raises((TypeError, ValueError), match=r"state|run"):
        solve(never, state=state, rng=rng, average="uniform")
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("kind", "place"), [(np.random.MT19937, ("state", "pos")), (np.random.Philox, ("buffer_pos",))]
)
@pytest.mark.parametrize("position", [-1, 625, 10**6])
def test_a_place_beyond_the_numbers_of_a_generator_is_refused(kind, place, position):
    state = solve(rng=np.random.Generator(kind(0))).state
    *inside, last = place
    part = state.rng[inside[0]] if inside else state.rng
    part[last] = position
    with fails(ValueError, "state.rng is no position of a"):
        solve(never, state=state)


@pytest.mark.parametrize("change", [{"more": 1}, {"epoch": None}, {"rng": [1, 2]}])
def test_a_file_with_other_fields_is_no_state(change, tmp_path):
    from adaptopt.optimizer import checkpoint

    solve().state.save(tmp_path / "run")
    header, arrays = checkpoint.read(tmp_path / "run", "minimize_finite_sum state")
    header["run"] |= change
    if change.get("epoch", 1) is None:
        del header["run"]["epoch"]
    checkpoint.write(tmp_path / "run", "minimize_finite_sum state", header, arrays)
    with pytest.raises((TypeError, ValueError), match="run"):
        solve(never, state=tmp_path / "run")


# -- errors ----------------------------------------------------------------------------------------


def never(*_):
    raise AssertionError("fun was called")


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, ["batch_size is 0", ">= 1"]),
        ({"batch_size": 2.5}, TypeError, ["batch_size is 2.5", "whole number"]),
        ({"epochs": 0}, ValueError, ["epochs is 0", ">= 1"]),
        ({"epochs": True}, TypeError, ["epochs is True", "whole number"]),
        ({"average": "mean"}, ValueError, ["average is 'mean'", "uniform or polynomial"]),
        ({"parallel": "threads"}, ValueError, ["parallel is 'threads'", "deterministic"]),
        ({"parallel": "hogwild"}, ValueError, ["parallel is 'hogwild'", "a problem on a CSR"]),
        ({"data": None}, TypeError, ["data is None and fun is", "expected data, or a problem"]),
        ({"data": (A, B[1:])}, ValueError, ["data has arrays of [50, 49] rows"]),
        ({"data": (A, 3.0)}, TypeError, ["data[1] is 3.0", "at least one dimension"]),
        ({"data": ()}, ValueError, ["data is ()", "at least one array"]),
        ({"data": (A[:0], B[:0])}, ValueError, ["data has 0 rows"]),
        ({"data": 0}, ValueError, ["data is 0", "at least 1 row"]),
        ({"data": True}, TypeError, ["data is True", "array"]),
        ({"data": [[1, 2], [3]]}, ValueError, ["data is no array"]),
        ({"fun": 3, "data": N}, TypeError, ["fun is 3", "callable"]),
        ({"fun": Problem(), "data": None, "args": (1,)}, ValueError, ["args is (1,)", "()"]),
        ({"fun": Problem(), "data": None, "x0": [0.0]}, ValueError, ["x0 has 1 elements", "3"]),
        ({"rng": -1}, ValueError, ["rng is -1", ">= 0"]),
        ({"rng": 0.5}, TypeError, ["rng is 0.5", "Generator"]),
        ({"rng": True}, TypeError, ["rng is True", "Generator"]),
        ({"batch_size": 51, "drop_last": True}, ValueError, ["batch_size is 51", "at most 50"]),
        ({"validation": (A,)}, ValueError, ["validation has 1 arrays", "2 like data"]),
        ({"validation": (A, B[1:])}, ValueError, ["validation has arrays of [50, 49]"]),
        ({"data": N, "validation": 7}, TypeError, ["validation is 7", "row numbers"]),
        ({"fun": Problem(), "data": None, "validation": A}, TypeError, ["validation", "problem"]),
        ({"x0": [np.nan] * 3}, ValueError, ["x0[0] is nan"]),
        ({"bounds": [(0, 1)]}, ValueError, ["bounds has 1 entries", "3"]),
        ({"bounds": [(0, 1)] * 3, "prox": ao.Simplex()}, ValueError, ["bounds are given with Sim"]),
        ({"method": "adagrd"}, ValueError, ["method is 'adagrd'", "'adagrad'"]),
        ({"callback": 3}, TypeError, ["callback is 3"]),
        ({"tol": -1.0}, ValueError, ["tol", "-1.0", ">= 0"]),
        ({"options": {"patience": 0}}, ValueError, ["patience", "0", ">= 1"]),
        ({"state": 3}, TypeError, ["state is 3"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_fun_is_called(changed, error, words):
    with fails(error, *words):
        solve(**{"fun": never, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": (A[1:], B[1:])}, ["data has 49 rows", "50 like state"]),
        ({"method": "rmsprop"}, ["method", "AdaGrad", "RMSProp"]),
        ({"x0": np.zeros(2)}, ["shape"]),
        ({"rng": np.random.Generator(np.random.SFC64(0))}, ["SFC64", "PCG64 like that of state"]),
    ],
)
def test_a_state_that_does_not_fit(changed, words):
    state = solve().state
    with fails(ValueError, *words):
        solve(**{"fun": never, "state": state, **changed})


def test_the_state_of_minimize_does_not_fit(tmp_path):
    state = ao.minimize(lambda x: (x @ x, 2 * x), np.ones(3), jac=True).state
    with fails(TypeError, "state is", "expected the state of an earlier result"):
        solve(never, state=state)
    state.save(tmp_path / "run")
    with fails(ValueError, "holds a minimize state", "expected a minimize_finite_sum state"):
        solve(never, state=tmp_path / "run")


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (3.0, TypeError, ["fun returned 3.0", "expected a pair (value, gradient)"]),
        ((np.ones(2), np.ones(3)), ValueError, ["fun returned", "expected a scalar"]),
        ((1.0, np.ones(2)), ValueError, ["the gradient has shape (2,)", "(3,)"]),
    ],
)
def test_what_fun_returns_is_checked(returned, error, words):
    with fails(error, *words):
        solve(lambda x, idx: returned, data=N)


def test_what_the_validation_returns_is_checked():
    with fails(TypeError, "validation returned 'good'", "real number"):
        solve(validation=lambda x: "good")


def test_a_penalty_and_bounds_are_applied_and_counted():
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((200, 4)), np.array([2.0, 0.02, -1.0, 3.0])
    y = X @ w

    def loss(x, X, y):
        r = X @ x - y
        return float(r @ r) / (2 * len(y)), X.T @ r / len(y)

    res = ao.minimize_finite_sum(
        loss, np.zeros(4), (X, y), method=ao.AdaGrad(1.0), prox=ao.L1(0.1),
        bounds=[(None, 2.5)] * 4, epochs=200, batch_size=50, rng=0,
    )  # fmt: skip
    assert res.x[1] == 0
    assert res.x.max() == 2.5
    assert res.fun == pytest.approx(loss(res.x, X, y)[0] + 0.1 * np.abs(res.x).sum())


# -- looks at every so many'th batch ---------------------------------------------------------------


def test_what_is_looked_at_less_often_takes_the_same_steps():
    often, seldom = solve(average="uniform"), solve(average="uniform", options={"check_every": 5})
    assert_same_run(seldom, often)
    np.testing.assert_array_equal(seldom.epoch_losses, often.epoch_losses)


def test_the_history_comes_with_the_next_look():
    res = solve(options={"check_every": 4, "history": 3})
    assert res.history["t"].tolist() == [5, 9, 13, 17, 21]


@pytest.mark.parametrize("sick", ["value", "gradient"])
@pytest.mark.parametrize(("every", "nit"), [(3, 6), (100, 7)])
def test_what_is_not_finite_between_looks_ends_the_run_at_the_next(every, nit, sick):
    calls = []

    def fun(x, A, b):
        calls.append(0)
        f, g = squares(np.nan_to_num(x), A, b)
        if len(calls) == 6:
            return (np.nan, g) if sick == "value" else (f, np.array([np.inf, 0.0, 0.0]))
        return f, g

    options = {"bounds": [(-5, 5)] * 3, "options": {"check_every": every}}
    res = solve(fun, **options)
    assert (res.status, res.success, res.nit) == (3, False, nit)
    assert "not finite over a batch after step 5." in res.message
    assert np.isfinite(res.x).all()
    again = solve(fun, state=res.state, **options)
    assert (again.status, again.nit) == (3, 0)


def test_compiled_epochs_look_at_every_batch():
    with fails(ValueError, "options['check_every'] is 5 with a fun whose epochs are compiled"):
        solve(ao.problems.LeastSquares(A, B), data=None, options={"check_every": 5})
    with fails(ValueError, "options['check_every'] is 5 with nan_policy 'omit', expected 1"):
        solve(options={"check_every": 5, "nan_policy": "omit"})


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "others", "options"),
    [
        (np.asarray, {}, {}),  # dense rows in compiled calls
        (np.asarray, {}, {"history": True}),  # the loop in Python
        (np.asarray, {"parallel": "deterministic", "batch_size": 256}, {}),
        (scipy.sparse.csr_array, {}, {}),  # at the cost of the nonzeros
        (scipy.sparse.csr_array, {"method": ao.Momentum(1e-3, momentum=0.0)}, {"history": True}),
        (scipy.sparse.csr_array, {"batch_size": 1}, {}),
        (scipy.sparse.csr_array, {"method": ao.SGD(1e-3, weight_decay=1e-15)}, {}),  # dense steps
        (scipy.sparse.csr_array, {"parallel": "deterministic", "batch_size": 256}, {}),
        (scipy.sparse.csr_array, {"parallel": "hogwild"}, {}),
    ],
)
def test_batches_weigh_rows_by_the_weights_of_all(form, others, options, in_python):
    """All margins are below 1, so that the slopes of the hinge do not depend on the point."""
    n, rng = 1024, np.random.default_rng(0)
    rows, y = rng.standard_normal((n, D)), np.where(rng.random(n) < 0.5, -1.0, 1.0)
    weights = rng.pareto(1, n)
    p = ao.problems.Hinge(form(rows), y, sample_weight=weights)
    others = {"batch_size": 8, "method": ao.SGD(1e-3), **others}
    res = ao.minimize_finite_sum(p, np.zeros(D), None, epochs=1, rng=0, options=options, **others)
    downhill = np.average(y[:, None] * rows, axis=0, weights=weights)
    np.testing.assert_allclose(res.x, n // others["batch_size"] * 1e-3 * downhill, rtol=1e-9)
    f, g = p(res.x)
    assert res.fun == pytest.approx(f, rel=1e-12)
    np.testing.assert_allclose(res.jac, g, rtol=1e-12)
    losses = weights / weights.mean() * np.maximum(0, 1 - y * (rows @ (res.x / 2)))
    assert res.epoch_losses[0] == pytest.approx(losses.mean(), rel=0.05)


def test_a_validation_weighs_rows_by_their_weights():
    p = ao.problems.LeastSquares(A, B)
    q = ao.problems.LeastSquares(A, B, sample_weight=np.arange(N) % 3)
    res = solve(p, data=None, validation=q)
    assert res.validation_losses.min() == pytest.approx(q.value(res.x), rel=1e-12)
