"""An optimizer as an object: copies go on exactly, assignments are refused, `set` and `reset`."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from states import assert_same

import adaptopt as ao

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}
PARAMS = {"a": (3,), "t": (5, 2), "b": (2,)}


def draws(count, dtype="float64"):
    """Return parameters, or gradients of them."""
    rng = np.random.default_rng(0)
    return [
        {name: rng.standard_normal(shape).astype(dtype) for name, shape in PARAMS.items()}
        for _ in range(count)
    ]


MADE = {
    "one array": lambda p: ao.Optimizer(p["t"], ao.Adam(0.1)),
    "groups": lambda p: ao.Optimizer(p, {"a": ao.Adam(0.1), "b": ao.AdaGrad(), "t": ao.Adam(0.1)}),
    "scalars": lambda p: ao.Optimizer(p, ao.Nadam(0.1), ao.Box(-1, 1)),
    "written rates": lambda p: ao.Optimizer(p["t"].ravel(), ao.AdaGrad(0.1), ao.Simplex()),
    "low precision": lambda p: ao.Optimizer(
        {k: v.astype("float16") for k, v in p.items()}, ao.AdaGrad(0.1), master=True,
        state_dtype="bfloat16", rounding="stochastic", seed=5, loss_scale=2.0, clip_value=3.0,
    ),
}  # fmt: skip


def gradient(opt, given):
    """Return a gradient of an optimizer's structure."""
    if isinstance(opt.params, dict):
        return {name: given[name].astype(opt.params[name].dtype) for name in opt.params}
    return given["t"].reshape(opt.params.shape).copy()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MADE)
def test_a_copy_goes_on_as_the_original_and_apart_from_it(name, how, request):
    if name != "one array":
        request.getfixturevalue("in_python")
    params, *gs = draws(6)
    opt = MADE[name](params)
    for g in gs[:2]:
        opt.step(gradient(opt, g))
    other = COPIES[how](opt)
    before = opt.state_dict()
    for g in gs[2:]:
        other.step(gradient(other, g))
    assert_same(opt.state_dict(), before)
    for g in gs[2:]:
        opt.step(gradient(opt, g))
    assert_same(opt.state_dict(), other.state_dict())
    assert (opt.loss_scale, opt.skipped) == (other.loss_scale, other.skipped)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_has_the_rows_that_wait_and_the_steps_that_were_skipped(how, in_python):
    opt = ao.Optimizer(np.ones((4, 2)), ao.RMSProp(0.1, momentum=0.9), clip_norm=1.0)
    for rows in ([0], [1, 1], [2]):
        opt.step_rows(rows, np.ones((len(rows), 2)))
    with pytest.warns(RuntimeWarning, match="skipped"):
        opt.step_rows([0], np.full((1, 2), np.nan))
    other = COPIES[how](opt)
    for each in (opt, other):
        each.step_rows([3], np.ones((1, 2)))
        each.flush()
    assert_same(opt.state_dict(), other.state_dict())
    assert other.skipped == 1


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_has_the_hyperparameters_that_were_set(how):
    params, *gs = draws(3)
    opt = ao.Optimizer(params, ao.Adam(0.1))
    opt.step(gs[0])
    opt.set("t", lr=0.5)
    other = COPIES[how](opt)
    for each in (opt, other):
        each.step(gs[1])
    assert_same(opt.state_dict(), other.state_dict())
    assert other.method == opt.method


def test_a_copy_of_an_object_keeps_its_array_and_its_optimizer_together():
    x = np.zeros(2)
    array, opt = copy.deepcopy([x, ao.Optimizer(x, ao.SGD(1.0))])
    opt.step(np.ones(2))
    np.testing.assert_array_equal(array, -1.0)
    np.testing.assert_array_equal(x, 0.0)


def test_a_subclass_keeps_its_attributes_in_a_copy():
    opt = Noted(np.zeros(2), ao.SGD(1.0))
    opt.note = "here"
    assert copy.deepcopy(opt).note == "here"
    assert type(pickle.loads(pickle.dumps(opt))) is Noted


