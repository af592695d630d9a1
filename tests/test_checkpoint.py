"""Going on from a checkpoint: k steps, save, load, m steps are k + m steps, to the last bit."""

import copy
import json
import pickle

import ml_dtypes
import numpy as np
import pytest

import adaptopt as ao

DTYPES = ["float16", "bfloat16", "float32", "float64"]
STEPS, SPLITS = 12, (0, 1, 5)


def problem(dtype, layout):
    """Return parameters and gradients."""
    rng = np.random.default_rng(0)
    shapes = {"single": {"": (3, 5)}, "named": {"a": (4,), "b": (2, 3), "c": (5,)}}[layout]
    draws = [
        {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        for _ in range(STEPS + 1)
    ]
    return [draw[""] if layout == "single" else draw for draw in draws]


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_same(value, theirs[key])
        else:
            np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def go_on_is_to_go(make, params, gs, path):
    """Compare a run that is saved and loaded after some steps with one that is not."""
    whole = make(copy.deepcopy(params))
    for g in gs:
        whole.step(g)
    for split in SPLITS:
        first = make(copy.deepcopy(params))
        for g in gs[:split]:
            first.step(g)
        first.save(path)
        # Into an optimizer that stands elsewhere, of parameters that are others.
        second = make(copy.deepcopy(gs[0]))
        second.step(gs[1])
        second.load(path)
        for g in gs[split:]:
            second.step(g)
        assert_same(second.state_dict(), whole.state_dict())
        rates = second.learning_rates(), whole.learning_rates()
        assert_same(*(r if isinstance(r, dict) else {"": r} for r in rates))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["single", "named"])
def test_every_method_goes_on_exactly(method, dtype, layout, tmp_path):
    params, *gs = problem(dtype, layout)
    go_on_is_to_go(lambda x: ao.Optimizer(x, method), params, gs, tmp_path / "run.npz")


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {"state_dtype": "bfloat16", "seed": 3}),
        ("bfloat16", {"state_dtype": "bfloat16", "rounding": "stochastic"}),
        ("bfloat16", {"master": True}),
        ("float16", {"master": True, "rounding": "stochastic", "loss_scale": 8.0}),
        ("float16", {"rounding": "stochastic", "seed": 7, "clip_norm": 1.0}),
    ],
)
@pytest.mark.parametrize("layout", ["single", "named"])
def test_every_precision_goes_on_exactly(dtype, options, layout, tmp_path):
    params, *gs = problem(dtype, layout)
    go_on_is_to_go(
        lambda x: ao.Optimizer(x, ao.AdaGrad(0.1), **options), params, gs, tmp_path / "run.npz"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_of_different_methods_go_on_exactly(dtype, tmp_path):
    params, *gs = problem(dtype, "named")
    methods = {
        "a": ao.RMSProp(0.1, momentum=0.9),
        "b": ao.AdaGrad(ao.schedules.cosine(0.1, 10)),
        "c": ao.RMSProp(0.1, momentum=0.9),
    }
    go_on_is_to_go(lambda x: ao.Optimizer(x, methods), params, gs, tmp_path / "run.npz")


def test_the_grouping_may_change_between_save_and_load(tmp_path):
    params, *gs = problem("float64", "named")
    one = ao.Optimizer(params, ao.AdaGrad(0.1))
    one.step(gs[0])
    one.save(tmp_path / "run")
    two = ao.Optimizer(gs[3], ao.AdaGrad(0.1), {"b": ao.Box(-np.inf, np.inf)})
    two.load(tmp_path / "run")
    for opt in (one, two):
        opt.step(gs[1])
    assert_same(dict(one.params), dict(two.params))


def test_a_state_dict_is_a_copy():
    x = np.ones(3)
    opt = ao.Optimizer(x, ao.AdaGrad(0.1))
    opt.step(np.ones(3))
    state = opt.state_dict()
    before = pickle.dumps(state)
    opt.step(np.ones(3))
    assert pickle.dumps(state) == before
    opt.load_state_dict(state)
    opt.step(np.ones(3))
    assert pickle.dumps(state) == before


def test_the_file_has_no_pickle_and_readable_names(tmp_path):
    opt = ao.Optimizer({"w": np.ones(3, ml_dtypes.bfloat16)}, ao.AdaGrad(0.1))
    opt.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        header = json.loads(file["adaptopt"].tobytes())
    assert header["header"]["parameters"]["w"]["method"] == "AdaGrad"


# -- minimize --------------------------------------------------------------------------------------


def bowl(x):
    scale = np.array([1.0, 0.1, 0.01])
    return float(scale @ (x - 3) ** 2), 2 * scale * (x - 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"xtol": 1e-12, "ftol": 1e-15, "patience": 99}])
