"""minimize_finite_sum over blocks: its rounds against local AdaGrad in NumPy, and its reports."""

import block_files
import numpy as np
import pytest
from scipy.optimize import OptimizeWarning

import adaptopt as ao

K = 3
X0 = np.zeros(3)


def parts(sizes=(20, 20, 20), dtype=np.float64, **options):
    rng = np.random.default_rng(0)
    blocks = []
    for n in sizes:
        A = rng.standard_normal((n, 3)).astype(dtype)
        b = (A @ [1.0, -2.0, 0.0] + 0.1 * rng.standard_normal(n)).astype(dtype)
        blocks.append(ao.problems.LeastSquares(A, b, **options))
    return blocks


@pytest.fixture
def blocks():
    return parts()


@pytest.fixture
def total(blocks):
    return ao.distributed.Sum(blocks)


def run(p, x0=X0, **options):
    given = {"method": ao.AdaGrad(0.5), "rng": 0, "batch_size": 5, "epochs": 4, **options}
    return ao.minimize_finite_sum(p, x0, None, **given)


def batches(block):
    return [block.batch, [np.arange(i, i + 5) for i in range(0, len(block), 5)]]


def test_rounds_of_adagrad_are_the_mean_of_points_and_sums_of_squares(blocks, total):
    x, G = np.zeros(3), np.zeros(3)
    for _ in range(4):
        ends = []
        for block in blocks:
            point, squares = x.copy(), G.copy()
            batch, rows = batches(block)
            for idx in rows:
                g = batch(point, idx)[1]
                squares += g * g
                point -= 0.5 * np.sqrt(K) * g / (np.sqrt(squares) + 1e-8)
            ends.append((point, squares))
        x, G = (np.mean(values, axis=0) for values in zip(*ends, strict=True))
    res = run(total, shuffle=False)
    np.testing.assert_allclose(res.x, x, rtol=1e-10)
    np.testing.assert_allclose(res.state.slots["G"], G, rtol=1e-10)


def test_rounds_of_dual_averaging_compute_the_point_from_mean_sums(blocks, total, in_python):
    lr, l1 = 0.5 * np.sqrt(K), 0.05
    x, z, G, t = np.zeros(3), np.zeros(3), np.zeros(3), 0

    def point(z, G, t):
        return -np.sign(z) * np.maximum(lr * (abs(z) - t * l1), 0) / (np.sqrt(G) + 1e-8)

    for _ in range(4):
        ends = []
        for block in blocks:
            p, sums, squares = x.copy(), z.copy(), G.copy()
            batch, rows = batches(block)
            for k, idx in enumerate(rows, 1):
                g = batch(p, idx)[1]
                sums, squares = sums + g, squares + g * g
                p = point(sums, squares, t + k)
            ends.append((sums, squares))
        z, G = (np.mean(values, axis=0) for values in zip(*ends, strict=True))
        t += 4
        x = point(z, G, t)
    res = run(total, method=ao.AdaGradDA(0.5, l1=l1), shuffle=False)
    np.testing.assert_allclose(res.x, x, rtol=1e-10)
    assert res.state.t == t


@pytest.mark.parametrize("method", [ao.SGD(0.05), ao.AdaGradNorm(0.5), "adagrad"], ids=str)
def test_methods_come_near_the_minimum(total, method, in_python):
    res = run(total, method=method, epochs=40)
    assert res.success
    assert res.fun < 0.02


def test_one_block_is_a_serial_run(blocks):
    (res, serial) = (run(p, shuffle=False) for p in (ao.distributed.Sum(blocks[:1]), blocks[0]))
    np.testing.assert_array_equal(res.x, serial.x)
    assert res.nit == serial.nit


def test_schedules_count_the_steps_of_a_block(total):
    res = run(total, method=ao.AdaGrad(ao.schedules.inverse_time(0.5, 0.01)))
    assert res.fun < run(total, epochs=1).fun


def test_float32_blocks_keep_a_float32_point(in_python):
    res = run(ao.distributed.Sum(parts(dtype=np.float32)), np.zeros(3, np.float32))
    assert res.x.dtype == res.jac.dtype == np.float32


def test_blocks_of_unequal_size_count_by_their_rows():
    blocks = parts((10, 40))
    res = run(ao.distributed.Sum(blocks), epochs=200, method=ao.AdaGrad(0.1))
    A, b = (np.concatenate([getattr(p, name) for p in blocks]) for name in ("A", "targets"))
    np.testing.assert_allclose(res.x, np.linalg.lstsq(A, b)[0], atol=0.02)


def means(*given, **options):
    """Return blocks of which each wants another number, from (rows, number)."""
    return [
        ao.problems.LeastSquares(np.ones((n, 1)), np.full(n, value), **options)
        for n, value in given
    ]