class Noted(ao.Optimizer):
    """With an attribute of its own."""


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match=r"expected copy\.deepcopy"):
        copy.copy(ao.Optimizer(np.zeros(2), ao.SGD()))


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_table_in_a_file_is_not_copied(how, tmp_path):
    x = np.memmap(tmp_path / "table", np.float32, "w+", shape=(3, 2))
    with pytest.raises(TypeError, match="params lie in files"):
        how(ao.Optimizer({"t": x, "w": np.ones(2)}, ao.SGD()))


# -- assignments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("method", r"opt.method cannot be assigned to, expected opt.set\(lr=0.1\)"),
        ("lr", r"expected opt.set\(lr=...\)"),
        ("beta1", r"expected opt.set\(beta1=...\)"),
        ("params", r"expected to write into its arrays, as in opt.params\[...\] = value"),
        ("state", r"as in opt.state\[...\] = value"),
        ("t", r"expected opt.reset\(\) or opt.load_state_dict"),
        ("skipped", r"expected opt.reset\(\)"),
        ("scalars", r"expected opt.reset\(\)"),
        ("foo", "expected one of the attributes that the documentation names"),
        ("step", "opt.step cannot be assigned to"),
    ],
)
def test_assignments_that_would_do_nothing_are_refused(name, words):
    opt = ao.Optimizer(np.ones(2), ao.Adam(0.1))
    with pytest.raises(AttributeError, match=words):
        setattr(opt, name, 0)


@pytest.mark.parametrize("change", [
    lambda views: views.update(a=np.ones(2)),
    lambda views: views.__setitem__("a", np.ones(2)),
    lambda views: views.__setitem__("c", np.ones(2)),
    lambda views: views.pop("a"),
    lambda views: views.clear(),
])  # fmt: skip
@pytest.mark.parametrize("name", ["params", "state"])
def test_views_are_not_replaced(name, change):
    opt = ao.Optimizer({"a": np.ones(2)}, ao.AdaGrad())
    with pytest.raises(
        TypeError, match=f"cannot be replaced, expected to write into it: opt.{name}"
    ):
        change(getattr(opt, name))
    assert list(getattr(opt, name)) == ["a"]


def test_methods_of_names_are_not_replaced():
    opt = ao.Optimizer({"a": np.ones(2)}, {"a": ao.SGD()})
    with pytest.raises(TypeError, match=r"opt.method\['a'\] cannot be replaced, expected opt.set"):
        opt.method["a"] = ao.SGD(0.5)


def test_places_of_gradients_are_written_into():
    opt = ao.Optimizer({"a": np.zeros(2)}, ao.SGD(1.0))
    opt.grads["a"] += 1.0
    opt.step(opt.grads)
    np.testing.assert_array_equal(opt.params["a"], -1.0)


def test_slots_are_written_into_and_not_replaced():
    opt = ao.Optimizer(np.zeros(2), ao.AdaGrad(1.0))
    opt.state["G"] += 3.0
    with pytest.raises(TypeError, match=r"opt.state\['G'\]\[...\] = value"):
        opt.state["G"] = np.ones(2)
    with pytest.raises(TypeError):
        opt.scalars["G"] = 1.0
    opt.params += 1.0
    opt.step(np.ones(2))
    np.testing.assert_allclose(opt.params, 0.5, rtol=1e-8)


# -- set and reset ---------------------------------------------------------------------------------

