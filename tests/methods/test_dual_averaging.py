"""Dual averaging, FTRL and AdaGrad by the norm."""

import numba
import numpy as np
import pytest

import adaptopt as ao


def gradients(steps, n, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, n))


def soft(v, threshold):
    return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)


def test_dual_averaging_minimises_the_mean_linear_loss_penalty_and_distance():
    """The closed form against the sums (Duchi et al. 2011, eq. 3)."""
    gs, lr, eps, l1, l2 = gradients(20, 5), 0.3, 1e-2, 0.2, 0.5
    x = np.zeros(5)
    opt = ao.Optimizer(x, ao.AdaGradDA(lr, eps, l1, l2))
    for t, g in enumerate(gs, start=1):
        opt.step(g)
        z, H = gs[:t].sum(axis=0), np.sqrt((gs[:t] ** 2).sum(axis=0)) + eps
        expected = -lr * soft(z, t * l1) / (H + lr * t * l2)
        np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-15)


def test_l1_dual_averaging_gives_exact_zeros_where_the_mean_gradient_is_small():
    rng = np.random.default_rng(0)
    x = np.ones(100, np.float32)
    means = np.repeat([0.02, 0.5], 50).astype(np.float32)
    opt = ao.Optimizer(x, ao.AdaGradDA(0.1, l1=0.2))
    for _ in range(400):
        opt.step(means + 0.5 * rng.standard_normal(100).astype(np.float32))
    assert (x[:50] == 0).all()
    assert (x[50:] != 0).all()


def test_mirror_descent_with_l1_keeps_noise_that_dual_averaging_does_not():
    rng = np.random.default_rng(0)
    a, b = np.zeros(200), np.zeros(200)
    averaging = ao.Optimizer(a, ao.AdaGradDA(0.1, l1=0.2))
    mirror = ao.Optimizer(b, ao.AdaGrad(0.1), ao.L1(0.2))
    for g in rng.standard_normal((400, 200)):
        averaging.step(g)
        mirror.step(g)
    assert (a == 0).mean() > 2 * (b == 0).mean()


def naive_ftrl(gs, lr, beta, l1, l2):
    """McMahan et al. (2013), Algorithm 1, line by line, from 0."""
    z, n, x = (np.zeros(gs.shape[1]) for _ in range(3))
    for g in gs:
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / lr
        z += g - sigma * x
        n += g * g
        x = np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / lr + l2))
    return x


@pytest.mark.parametrize(("beta", "l1", "l2"), [(1.0, 0.0, 0.0), (0.5, 0.7, 0.0), (0.3, 0.4, 2.0)])
def test_ftrl_is_the_papers(beta, l1, l2):
    gs = gradients(50, 6)
    x = np.zeros(6)
    opt = ao.Optimizer(x, ao.FTRL(0.3, beta, l1, l2))
    for g in gs:
        opt.step(g)
    np.testing.assert_allclose(x, naive_ftrl(gs, 0.3, beta, l1, l2), rtol=1e-11, atol=1e-14)


def test_ftrl_without_penalties_is_adagrad_with_beta_for_eps_from_any_start():
    gs, start = gradients(50, 6), np.linspace(-1, 1, 6)
    x, y = start.copy(), start.copy()
    a, b = ao.Optimizer(x, ao.FTRL(0.3, 0.1)), ao.Optimizer(y, ao.AdaGrad(0.3, eps=0.1))
    for g in gs:
        a.step(g)
        b.step(g)
    np.testing.assert_allclose(x, y, rtol=1e-10)


def test_ftrl_follows_a_schedule_as_adagrad_does():
    lr, gs = ao.schedules.inverse_time(0.3, 0.1), gradients(50, 6)
    x, y = np.zeros(6), np.zeros(6)
    a, b = ao.Optimizer(x, ao.FTRL(lr, 0.1)), ao.Optimizer(y, ao.AdaGrad(lr, eps=0.1))
    for g in gs:
        a.step(g)
        b.step(g)
    np.testing.assert_allclose(x, y, rtol=1e-10)


# -- AdaGradNorm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_one_rate_from_the_norm(dtype):
    gs = gradients(20, 7).astype(dtype)
    x, expected, G = np.zeros(7, dtype), np.zeros(7), 0.5
    opt = ao.Optimizer(x, ao.AdaGradNorm(0.3, initial_accumulator=0.5))
    for g in gs:
        opt.step(g)
        G += float((g.astype(np.float64) ** 2).sum())
        expected -= 0.3 / (np.sqrt(G) + 1e-8) * g.astype(np.float64)
    tolerance = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(x.astype(np.float64), expected, rtol=tolerance, atol=tolerance / 10)
    assert opt.scalars["G"] == pytest.approx(G)
    assert set(opt.learning_rates().tolist()) == {opt.learning_rates()[0]}


def test_the_norm_is_over_all_parameters_of_the_method():
    params = {"a": np.zeros(1), "b": np.zeros(1), "c": np.zeros(1)}
    norm = ao.AdaGradNorm(1.0)
    opt = ao.Optimizer(params, {"a": norm, "b": norm, "c": ao.SGD(1.0)})
    opt.step({"a": np.array([3.0]), "b": np.array([4.0]), "c": np.array([100.0])})
    assert opt.params["a"][0] == pytest.approx(-0.6)