@pytest.mark.parametrize(
    ("blocks", "options", "expected"),
    [
        (((33, 0.0), (32, 10.0)), {}, 320 / 65),
        (((33, 0.0), (32, 10.0)), {"method": ao.AdaGradNorm(1.0)}, 320 / 65),
        (((33, 0.0), (32, 10.0)), {"method": ao.AdaGradDA(5.0, l1=1.0)}, 320 / 65 - 1),
        (((33, 0.0), (32, 10.0)), {"method": ao.SGD(lambda t: 0.2 / (1 + t / 20))}, 320 / 65),
        (((32, 10.0), (33, 0.0)), {"method": "adagrad"}, 320 / 65),
        (((32, 0.0), (65, 10.0)), {"drop_last": True}, 650 / 97),
        (((1, 0.0), (64, 10.0)), {}, 640 / 65),
        (((65, 0.0), (64, 10.0), (64, 10.0)), {}, 1280 / 193),
        (((100, 0.0), (150, 10.0)), {"batch_size": 1000}, 6.0),
        (((100, 0.0), (150, 10.0)), {"batch_size": 100}, 6.0),
        (((5, 0.0), (995, 10.0)), {}, 9.95),
    ],
)
def test_blocks_count_by_their_rows_however_many_steps_they_take(blocks, options, expected):
    p = ao.distributed.Sum(means(*blocks), keep=True)
    given = {"method": ao.AdaGrad(1.0), "epochs": 200, "batch_size": 32, **options}
    assert run(p, np.zeros(1), **given).x[0] == pytest.approx(expected, abs=0.06)


def test_steps_and_weights_are_evened_out_together():
    threes, ones = means((33, 0.0), sample_weight=np.full(33, 3.0)), means((32, 10.0))
    p = ao.distributed.Sum([*threes, *ones], weights=[99.0, 32.0], keep=True)
    res = run(p, np.zeros(1), method=ao.AdaGrad(1.0), epochs=200, batch_size=32)
    assert res.x[0] == pytest.approx(320 / 131, abs=0.06)


def test_a_small_block_of_another_kind_does_not_shift_the_answer():
    rng = np.random.default_rng(0)
    rows = []
    for n, shift in (*((1000, 0.0),) * 7, (40, 4.0)):
        A = rng.standard_normal((n, 2))
        rows.append((A, np.where(A @ [1.0, -2.0] + shift + rng.logistic(size=n) > 0, 1.0, -1.0)))
    A, y = (np.concatenate(part) for part in zip(*rows, strict=True))
    blocks = [ao.problems.Logistic(A, y, intercept=True) for A, y in rows]
    whole = ao.problems.Logistic(A, y, intercept=True)
    res = run(ao.distributed.Sum(blocks), method="adagrad", epochs=100, batch_size=512)
    assert whole.value(res.x) < ao.minimize(whole, X0).fun + 1e-5


def test_problems_of_the_user_count_by_their_rows_too():
    blocks = [FailingBlock(block, after=np.inf) for block in means((33, 0.0), (32, 10.0))]
    given = {"method": ao.AdaGrad(1.0), "batch_size": 32}
    res = run(ao.distributed.Sum(blocks), np.zeros(1), **given)
    expected = run(ao.distributed.Sum(means((33, 0.0), (32, 10.0))), np.zeros(1), **given)
    np.testing.assert_allclose(res.x, expected.x, rtol=1e-12)


def test_the_mean_of_the_steps_is_counted_without_loss():
    p = ao.distributed.Sum(means((33, 0.0), (32, 10.0)))
    assert run(p, np.zeros(1), batch_size=32, epochs=3).state.t == 4  # 3 rounds of 2 and of 1


def test_the_loss_of_a_round_is_a_mean_over_rows():
    p = ao.distributed.Sum(means((33, 0.0), (32, 10.0)))
    res = run(p, np.zeros(1), method=ao.SGD(1e-9), batch_size=32, epochs=1)
    assert res.epoch_losses[0] == pytest.approx(p.value(np.zeros(1)), rel=1e-6)


def test_a_block_that_drop_last_would_leave_without_a_step_is_named():
    p = ao.distributed.Sum(means((33, 0.0), (31, 10.0)))
    with pytest.raises(ValueError, match="expected at most 31, the rows of block 1"):
        run(p, np.zeros(1), batch_size=32, drop_last=True)


