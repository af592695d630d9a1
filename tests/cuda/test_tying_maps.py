"""Maps that tie coordinates together, solved on a device: the host's points, to rounding."""

import warnings

import ml_dtypes
import numpy as np
import pytest
from numba import cuda
from on_device import SIMULATED, back, refuse_to_wait_or_copy, there

import adaptopt as ao

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")

N = 150  # more than the threads of a block
MAPS = {
    "simplex": ao.Simplex(2.0),
    "ball": ao.L2Ball(1.5),
    "wide-ball": ao.L2Ball(1e3),
    "groups": ao.GroupL2(0.3, np.arange(N) // 40),
    "scattered-groups": ao.GroupL2(0.2, [np.arange(0, N, 3), np.array([5, 1, 4])]),
    "no-penalty": ao.GroupL2(0.0, np.arange(N) // 40),
}
# Of numbers of about 1: what one rounding more or less comes to.
TOLERANCES = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def data(n=N, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def assert_near(device, host):
    ours, theirs = back(device), host
    assert ours.dtype == theirs.dtype
    atol = TOLERANCES[host.dtype.name]
    np.testing.assert_allclose(
        ours.astype(np.float64), theirs.astype(np.float64), rtol=atol, atol=atol
    )


def run(x, prox, gs, **options):
    """Return the parameters after steps on the device and on the host."""
    y, z = there(x.copy()), x.copy()
    device = ao.Optimizer(y, ao.AdaGrad(0.3), prox, **options)
    host = ao.Optimizer(z, ao.AdaGrad(0.3), prox, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for g in gs:
            device.step(there(g))
            host.step(g)
    return y, z


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, BFLOAT16, np.float16], ids=lambda t: np.dtype(t).name
)
@pytest.mark.parametrize("name", MAPS)
def test_points_are_those_of_the_host(name, dtype):
    gs = [data(dtype=dtype, seed=k) for k in range(2)]
    assert_near(*run(data(dtype=dtype, seed=7), MAPS[name], gs))


def test_groups_that_become_zero_are_zero():
    y, z = run(data(), ao.GroupL2(3.0, np.arange(N) // 7), [data(seed=1)])
    np.testing.assert_array_equal(back(y) == 0, z == 0)
    assert 0 < (z == 0).sum() < N


@pytest.mark.parametrize("name", ["simplex", "groups"])
def test_master_copies_are_mapped(name):
    x, gs = data(dtype=BFLOAT16), [data(dtype=BFLOAT16, seed=1)]
    assert_near(*run(x, MAPS[name], gs, master=True))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[("simplex", size) for size in (1e-150, 1e-3, 1e3, 1e18)],
        *[(name, size) for name in ("ball", "groups") for size in (1e-150, 1e-3, 1e60, 1e200)],
    ],
)
def test_points_of_any_size(name, size):
    y, z = run(size * data(), MAPS[name], [data(seed=1)])
    np.testing.assert_allclose(back(y), z, rtol=1e-9, atol=1e-12)


def test_equal_coordinates_of_a_simplex():
    assert_near(*run(np.ones(N), ao.Simplex(), [np.ones(N)]))


@pytest.mark.parametrize("name", ["simplex", "ball", "groups"])
def test_a_point_that_is_not_finite_is_left_alone(name):
    x = data()
    x[3] = np.nan
    assert_near(*run(x, MAPS[name], [data(seed=1)]))
    good = data(seed=2)
    bad = good.copy()
    bad[0] = np.inf
    y, z = run(good, MAPS[name], [data(seed=1), bad])
    assert_near(y, z)


@pytest.mark.parametrize("name", ["simplex", "groups"])
def test_a_step_that_is_skipped_maps_nothing(name):
    x = data()
    bad = data(seed=1)
    bad[9] = np.nan
    skipped, _ = run(x, MAPS[name], [bad], clip_norm=1.0)
    np.testing.assert_array_equal(back(skipped), x)
    assert_near(*run(x, MAPS[name], [bad, data(seed=2)], clip_norm=1.0))


def test_each_parameter_is_mapped_by_itself():
    params = {"a": data(5), "b": data(200, seed=1), "c": np.zeros(0)}
    host = ao.Optimizer({k: v.copy() for k, v in params.items()}, ao.SGD(0.1), ao.Simplex())
    device = ao.Optimizer(there(params), ao.SGD(0.1), ao.Simplex())
    host.step(params)
    device.step(there(params))
    for name in params:
        assert_near(device.params[name], host.params[name])


def test_a_group_beyond_the_parameters_is_refused():
    with pytest.raises(ValueError, match="groups has index 6, expected less than 3"):
        ao.Optimizer(there(np.ones(3)), ao.SGD(), ao.GroupL2(0.1, [np.array([0, 6])]))


@pytest.mark.parametrize("name", ["simplex", "ball", "groups"])
def test_the_gradient_norm_is_that_of_the_host(name):
    x, g = np.abs(data()) / N, data(seed=1)
    host = ao.Optimizer(x.copy(), ao.SGD(), MAPS[name]).gradient_norm(g)
    device = ao.Optimizer(there(x), ao.SGD(), MAPS[name]).gradient_norm(there(g))
    assert device == pytest.approx(host, rel=1e-12)


@in_the_simulator
def test_a_map_neither_waits_nor_copies(launches, monkeypatch):
    stream = cuda.stream()
    x, g = there(data()), there(data(seed=1))
    opt = ao.Optimizer(x, ao.AdaGrad(0.1), ao.Simplex())
    launches.clear()

    refuse_to_wait_or_copy(monkeypatch, type(x))
    opt.step(g, stream=stream)
    assert launches == [stream] * 3