def test_the_norm_is_that_of_the_clipped_gradient():
    x = np.zeros(2)
    opt = ao.Optimizer(x, ao.AdaGradNorm(1.0), clip_norm=1.0, loss_scale=2.0)
    opt.step(np.array([6.0, 8.0]))
    assert opt.scalars["G"] == pytest.approx(1.0)


def test_a_run_of_adagrad_by_the_norm_goes_on_exactly(tmp_path):
    gs = gradients(20, 4)
    x, y = np.ones(4), np.zeros(4)
    whole = ao.Optimizer(x, ao.AdaGradNorm(0.3))
    first = ao.Optimizer(y, ao.AdaGradNorm(0.3))
    y[:] = 1
    for g in gs:
        whole.step(g)
    for g in gs[:7]:
        first.step(g)
    first.save(tmp_path / "run")
    z = np.zeros(4)
    second = ao.Optimizer(z, ao.AdaGradNorm(0.3))
    second.load(tmp_path / "run")
    for g in gs[7:]:
        second.step(g)
    np.testing.assert_array_equal(z, x)


@pytest.mark.parametrize("method", ["adagradda", "ftrl", "adagradnorm"])
def test_minimize_knows_their_names_and_they_converge(method):
    scale = np.array([4.0, 1.0])
    res = ao.minimize(
        lambda x: (float(scale @ (x - 1) ** 2) / 2, scale * (x - 1)), np.zeros(2), jac=True,
        method=method, options={"lr": 1.0, "gtol": 1e-4},
    )  # fmt: skip
    assert res.success, res.message
    np.testing.assert_allclose(res.x, 1, atol=1e-3)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ao.AdaGradDA(eps=0.0), "AdaGradDA.eps is 0.0, expected eps > 0"),
        (lambda: ao.AdaGradDA(l1=-1.0), "AdaGradDA.l1 is -1.0"),
        (lambda: ao.FTRL(beta=0.0), "FTRL.beta is 0.0 with l2 0.0"),
        (lambda: ao.FTRL(l2=-1.0), "FTRL.l2 is -1.0"),
        (lambda: ao.AdaGradNorm(eps=0.0), "AdaGradNorm.eps is 0.0 with initial_accumulator 0.0"),
        (lambda: ao.AdaGradNorm(weight_decay=0.1), "AdaGradNorm.weight_decay is 0.1"),
        (
            lambda: ao.Optimizer(np.ones(2), ao.AdaGradNorm(), clip_value=1.0),
            "clip_value is 1.0 with a method that measures",
        ),
    ],
)
def test_options_that_make_no_sense(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("make", [ao.AdaGradDA, ao.FTRL])
def test_decoupled_decay_is_refused(make):
    with pytest.raises(ValueError, match="decoupled is True with weight_decay"):
        make(0.5, weight_decay=0.5, decoupled=True)


def pausing(t):
    """Return a rate that is 0 in steps 3 and 4."""
    return 0.0 if t in (3, 4) else 0.5


def test_ftrl_rests_at_rate_0_and_goes_on_as_adagrad_does():
    """Without penalties they are the same, with beta for eps."""
    x, y = np.full(3, 2.0), np.full(3, 2.0)
    ftrl = ao.Optimizer(x, ao.FTRL(pausing))
    adagrad = ao.Optimizer(y, ao.AdaGrad(pausing, eps=1.0))
    for g in gradients(8, 3):
        ftrl.step(g)
        adagrad.step(g)
        np.testing.assert_allclose(x, y, rtol=1e-13)


def test_ftrl_rests_the_same_in_every_loop():
    def fun(x):
        return float((x - 1) @ (x - 1)) / 2, x - 1

    @numba.njit
    def compiled(x, g):
        f = 0.0
        for i in range(x.size):
            g[i] = x[i] - 1
            f += g[i] * g[i]
        return f / 2

    options = {"maxiter": 12, "gtol": None}
    lr = ao.schedules.cosine(0.5, steps=6)
    found = [
        ao.minimize(f, np.zeros(2), jac=True, method=ao.FTRL(lr, l1=0.1), options=options)
        for f in (fun, compiled)
    ]
    np.testing.assert_array_equal(found[0].state.x, found[1].state.x)
    assert np.isfinite(found[0].state.x).all()


def test_a_rate_of_ftrl_so_small_that_it_counts_as_0_is_refused():
    with pytest.raises(ValueError, match=r"FTRL\.lr is 1e-30, expected at least 1e-20"):
        ao.FTRL(1e-30)


@pytest.mark.parametrize(
    ("method", "prox"),
    [
        (ao.AdaGradDA(0.5), ao.L1(0.3)),
        (ao.FTRL(0.5), ao.L1(0.3).within(ao.Box(-1.0, 1.0))),
        (ao.FTRL(0.5), ao.GroupL2(0.3, [0, 1, 1])),
    ],
)
def test_a_penalty_that_a_point_computed_anew_forgets_is_refused(method, prox):
    x = np.ones(3)
    with pytest.raises(ValueError, match=r"prox is .* with .*, expected a map without a penalty"):
        ao.Optimizer(x, method, prox)
    with pytest.raises(ValueError, match="so a penalty is forgotten"):
        ao.minimize(lambda x: (x @ x, 2 * x), x, jac=True, method=method, prox=prox)
