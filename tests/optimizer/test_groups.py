"""Named parameters: one flat buffer, one kernel call a group, and the same bits as alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods_table import EACH_SHAPE, METHODS

import adaptopt as ao
from adaptopt import placement
from adaptopt.optimizer import group as groups

SHAPES = {"emb": (6, 4), "w": (3, 2, 2), "b": (), "empty": (0, 3), "v": (7,)}


def draw(dtype=np.float64, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(s), dtype) for name, s in shapes.items()}


def alone(method, x, gs, prox=None):
    """Return what the array becomes as the only one."""
    x = x.copy()
    opt = ao.Optimizer(x, method, prox)
    for g in gs:
        opt.step(g)
    return x, opt


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_named_parameters_are_updated_as_each_alone(method, dtype):
    params = draw(dtype)
    gs = [draw(dtype, seed) for seed in (1, 2, 3)]
    opt = ao.Optimizer(params, method)
    for g in gs:
        opt.step(g)
    for name, x in params.items():
        expected, single = alone(method, x, [g[name] for g in gs])
        np.testing.assert_array_equal(opt.params[name], expected)
        np.testing.assert_array_equal(opt.learning_rates(name), single.learning_rates())
        for slot, array in single.state.items():
            np.testing.assert_array_equal(opt.state[name][slot], array)


def test_each_name_has_its_own_method_schedule_decay_and_prox():
    params = draw()
    methods = {
        "emb": ao.AdaGrad(ao.schedules.inverse_time(0.5, 0.1)),
        "w": ao.RMSProp(0.1, weight_decay=0.1),
        "b": ao.SGD(0.1),
        "empty": ao.SGD(0.1),
        "v": ao.AdaGrad(0.5),
    }
    proxes = {"w": ao.Box(-0.1, 0.1), "v": ao.NonNegative()}
    opt = ao.Optimizer(params, methods, proxes)
    gs = [draw(seed=seed) for seed in (1, 2)]
    for g in gs:
        opt.step(g)
    for name, x in params.items():
        expected, _ = alone(methods[name], x, [g[name] for g in gs], proxes.get(name))
        np.testing.assert_array_equal(opt.params[name], expected)


def test_bounds_for_each_coordinate_go_with_their_parameter():
    params = {"a": np.zeros((2, 2)), "b": np.zeros(3)}
    box = {"a": ao.Box([[0, 1], [2, 3]], 9.0), "b": ao.Box(-1.0, [0, 1, 2])}
    opt = ao.Optimizer(params, ao.SGD(1.0), box)
    opt.step({"a": np.ones((2, 2)), "b": -5 * np.ones(3)})
    assert opt.params["a"].tolist() == [[0, 1], [2, 3]]
    assert opt.params["b"].tolist() == [0, 1, 2]


def test_equal_methods_make_one_group_and_others_do_not():
    params = draw()
    methods = dict.fromkeys(params, ao.AdaGrad(0.1)) | {"w": ao.RMSProp(), "b": ao.AdaGrad(0.1)}
    assert ao.Optimizer(params, methods)._parameters.members == [["emb", "b", "empty", "v"], ["w"]]
    assert ao.Optimizer(params, ao.AdaGrad())._parameters.members == [list(params)]


def test_dtypes_may_differ_between_names():
    params = {"a": np.ones(3, np.float32), "b": np.ones(3)}
    opt = ao.Optimizer(params, ao.AdaGrad(0.1))
    opt.step(params)
    assert [x.dtype for x in opt.params.values()] == [np.float32, np.float64]
    assert [x.dtype for x in opt.learning_rates().values()] == [np.float32, np.float64]


def test_the_parameters_lie_side_by_side_in_one_aligned_buffer():
    params = draw(np.float32)
    opt = ao.Optimizer(params, dict.fromkeys(params, ao.AdaGrad()) | {"w": ao.SGD()})
    starts = {name: x.ctypes.data for name, x in opt.params.items()}
    assert starts["emb"] % 64 == starts["w"] % 64 == 0
    assert starts["b"] == starts["emb"] + opt.params["emb"].nbytes
    assert 0 < starts["w"] - starts["emb"] < 64 * 4


def test_the_arrays_given_are_copied():
    params = draw()
    before = {name: x.copy() for name, x in params.items()}
    ao.Optimizer(params, ao.SGD(1.0)).step(before)
    for name, x in params.items():
        np.testing.assert_array_equal(x, before[name])


def test_what_is_written_to_a_view_is_stepped_from():
    opt = ao.Optimizer({"a": np.zeros(2)}, ao.SGD(1.0))
    opt.params["a"][:] = 5.0
    opt.step({"a": np.ones(2)})
    assert opt.params["a"].tolist() == [4, 4]


def test_views_cannot_be_replaced_by_mistake():
    opt = ao.Optimizer({"a": np.zeros(2)}, ao.SGD(1.0))
    with pytest.raises(TypeError):
        opt.params["a"] = np.ones(2)


@pytest.mark.parametrize("worth", [0, 5, 10**9])
def test_where_gradients_lie_does_not_matter(monkeypatch, worth):
    """In the group's buffer, copied there, or in arrays of their own."""
    monkeypatch.setattr(placement.HOST, "worth_a_call", worth)
    gs = draw(seed=1)
    results = []
    for in_place in ((), ("emb", "v"), tuple(SHAPES)):
        opt = ao.Optimizer(draw(), ao.RMSProp(0.1, momentum=0.5))
        for name in in_place:
            opt.grads[name][...] = gs[name]
        opt.step({**gs, **{name: opt.grads[name] for name in in_place}})
        results.append(np.concatenate([x.ravel() for x in opt.params.values()]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_gradients_may_be_views_of_one_array():
    gs = draw(seed=1)
    flat = np.concatenate([g.ravel() for g in gs.values()])
    parts = np.split(flat, np.cumsum([g.size for g in gs.values()])[:-1])
    views = {name: v.reshape(gs[name].shape) for name, v in zip(gs, parts, strict=True)}
    one, other = (ao.Optimizer(draw(), ao.AdaGrad(0.1)) for _ in range(2))
    one.step(gs)
    other.step(views)
    for name in SHAPES:
        np.testing.assert_array_equal(one.params[name], other.params[name])


def test_the_places_for_gradients_stay_the_same():
    opt = ao.Optimizer(draw(), ao.AdaGrad())
    assert opt.grads is opt.grads
    assert all(opt.grads[name] is place for name, place in opt.grads.items())


@pytest.mark.parametrize("options", [{"clip_norm": 0.5}, {"loss_scale": 2.0}])
@pytest.mark.parametrize("worth", [0, 5, 10**9])
def test_norms_do_not_depend_on_where_gradients_lie(monkeypatch, worth, options):
    monkeypatch.setattr(placement.HOST, "worth_a_call", worth)
    gs = draw(np.float32, seed=1)
    results = []
    for in_place in ((), ("emb", "v"), tuple(SHAPES)):
        opt = ao.Optimizer(draw(np.float32), ao.AdaGrad(0.1), **options)
        for name in in_place:
            opt.grads[name][...] = gs[name]
        opt.step({**gs, **{name: opt.grads[name] for name in in_place}})
        results.append(np.concatenate([x.ravel() for x in opt.params.values()]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_squares_of_small_gradients_are_those_of_each_alone(dtype):
    shapes = {"a": (3,), "b": (700,), "empty": (0,), "c": (16_000,), "large": (40_000,)}
    gs = draw(dtype, seed=2, shapes=shapes)
    opt = ao.Optimizer(draw(dtype, shapes=shapes), ao.SGD())
    group = opt._parameters.groups[0].group
    together = group.places.together([g.ravel() for g in gs.values()])
    assert group.places.squares(together, 0.5) == [
        placement.HOST.sum_of_squares(g.ravel(), 0.5) for g in gs.values()
    ]


def test_gradients_in_place_are_one_kernel_call(monkeypatch):
    calls = []
    original = groups.Group._call
    monkeypatch.setattr(
        groups.Group, "_call", lambda self, *a: (calls.append(1), original(self, *a))[1]
    )
    monkeypatch.setattr(placement.HOST, "worth_a_call", 0)
    opt = ao.Optimizer(draw(), ao.AdaGrad())
    opt.step(opt.grads)
    assert len(calls) == 1


@pytest.mark.parametrize("name", EACH_SHAPE)
@given(cut=st.integers(0, 40), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_one_group_of_two_arrays_is_two_groups_of_one(name, cut, seed):
    method = METHODS[name]
    rng = np.random.default_rng(seed)
    x, *gs = rng.standard_normal((3, 40)).astype(np.float32)
    a, b = x[:cut], x[cut:]
    one = ao.Optimizer({"a": a, "b": b}, method)
    # Proximal maps are equal only where they are the same object.
    two = ao.Optimizer({"a": a, "b": b}, method, {"b": ao.Box(-np.inf, np.inf)})
    assert (len(one._parameters.groups), len(two._parameters.groups)) == (1, 2)
    for g in gs:
        for opt in (one, two):
            opt.step({"a": g[:cut].copy(), "b": g[cut:].copy()})
    for name in "ab":
        np.testing.assert_array_equal(one.params[name], two.params[name])


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({}, ValueError, "params is empty, expected at least one array"),
        ({1: np.ones(2)}, TypeError, "params has the name 1, expected a string"),
        ({"": np.ones(2)}, TypeError, "params has the name '', expected a string"),
        ({"a": [1.0]}, TypeError, r"params\['a'\] is a list, expected a NumPy array"),
        ({"a": np.ones(2, int)}, TypeError, r"params\['a'\] has dtype int64"),
        ({"a": np.ones(4)[::2]}, ValueError, r"params\['a'\] is not C-contiguous"),
    ],
)
def test_params_that_cannot_be_packed(params, error, words):
    with pytest.raises(error, match=words):
        ao.Optimizer(params, ao.SGD())


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ()])
def test_methods_for_other_names(names):
    params = {"a": np.ones(2), "b": np.ones(2)}
    with pytest.raises(ValueError, match=r"method has the names .* expected those of params"):
        ao.Optimizer(params, dict.fromkeys(names, ao.SGD()))


def test_a_method_of_a_name_that_is_none():
    with pytest.raises(TypeError, match=r"method\['a'\] is 3, expected a Method"):
        ao.Optimizer({"a": np.ones(2)}, {"a": 3})


def test_a_prox_for_another_name():
    with pytest.raises(ValueError, match=r"prox has the names \['c'\], expected those of params"):
        ao.Optimizer({"a": np.ones(2)}, ao.SGD(), {"c": ao.NonNegative()})


@pytest.mark.parametrize(
    ("grads", "error", "words"),
    [
        (np.ones(2), ValueError, "grads is ndarray, expected a dict of the names"),
        ({"z": np.ones(2)}, ValueError, r"grads is \['z'\], expected a dict of the names"),
        ({"a": np.ones(2), "b": np.ones(3)}, ValueError, r"grads\['b'\] has shape \(3,\)"),
        ({"a": np.ones(2), "b": np.ones(2, "f4")}, TypeError, r"grads\['b'\] has dtype float32"),
    ],
)
def test_gradients_that_do_not_fit_change_nothing(grads, error, words):
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.AdaGrad())
    with pytest.raises(error, match=words):
        opt.step(grads)
    assert opt.t == 0
    assert [x.tolist() for x in opt.params.values()] == [[1, 1], [1, 1]]