def test_weights_of_blocks_scale_their_steps():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((60, 2))
    b, w = A @ [1.0, 1.0] + (np.arange(60) >= 30), np.where(np.arange(60) < 30, 1.0, 9.0)
    cut = [slice(0, 30), slice(30, 60)]
    blocks = [ao.problems.LeastSquares(A[c], b[c], sample_weight=w[c]) for c in cut]
    p = ao.distributed.Sum(blocks, weights=[30.0, 270.0])
    res = run(p, np.zeros(2), epochs=300, method=ao.AdaGrad(0.1))
    root = np.sqrt(w)
    expected = np.linalg.lstsq(A * root[:, None], b * root)[0]
    np.testing.assert_allclose(res.x, expected, atol=0.03)


def test_a_mean_stays_within_the_bounds(total, in_python):
    res = run(total, np.full(3, 0.1), bounds=[(0.1, 0.1)] * 3, epochs=1)
    np.testing.assert_array_equal(res.x, 0.1)


def test_results_tell_of_each_round(total):
    res = run(total, progress=False)
    assert res.rounds.keys() == {"loss", "seconds", "bytes", "redone"}
    np.testing.assert_array_equal(res.rounds["loss"], res.epoch_losses)
    assert res.path == "rounds over 3 blocks, compiled dense epochs"
    assert (res.nit, res.epochs) == (48, 4)
    f, g = total(res.x)
    assert res.fun == f
    np.testing.assert_array_equal(res.jac, g)


@pytest.mark.parametrize(
    "method", [ao.AdaGrad(0.5), ao.AdaGradDA(0.5, l1=0.01), "adagrad"], ids=str
)
def test_a_run_goes_on_from_the_file_of_a_round(total, tmp_path, method):
    path = tmp_path / "round.npz"

    def stop(*, intermediate_result):
        if intermediate_result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        run(total, method=method, callback=stop, options={"checkpoint": path})
    whole = run(total, method=method)
    for state in (path, raised.value.state):
        res = run(total, method=method, state=state, epochs=2, rng=None)
        np.testing.assert_array_equal(res.x, whole.x)


def test_a_round_that_fails_leaves_the_last_one(blocks):
    failing = FailingBlock(blocks[2], after=9)
    with pytest.raises(ao.distributed.BlockError, match="block 2") as raised:
        run(ao.distributed.Sum([*blocks[:2], failing]))
    good = run(ao.distributed.Sum(blocks), epochs=2)
    np.testing.assert_array_equal(raised.value.state.x, good.x)


class FailingBlock:
    """A problem that fails after so many batches."""

    def __init__(self, problem, after):
        self._problem, self._left = problem, after

    def __len__(self):
        return len(self._problem)

    def batch(self, x, idx):
        self._left -= 1
        if self._left < 0:
            raise OSError("the disk is gone")
        return self._problem.batch(x, idx)


def test_a_state_fits_the_same_number_of_blocks_only(blocks, total):
    state = run(total).state
    with pytest.raises(ValueError, match="fun has 2 blocks, expected 3 like state"):
        run(ao.distributed.Sum(blocks[:2]), state=state)
    with pytest.raises(ValueError, match="over 3 blocks"):
        run(blocks[0], state=state)
    with pytest.raises(ValueError, match="expected a run that is not in blocks"):
        run(total, state=run(blocks[0]).state)


def test_a_state_goes_on_with_its_weights_only(blocks):
    state = run(ao.distributed.Sum(blocks, weights=[1.0, 2.0, 3.0])).state
    assert run(ao.distributed.Sum(blocks, weights=[2.0, 4.0, 6.0]), state=state, epochs=1).nit == 12
    for weights in (None, [1.0, 2.0, 4.0]):
        with pytest.raises(
            ValueError, match=r"weights of fun are .*, expected array\(\[1., 2., 3."
        ):
            run(ao.distributed.Sum(blocks, weights=weights), state=state)


def test_weights_are_kept_in_the_file_of_a_round(blocks, tmp_path):
    path = tmp_path / "round.npz"
    p = ao.distributed.Sum(blocks, weights=[1.0, 2.0, 3.0])
    run(p, options={"checkpoint": path}, epochs=2)
    np.testing.assert_array_equal(run(p, state=path, epochs=2, rng=None).x, run(p).x)


def test_a_generator_is_advanced_by_a_number_a_round(total):
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    first = run(total, rng=rng)
    other.integers(2**63, size=4)
    assert rng.bit_generator.state == other.bit_generator.state
    assert (run(total, rng=rng).x != first.x).any()


def test_a_generator_goes_on_from_where_a_callback_left_it(total):
    rng, drawn, states = np.random.default_rng(5), [], []

    def callback(*, intermediate_result):
        drawn.append(rng.integers(2**63))
        states.append(intermediate_result.state)

    res = run(total, rng=rng, callback=callback)
    assert (drawn == np.random.default_rng(5).integers(2**63, size=8)[1::2]).all()
    drawn.clear()
    again = run(total, rng=rng, callback=callback, state=states[1], epochs=2)
    np.testing.assert_array_equal(again.x, res.x)