def test_a_run_of_minimize_goes_on_from_its_file(method, dtype, options, tmp_path):
    def go(n, **others):
        return ao.minimize(
            bowl, np.zeros(3, dtype), jac=True, method=method,
            options={"maxiter": n, **options}, **others,
        )  # fmt: skip

    whole, first = go(30), go(11)
    first.state.save(tmp_path / "run.npz")
    rest = go(19, state=tmp_path / "run.npz")
    assert (rest.fun, rest.status, rest.state.t) == (whole.fun, whole.status, whole.state.t)
    for key in ("x", "jac", "learning_rates"):
        np.testing.assert_array_equal(rest[key], whole[key])


def test_the_state_of_a_crash_may_be_saved(tmp_path):
    def f(x):
        if x[0] > 1.5:
            raise OSError("disk full")
        return bowl(x)

    with pytest.raises(OSError, match="disk full") as caught:
        ao.minimize(f, np.zeros(3), jac=True, method=ao.AdaGrad(0.5))
    caught.value.state.save(tmp_path / "run")
    res = ao.minimize(
        bowl, np.zeros(3), jac=True, method=ao.AdaGrad(0.5), state=str(tmp_path / "run"),
        options={"maxiter": 50},
    )  # fmt: skip
    whole = ao.minimize(
        bowl, np.zeros(3), jac=True, method=ao.AdaGrad(0.5),
        options={"maxiter": caught.value.state.t + 50},
    )  # fmt: skip
    np.testing.assert_array_equal(res.x, whole.x)


# -- what does not fit -----------------------------------------------------------------------------


def make(x=None, method=None, **options):
    x = np.ones(3) if x is None else x
    opt = ao.Optimizer(x, method or ao.AdaGrad(0.1), **options)
    opt.step(x)
    return opt


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (lambda: make(np.ones(4)), r"params of float64 and shape \(4,\), expected float64 and"),
        (lambda: make(np.ones(3, "f4")), "params of float32 and shape"),
        (lambda: make(method=ao.RMSProp()), "has the method RMSProp, expected AdaGrad"),
        (lambda: make({"a": np.ones(3)}), r"has the parameters \['a'\], expected \[''\]"),
        (lambda: make(loss_scale=2.0), "loss_scale is 2.0, expected None"),
    ],
)
def test_a_checkpoint_of_something_else_changes_nothing(saved, words, tmp_path):
    saved().save(tmp_path / "run.npz")
    opt = make()
    before = opt.state_dict()
    with pytest.raises(ValueError, match=words):
        opt.load(tmp_path / "run.npz")
    assert_same(opt.state_dict(), before)


def test_slots_of_another_precision_are_refused(tmp_path):
    make(np.ones(3, "f4"), state_dtype="bfloat16").save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"G of bfloat16 and shape \(3,\), expected float32"):
        make(np.ones(3, "f4")).load(tmp_path / "run.npz")


def test_other_slots_are_refused(tmp_path):
    make(method=ao.RMSProp(momentum=0.5)).save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"has the state \['E', 'b'\], expected \['E'\]"):
        make(method=ao.RMSProp()).load(tmp_path / "run.npz")


def test_a_state_of_minimize_is_no_optimizer(tmp_path):
    ao.minimize(bowl, np.zeros(3), jac=True).state.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="holds a minimize state, expected an optimizer"):
        make().load(tmp_path / "run.npz")


def test_an_optimizer_is_no_state_of_minimize(tmp_path):
    make().save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="holds an optimizer, expected a minimize state"):
        ao.minimize(bowl, np.zeros(3), jac=True, state=tmp_path / "run.npz")


def test_a_damaged_file_changes_nothing(tmp_path):
    path = tmp_path / "run.npz"
    saved = make()
    saved.save(path)
    data = bytearray(path.read_bytes())
    data[data.index(saved.params.tobytes())] ^= 1
    path.write_bytes(data)
    opt = make()
    before = opt.state_dict()
    with pytest.raises(ValueError, match="is damaged"):
        opt.load(path)
    assert_same(opt.state_dict(), before)


@pytest.mark.parametrize("state", [3, {}, {"t": 1}])
def test_a_state_dict_that_is_none(state):
    with pytest.raises(TypeError, match="is no state of an Optimizer"):
        make().load_state_dict(state)


def test_a_state_dict_of_another_version():
    opt = make()
    with pytest.raises(ValueError, match="version 2, expected 1"):
        opt.load_state_dict({**opt.state_dict(), "version": 2})