def test_a_gradient_that_is_another_parameter_is_refused():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.AdaGrad())
    with pytest.raises(ValueError, match=r"grads\['a'\] overlaps params"):
        opt.step({"a": opt.params["b"], "b": np.ones(2)})


@pytest.mark.parametrize("place", ["grads", "params"])
def test_a_gradient_in_the_place_of_another_group_is_refused(place):
    params = {"a": np.ones(2), "b": np.ones(2), "c": np.ones(2)}
    opt = ao.Optimizer(params, {"a": ao.SGD(), "b": ao.SGD(), "c": ao.AdaGrad()})
    taken = dict(opt.grads)
    taken["c"] = getattr(opt, place)["a"]
    with pytest.raises(ValueError, match=r"grads\['c'\] overlaps"):
        opt.step(taken)


def test_places_for_gradients_that_are_swapped_are_refused():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.SGD())
    with pytest.raises(ValueError, match=r"grads\['a'\] overlaps opt.grads"):
        opt.step({"a": opt.grads["b"], "b": opt.grads["a"]})


def test_a_state_as_a_gradient_of_another_is_refused():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.AdaGrad())
    with pytest.raises(ValueError, match=r"grads\['a'\] overlaps opt.state"):
        opt.step({"a": opt.state["b"]["G"], "b": np.ones(2)})


