"""Going on from a checkpoint: k steps, save, load, m steps are k + m steps, to the last bit."""

import copy
import dataclasses
import json
import pickle

import ml_dtypes
import numpy as np
import pytest
from methods_table import METHODS, in_turn
from states import assert_same

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


@pytest.mark.parametrize(
    ("method", "option"),
    [
        (ao.Momentum(), "lr_inside"),
        (ao.RMSProp(momentum=0.9), "lr_inside"),
        (ao.AMSGrad(), "corrected_max"),
    ],
)
def test_slots_that_mean_another_thing_are_refused(method, option):
    opts = [ao.Optimizer(np.ones(2), dataclasses.replace(method, **{option: v})) for v in (0, 1)]
    for one, other in (opts, opts[::-1]):
        with pytest.raises(ValueError, match=rf"expected {type(method).__name__}(\({option}|$)"):
            one.load_state_dict(other.state_dict())


LAYOUTS = ["single", "named"]


@pytest.mark.parametrize(("name", "dtype", "layout"), in_turn(METHODS, DTYPES, LAYOUTS))
def test_every_method_goes_on_exactly(name, dtype, layout, tmp_path, in_python):
    params, *gs = problem(dtype, layout)
    go_on_is_to_go(lambda x: ao.Optimizer(x, METHODS[name]), params, gs, tmp_path / "run.npz")


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
def test_every_precision_goes_on_exactly(dtype, options, layout, tmp_path, in_python):
    params, *gs = problem(dtype, layout)
    go_on_is_to_go(
        lambda x: ao.Optimizer(x, ao.AdaGrad(0.1), **options), params, gs, tmp_path / "run.npz"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_of_different_methods_go_on_exactly(dtype, tmp_path, request):
    if dtype != "float32":
        request.getfixturevalue("in_python")
    params, *gs = problem(dtype, "named")
    methods = {
        "a": ao.RMSProp(0.1, momentum=0.9),
        "b": ao.AdaGrad(ao.schedules.cosine(0.1, 10)),
        "c": ao.RMSProp(0.1, momentum=0.9),
    }
    go_on_is_to_go(lambda x: ao.Optimizer(x, methods), params, gs, tmp_path / "run.npz")


def test_the_grouping_may_change_between_save_and_load(tmp_path, in_python):
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
def test_a_run_of_minimize_goes_on_from_its_file(method, dtype, options, tmp_path, in_python):
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


def test_the_state_of_a_crash_may_be_saved(tmp_path, in_python):
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
def test_a_checkpoint_of_something_else_changes_nothing(saved, words, tmp_path, in_python):
    saved().save(tmp_path / "run.npz")
    opt = make()
    before = opt.state_dict()
    with pytest.raises(ValueError, match=words):
        opt.load(tmp_path / "run.npz")
    assert_same(opt.state_dict(), before)


def test_slots_of_another_precision_are_refused(tmp_path, in_python):
    make(np.ones(3, "f4"), state_dtype="bfloat16").save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"G of bfloat16 and shape \(3,\), expected float32"):
        make(np.ones(3, "f4")).load(tmp_path / "run.npz")


def test_other_slots_are_refused(tmp_path, in_python):
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


def changed(state, where, value):
    """Return a deep copy of a state with another value at a path of keys; None removes it."""
    state = copy.deepcopy(state)
    inner = state
    for key in where[:-1]:
        inner = inner[key]
    if value is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return state


ENTRY = ("parameters", "")