def test_validation_chooses_among_rounds(blocks, total):
    at = []

    def validation(x):
        at.append(x)
        return float(len(at) != 2)

    res = run(total, validation=validation)
    np.testing.assert_array_equal(res.x, at[1])
    assert run(total, validation=blocks[0]).validation_losses.size == 4
    assert run(total, validation=total).validation_losses.size == 4


def test_rounds_end_by_tests_and_targets(total):
    assert run(total, epochs=500, tol=0.05).status == 0
    assert run(total, epochs=500, options={"f_target": 0.1}).status == 5


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_block(blocks):
    x0 = np.full(3, 1e200)
    res = run(ao.distributed.Sum(blocks), x0)
    assert res.status == 3
    assert "block 0" in res.message
    with pytest.raises(FloatingPointError, match="block 0"):
        run(ao.distributed.Sum(blocks), x0, options={"nan_policy": "raise"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": ao.Adam(0.1)}, "expected AdaGrad, AdaGradNorm, AdaGradDA or SGD"),
        ({"method": ao.FTRL(0.1)}, "expected AdaGrad, AdaGradNorm, AdaGradDA or SGD"),
        ({"average": "uniform"}, "average is 'uniform'"),
        ({"parallel": "hogwild"}, "parallel is 'hogwild'"),
        ({"args": (1,)}, "args is"),
        ({"options": {"history": True}}, "res.rounds"),
        ({"options": {"nan_policy": "omit"}}, "nan_policy"),
        ({"options": {"certificate": True}}, "certificate"),
        ({"options": {"check_every": 5}}, "check_every"),
        ({"lazy": "never"}, "lazy is 'never'"),
        ({"lazy": "touched"}, "lazy is 'touched' with fun in blocks, expected 'exact'"),
        ({"options": {"stream": True}}, r"options\['stream'\] is True with fun in blocks"),
        ({"tracker": ao.regret.Tracker()}, "tracker is .* with fun in blocks, expected None"),
    ],
)
def test_what_rounds_do_not_take_is_an_error_before_a_block_is_loaded(given, message):
    total = ao.distributed.Sum([lambda: pytest.fail("loaded")])
    with pytest.raises(ValueError, match=message):
        run(total, **given)


def test_averaged_iterates_under_l1_warn(total, in_python):
    with pytest.warns(OptimizeWarning, match="AdaGradDA"):
        run(total, prox=ao.L1(0.1), epochs=1)


def test_serial_runs_save_and_show_their_state_too(tmp_path):
    p, path, states = block_files.whole(), tmp_path / "epoch.npz", []

    def callback(*, intermediate_result):
        states.append(intermediate_result.state)

    x0 = np.zeros(block_files.FEATURES)
    res = run(p, x0, callback=callback, options={"checkpoint": str(path)})
    np.testing.assert_array_equal(states[-1].x, res.x)
    for state in (states[1], states[1]):
        np.testing.assert_array_equal(run(p, x0, state=state, epochs=2).x, res.x)
    assert run(p, x0, state=path, epochs=1).nit == 60


def test_a_state_is_read_in_the_callback_or_not_at_all():
    told = []
    callback = lambda intermediate_result: told.append(intermediate_result)  # noqa: E731
    ao.minimize(block_files.whole(), np.zeros(block_files.FEATURES), callback=callback)
    with pytest.raises(AttributeError, match="read it in the callback"):
        told[0].state  # noqa: B018


def unlike(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((300, 5))
    return ao.problems.LeastSquares(A, scale * (A @ (5 * rng.standard_normal(5))))


def test_patience_waits_for_the_objective_over_all_rows():
    p = ao.distributed.Sum([unlike(k) for k in range(4)])
    res = ao.minimize_finite_sum(
        *(p, np.zeros(5), None), method=ao.AdaGrad(1.0), rng=0, epochs=60, options={"patience": 3}
    )
    assert min(res.epoch_losses) == res.epoch_losses[0]  # along the blocks' own ways they rise
    assert res.fun - ao.minimize(p, np.zeros(5)).fun < 0.03


def test_a_block_of_another_scale_does_not_set_the_rate_of_all():
    p = ao.distributed.Sum([unlike(0, 1e-6), *[unlike(1)] * 3])
    found = ao.minimize_finite_sum(p, np.zeros(5), None, rng=0).fun
    best = ao.minimize(p, np.zeros(5)).fun
    assert found - best < 1e-2 * (p.value(np.zeros(5)) - best)