# -- parameters without a gradient -----------------------------------------------------------------


@pytest.mark.parametrize("absent", [None, "missing"])
def test_parameters_without_a_gradient_stay_as_they_are(method, absent):
    params = draw()
    opt = ao.Optimizer(params, method)
    alone = {name: ao.Optimizer(x.copy(), method) for name, x in params.items()}
    for t in range(4):
        gs = draw(seed=t)
        frozen = {"w", "v"} if t % 2 else {"emb"}
        given = {name: None if name in frozen else g for name, g in gs.items()}
        if absent == "missing":
            given = {name: g for name, g in given.items() if g is not None}
        opt.step(given)
        for name in params.keys() - frozen:
            alone[name].step(gs[name])
    for name, single in alone.items():
        np.testing.assert_array_equal(opt.params[name], single.params)
        np.testing.assert_array_equal(opt.learning_rates(name), single.learning_rates())
        for slot, array in single.state.items():
            np.testing.assert_array_equal(opt.state[name][slot], array)
        assert opt.scalars[name] == single.scalars


def test_a_step_without_any_gradient_is_none():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.AdaGrad())
    for grads in ({}, {"a": None}, {"a": None, "b": None}):
        opt.step(grads)
    assert opt.t == 0
    assert [x.tolist() for x in opt.params.values()] == [[1, 1], [1, 1]]