@pytest.mark.parametrize(
    ("where", "value", "error", "words"),
    [
        (("seed",), None, ValueError, "state has no 'seed', expected what state_dict"),
        (("skipped",), None, ValueError, "has no 'skipped'"),
        (("loss_scale",), None, ValueError, "has no 'loss_scale'"),
        (("t",), -5, ValueError, "t is -5, expected a whole number in"),
        (("t",), 2.5, TypeError, "t is 2.5, expected a whole number"),
        (("t",), np.nan, TypeError, "t is nan, expected a whole number"),
        (("t",), "7", TypeError, "t is '7', expected a whole number"),
        (("t",), True, TypeError, "t is True"),
        (("t",), 2**60, ValueError, "t is 1152921504606846976"),
        (("seed",), -1, ValueError, "seed is -1"),
        (("skipped",), -1, ValueError, "skipped is -1"),
        (("loss_scale",), "2", TypeError, "loss_scale is '2', expected a number"),
        (("version",), "1", TypeError, "version is '1', expected a whole number"),
        (("parameters",), [], TypeError, "parameters is a list, expected a dict"),
        (ENTRY, 3, TypeError, "state is a int, expected a dict"),
        ((*ENTRY, "method"), None, ValueError, "has no 'method'"),
        ((*ENTRY, "method"), 3, TypeError, "has the method 3, expected its name"),
        ((*ENTRY, "params"), None, ValueError, "has no 'params'"),
        ((*ENTRY, "params"), np.ma.ones(3), TypeError, "params as a masked array"),
        ((*ENTRY, "params"), np.ones((1, 3)), ValueError, "params of float64 and shape"),
        ((*ENTRY, "params"), "text", ValueError, "params of <U4"),
        ((*ENTRY, "state"), None, ValueError, "has no 'state'"),
        ((*ENTRY, "state", "m"), None, ValueError, r"has the state \['v'\]"),
        ((*ENTRY, "state", "z"), np.ones(3), ValueError, "has the state"),
        ((*ENTRY, "state", "v"), np.ones(3, "f4"), ValueError, "v of float32"),
        ((*ENTRY, "scalars"), {}, ValueError, "has the scalars"),
        ((*ENTRY, "scalars", "mu_product"), "x", TypeError, "mu_product is 'x', expected a number"),
        ((*ENTRY, "scalars", "mu_product"), 10**400, ValueError, "beyond the numbers of float64"),
        ((*ENTRY, "behind"), 2, ValueError, "behind is 2, expected a whole number in .0, 1."),
        ((*ENTRY, "behind"), -1, ValueError, "behind is -1"),
        ((*ENTRY, "behind"), 0.5, TypeError, "behind is 0.5"),
        ((*ENTRY, "hidden"), {"last": np.zeros(3, int)}, ValueError, "lazy 'exact'"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(where, value, error, words, in_python):
    opt = make(method=ao.Nadam())
    before = opt.state_dict()
    bad = changed(make(np.full(3, 2.0), ao.Nadam()).state_dict(), where, value)
    with pytest.raises(error, match=words):
        opt.load_state_dict(bad)
    assert_same(opt.state_dict(), before)


@pytest.mark.parametrize("last", [-1, -(2**62), 4, 2**62])
def test_steps_of_rows_that_are_none_change_nothing(last, in_python):
    def table():
        return ao.Optimizer(np.ones((3, 1)), ao.RMSProp(0.1, momentum=0.9))

    saved = table()
    for _ in range(3):
        saved.step_rows([0], np.ones((1, 1)))
    state = saved.state_dict()
    state["parameters"][""]["hidden"]["last"][1] = last
    opt = table()
    before = opt.state_dict()
    with pytest.raises(ValueError, match=r"has rows after steps .* expected steps in"):
        opt.load_state_dict(state)
    assert_same(opt.state_dict(), before)


def test_a_schedule_that_raises_where_the_state_stands_changes_nothing():
    def lr(t):
        return 0.1 if t < 3 else 1 / 0

    opt, later = make(method=ao.AdaGrad(lr)), make()
    for _ in range(5):
        later.step(np.ones(3))
    before = opt.state_dict()
    with pytest.raises(ZeroDivisionError):
        opt.load_state_dict(later.state_dict())
    assert_same(opt.state_dict(), before)


@pytest.mark.parametrize("method", [ao.AdaGradNorm(), ao.Nadam()])
def test_scalars_go_on_in_another_grouping_or_are_refused(method, in_python):
    params, *gs = problem("float64", "named")
    apart = {
        name: dataclasses.replace(method, lr=lr)
        for name, lr in zip("abc", (0.1, 0.2, 0.3), strict=True)
    }
    saved = ao.Optimizer(params, apart)
    saved.step({name: k * g for k, (name, g) in enumerate(gs[0].items())})
    again = ao.Optimizer(gs[1], apart)
    again.load_state_dict(saved.state_dict())
    assert again.scalars == saved.scalars
    one = ao.Optimizer(gs[1], method)
    if isinstance(method, ao.Nadam):  # its numbers follow from the steps: they are equal
        one.load_state_dict(saved.state_dict())
        assert one.scalars == saved.scalars
    else:
        with pytest.raises(ValueError, match="which share one AdaGradNorm here: expected equal"):
            one.load_state_dict(saved.state_dict())


def test_adams_state_goes_into_adamw(in_python):
    saved = make(method=ao.Adam())
    opt = make(np.full(3, 2.0), ao.AdamW())
    opt.load_state_dict(saved.state_dict())
    assert_same(opt.state_dict()["parameters"][""]["state"], dict(saved.state))
    saved.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="has the method AdamW, expected AMSGrad"):
        make(method=ao.AMSGrad()).load_state_dict(opt.state_dict())


def test_a_state_dict_holds_pythons_numbers(in_python):
    opt = ao.Optimizer({"a": np.ones((3, 2)), "b": np.ones(2)}, ao.Nadam(), lazy="touched")
    opt.step({"a": ([0], np.ones((1, 2))), "b": np.ones(2)})
    state = opt.state_dict()
    for entry in state["parameters"].values():
        del entry["params"], entry["state"], entry["hidden"]
    assert json.loads(json.dumps(state)) == state


def forge(state, name, value):
    if name == "rounds":
        state.sums.totals[-1] = value
    elif name == "moved":
        state.sums.moved = value
    else:
        setattr(state, name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jac", np.zeros(3)),
        ("jac", [0.0, 0.0]),
        ("fun", "low"),
        ("best_x", np.zeros(2, np.float32)),
        ("best_x", np.array([np.nan, 0.0])),
        ("best_jac", np.zeros((1, 2))),
        ("best_fun", np.nan),
        ("best_fun", -np.inf),
        ("best_t", -1),
        ("best_t", 4),
        ("best_t", 2.5),
        ("previous_fun", None),
        ("previous_x", np.zeros(1)),
        ("first", (1.0,)),
        ("first", 1.0),
        ("sums", {}),
        ("rounds", -1.0),
        ("rounds", 2.5),
        ("rounds", np.nan),
        ("moved", np.zeros(3)),
    ],
)
def test_a_forged_state_of_minimize_is_refused_before_anything_is_modified(name, value):
    def run(state=None):
        return ao.minimize(
            *(lambda x: (float(x @ x), 2 * x), np.ones(2)),
            jac=True,
            bounds=[(-2, 2)] * 2,
            options={"maxiter": 3, "certificate": True, "xtol": 0.0},
            state=state,
        )

    state = run().state
    forge(state, name, value)
    with pytest.raises((ValueError, TypeError), match="sums" if name == "moved" else name):
        run(state)