CHANGES = {
    "lr": (ao.Adam(0.1), {"lr": 0.5}),
    "a schedule": (ao.AdaGrad(0.1), {"lr": ao.schedules.inverse_time(0.5, 0.1)}),
    "momentum": (ao.Momentum(0.1), {"momentum": 0.5, "nesterov": True}),
    "decay on": (ao.RMSProp(0.1), {"weight_decay": 0.1, "decoupled": True}),
    "decay off": (ao.SGD(0.1, weight_decay=0.1), {"weight_decay": 0.0}),
    "scalars": (ao.Nadam(0.1), {"beta1": 0.5}),
    "one accumulator a row": (ao.RowWiseAdaGrad(0.1), {"eps": 1e-3}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_to_set_is_to_load_the_state_into_an_optimizer_with_the_new_values(name, in_python):
    method, change = CHANGES[name]
    params, *gs = draws(6)
    opt = ao.Optimizer(params, method)
    for g in gs[:3]:
        opt.step(g)
    other = ao.Optimizer(params, dataclasses.replace(method, **change))
    other.load_state_dict(opt.state_dict())
    opt.set(**change)
    assert_same(opt.learning_rates(), other.learning_rates())
    for g in gs[3:]:
        opt.step(g)
        other.step(g)
    assert_same(opt.state_dict(), other.state_dict())
    assert opt.method == other.method


@pytest.mark.parametrize("method", [ao.Nadam(0.1), ao.FTRL(0.1)])
def test_to_set_what_is_set_already_changes_nothing(method, in_python):
    opts = [ao.Optimizer({"a": np.ones(3), "b": np.ones(3)}, method) for _ in range(2)]
    for step in range(4):
        opts[0].set(lr=0.1)
        for opt in opts:
            g = np.full(3, step + 1.0)
            opt.step({"a": g} if step == 2 else {"a": g, "b": g})
    assert_same(*(opt.state_dict() for opt in opts))


def test_a_name_that_shares_a_group_is_set_alone():
    params, *gs = draws(4)
    opt = ao.Optimizer(params, ao.Adam(0.1))
    places = opt.grads
    alone = {k: ao.Optimizer(v.copy(), ao.Adam(0.1)) for k, v in params.items()}
    for step, g in enumerate(gs):
        if step == 2:
            opt.set("t", lr=0.5)
            alone["t"].set(lr=0.5)
        for name in g:
            places[name][:] = g[name]
            alone[name].step(g[name])
        opt.step(places)
    assert_same(dict(opt.params), {k: each.params for k, each in alone.items()})
    assert [opt.method[name].lr for name in "atb"] == [0.1, 0.5, 0.1]


def test_to_set_one_name_leaves_the_random_numbers_of_the_others(in_python):
    opts = [MADE["low precision"](draws(1)[0]) for _ in range(2)]
    opts[1].set("t", lr=1.0)
    for opt in opts:
        opt.step(gradient(opt, draws(2)[1]))
    for name in ("a", "b"):
        assert_same(*(opt.state_dict()["parameters"][name] for opt in opts))


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"weight_decay": 0.5, "decoupled": True}])
@pytest.mark.parametrize("method", [ao.RMSProp(0.1), ao.AdaGrad(0.1), ao.SGD(0.1)])
def test_rows_that_wait_are_brought_up_with_the_old_values(method, change, in_python):
    method = dataclasses.replace(method, weight_decay=0.1, decoupled=True)
    lazy, whole = (ao.Optimizer(np.ones((4, 2)), method) for _ in range(2))
    for step in range(6):
        if step == 3:
            lazy.set(**change)
            whole.set(**change)
        g = np.zeros((4, 2))
        g[step % 3] = 1.0
        lazy.step_rows([step % 3], g[[step % 3]])
        whole.step(g)
    lazy.flush()
    np.testing.assert_allclose(lazy.params, whole.params, rtol=1e-13)


def test_rows_that_wait_are_loaded_into_the_values_that_they_wait_with(tmp_path, in_python):
    opt = ao.Optimizer(np.ones((3, 1)), ao.Momentum(0.1))
    opt.step_rows([0], np.ones((1, 1)))
    opt.set(lr=0.001)
    for row in (0, 1, 1):
        opt.step_rows([row], np.ones((1, 1)))
    opt.save(tmp_path / "waits")
    other = ao.Optimizer(np.ones((3, 1)), ao.Momentum(0.1))
    for load, state in (
        (other.load, tmp_path / "waits"),
        (other.load_state_dict, opt.state_dict()),
    ):
        with pytest.raises(ValueError, match="wait for steps of a Momentum with coefficients"):
            load(state)
    other.set(lr=0.001)
    other.load(tmp_path / "waits")
    other.set(lr=0.1)
    opt.flush()
    np.testing.assert_array_equal(other.params, opt.params)
    ao.Optimizer(np.ones((3, 1)), ao.Momentum(0.1)).load_state_dict(opt.state_dict())