def test_the_norm_is_of_the_gradients_there_are():
    opt = ao.Optimizer({"a": np.zeros(2), "b": np.zeros(2)}, ao.SGD(1.0), clip_norm=1.0)
    opt.step({"a": np.array([3.0, 4.0]), "b": None})
    np.testing.assert_allclose(opt.params["a"], [-0.6, -0.8])


def test_a_map_that_ties_coordinates_skips_parameters_without_a_gradient():
    params = {"a": np.ones(2), "b": np.ones(2)}
    opt = ao.Optimizer(params, ao.SGD(1.0), dict.fromkeys("ab", ao.Simplex()))
    opt.step({"a": np.zeros(2)})
    assert (opt.params["a"].tolist(), opt.params["b"].tolist()) == ([0.5, 0.5], [1, 1])


def test_one_array_without_a_gradient_is_refused():
    with pytest.raises(TypeError, match="grads is a NoneType, expected a gradient"):
        ao.Optimizer(np.ones(2), ao.SGD()).step(None)


def test_rates_of_an_unknown_name():
    with pytest.raises(KeyError, match="name is 'z', expected one of 'a'"):
        ao.Optimizer({"a": np.ones(2)}, ao.AdaGrad()).learning_rates("z")


# -- memory that is shared -------------------------------------------------------------------------


@pytest.mark.parametrize("other", [slice(0, 4), slice(3, 6), slice(1, 2)])
def test_params_that_share_memory_are_refused(other):
    x = np.zeros(8)
    with pytest.raises(ValueError, match=r"params\['a'\] and params\['b'\] share memory"):
        ao.Optimizer({"a": x[:4], "between": np.zeros(3), "b": x[other]}, ao.SGD())


def test_params_side_by_side_share_no_memory():
    x = np.zeros(8)
    opt = ao.Optimizer({"a": x[:4], "b": x[4:], "empty": x[2:2]}, ao.SGD(1.0))
    opt.step({"a": np.ones(4), "b": np.ones(4), "empty": np.ones(0)})
    assert opt.params["a"].tolist() == [-1] * 4


def test_params_in_the_same_part_of_a_file_are_refused(tmp_path):
    path = tmp_path / "x"
    x = np.memmap(path, np.float64, "w+", shape=(8,))
    y = np.memmap(path, np.float64, "r+", offset=32, shape=(4,))
    with pytest.raises(ValueError, match=r"params\['x'\] and params\['y'\] share memory"):
        ao.Optimizer({"x": x[3:5], "y": y}, ao.SGD())
    ao.Optimizer({"x": x[:4], "y": y}, ao.SGD())