def test_decay_that_is_switched_on_makes_rows_wait(in_python):
    lazy, whole = (ao.Optimizer(np.ones((3, 1)), ao.SGD(0.1)) for _ in range(2))
    for step in range(4):
        if step == 2:
            for opt in (lazy, whole):
                opt.set(weight_decay=0.5, decoupled=True)
        lazy.step_rows([0], np.ones((1, 1)))
        whole.step(np.array([[1.0], [0.0], [0.0]]))
    lazy.flush()
    np.testing.assert_allclose(lazy.params, whole.params, rtol=1e-14)


@pytest.mark.parametrize(
    ("method", "change", "error", "words"),
    [
        (ao.RMSProp(), {"momentum": 0.9}, ValueError, "slots would be .*make another Optimizer"),
        (ao.RMSProp(momentum=0.9), {"momentum": 0.0}, ValueError, "slots would be"),
        (ao.AdaGrad(), {"initial_accumulator": 1.0}, ValueError, "initial state would be"),
        (ao.Momentum(), {"lr_inside": True}, ValueError, "state name would be"),
        (ao.RMSProp(momentum=0.9), {"lr_inside": True}, ValueError, "state name would be"),
        (ao.AMSGrad(), {"corrected_max": True}, ValueError, "state name would be"),
        (ao.AdaGrad(), {"beta1": 0.9}, TypeError, "does not have: expected one of .*lr, eps"),
        (ao.AdaGrad(), {"lr": -1.0, "eps": 1.0}, ValueError, "AdaGrad.lr is -1.0"),
        (ao.AdaGrad(), {"eps": 1e-60}, ValueError, "eps is 1e-60, which is 0 in float32"),
        (ao.AdaGrad(), {}, TypeError, "set got no hyperparameter"),
        (ao.AdaGrad(), {"name": "z", "lr": 1.0}, KeyError, "name is 'z', expected one of"),
    ],
)
def test_what_cannot_be_set_changes_nothing(method, change, error, words, in_python):
    params, g = draws(2, "float32")
    opt = ao.Optimizer(params, {"a": ao.SGD(), "t": method, "b": ao.SGD()})
    opt.step(g)
    before, methods = opt.state_dict(), dict(opt.method)
    with pytest.raises(error, match=words):
        opt.set(**{"name": "t", **change})
    assert_same(opt.state_dict(), before)
    assert opt.method == methods


def test_a_value_for_all_is_checked_for_all_first():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, {"a": ao.Adam(), "b": ao.SGD()})
    with pytest.raises(TypeError, match=r"set got 'beta1', which method\['b'\], SGD"):
        opt.set(beta1=0.5)
    assert opt.method["a"].beta1 == 0.9


def test_a_scalar_that_measures_all_keeps_its_names_together():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.AdaGradNorm())
    with pytest.raises(ValueError, match="expected the same for all of them"):
        opt.set("b", lr=0.5)
    opt.set(lr=0.5)


def test_rows_that_wait_need_a_closed_form_after_the_change_too(in_python):
    opt = ao.Optimizer(np.ones((3, 1)), ao.Momentum(0.1))
    opt.step_rows([0], np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"lazy 'exact'.*rates that change"):
        opt.set(lr=ao.schedules.cosine(0.1, 10))


@pytest.mark.parametrize("name", MADE)
def test_reset_starts_afresh_from_where_the_parameters_are(name):
    params, *gs = draws(4)
    opt = MADE[name](params)
    opt.step(gradient(opt, gs[0]))
    opt.reset()
    assert opt.t == 0
    fresh = copy.deepcopy(opt.params) if not isinstance(opt.params, dict) else dict(opt.params)
    fresh = ao.Optimizer(fresh, **opt._made_with)
    if name != "low precision":  # whose master copies are finer than the parameters
        for each in (opt, fresh):
            each.step(gradient(opt, gs[1]))
        assert_same(opt.state_dict(), fresh.state_dict())


def test_reset_brings_rows_up_first(in_python):
    a, b = (ao.Optimizer(np.ones((3, 1)), ao.Momentum(0.1)) for _ in range(2))
    for opt in (a, b):
        opt.step_rows([0, 1], np.ones((2, 1)))
        opt.step_rows([0], np.ones((1, 1)))
    b.flush()
    a.reset()
    np.testing.assert_array_equal(a.params, b.params)
    assert (a.t, a.state["b"].any()) == (0, False)
