"""State of torch's optimizers, in and out: with torch where it is installed, and golden files."""

import numpy as np
import pytest
from golden_cases import CASES, GOLDEN
from states import assert_same

import adaptopt as ao
from adaptopt.interchange import from_torch, to_torch

with np.load(GOLDEN / "torch_state.npz", allow_pickle=False) as file:
    STATES = {key: file[key] for key in file if "/" in key}
    STEPS = int(file["steps"])
with np.load(GOLDEN / "problem.npz", allow_pickle=False) as file:
    GRADIENTS = file["gradients"]

ROWS = sorted({key.split("/")[0] for key in STATES})
NOT_STATE = ("x", "x_later")


def their_state(case):
    state = {
        key.split("/")[1]: value for key, value in STATES.items() if key.startswith(f"{case}/")
    }
    return {key: value for key, value in state.items() if key not in NOT_STATE}


@pytest.mark.parametrize("case", ROWS)
def test_a_run_of_torch_goes_on_here(case):
    x = STATES[f"{case}/x"].copy()
    opt = ao.Optimizer(x, CASES["torch"][case])
    groups = [{"params": [0]}]
    from_torch(opt, {"state": {0: their_state(case)}, "param_groups": groups}, t=STEPS)
    for g in GRADIENTS[STEPS : 2 * STEPS]:
        opt.step(g)
    np.testing.assert_allclose(x, STATES[f"{case}/x_later"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", ROWS)
def test_what_goes_out_is_torchs_state(case):
    x = np.zeros(GRADIENTS.shape[1])
    opt = ao.Optimizer(x, CASES["torch"][case])
    for g in GRADIENTS[:STEPS]:
        opt.step(g)
    ours = to_torch(opt, tensor=np.asarray)["state"][0]
    theirs = their_state(case)
    assert ours.keys() == theirs.keys()
    # The gradients are given: the state does not depend on x, unless through weight decay.
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-9, err_msg=key)


def test_touched_rows_make_the_steps_of_sparse_adam():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Parameter(torch.ones((5, 2), dtype=torch.float64))
    optimizer = torch.optim.SparseAdam([theirs], lr=0.1, eps=1e-2)
    x = np.ones((5, 2))
    opt = ao.Optimizer(x, ao.Adam(0.1, eps=1e-2, eps_hat=True), lazy="touched")
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, g = rng.integers(0, 5, 3), rng.standard_normal((3, 2))
        theirs.grad = torch.sparse_coo_tensor(rows[None], g, (5, 2), check_invariants=True)
        optimizer.step()
        opt.step_rows(rows, g)
    np.testing.assert_allclose(x, theirs.detach().numpy(), rtol=1e-12)


def test_steps_up_are_refused():
    groups = [{"params": [0], "maximize": True}]
    state = {"step": 3.0, "sum": np.ones(2)}
    with pytest.raises(ValueError, match="maximize True, expected False"):
        from_torch(
            ao.Optimizer(np.ones(2), ao.AdaGrad()), {"state": {0: state}, "param_groups": groups}
        )


def test_state_that_would_be_lost_is_refused():
    amsgrad = ao.Optimizer(np.ones(2), ao.AMSGrad(weight_decay=0.1, decoupled=True))
    amsgrad.step(np.ones(2))
    out = to_torch(amsgrad, tensor=np.asarray)
    assert out["param_groups"][0]["decoupled_weight_decay"] is True  # torch's AdamW(amsgrad=True)
    opt = ao.Optimizer(np.ones(2), ao.Adam())
    with pytest.raises(
        ValueError, match=r"has \['max_exp_avg_sq'\] .* which Adam\(.*does not keep"
    ):
        from_torch(opt, out)
    assert opt.t == 0


def test_parameters_correspond_in_the_order_of_their_names():
    params = {"a": np.ones(2), "b": np.ones(3), "c": np.ones(4)}
    methods = {"a": ao.Adam(), "b": ao.AdaGrad(), "c": ao.Adam()}
    opt = ao.Optimizer(params, methods)
    opt.step(params)
    out = to_torch(opt, tensor=np.asarray)
    assert [g["params"] for g in out["param_groups"]] == [[0], [1], [2]]
    assert [len(next(iter(s.values()))) for s in out["state"].values()] == [2, 3, 4]
    again = ao.Optimizer(params, methods)
    from_torch(again, out)
    assert again.t == 1
    np.testing.assert_array_equal(again.state["c"]["v"], opt.state["c"]["v"])


def sums(*numbers):
    return {k: {"step": 1.0, "sum": np.array([k + 1.0])} for k in numbers}


def abc(methods=None):
    methods = methods or {"a": ao.AdaGrad(0.1), "b": ao.AdaGrad(0.2), "c": ao.AdaGrad(0.1)}
    return ao.Optimizer({name: np.zeros(1) for name in "abc"}, methods)


@pytest.mark.parametrize(
    ("groups", "options", "right"),
    [
        ([[0, 1, 2]], {}, [1, 2, 3]),
        ([[0], [1, 2]], {}, [1, 2, 3]),
        ([[2, 0], [1]], {}, [3, 1, 2]),
        ([[0, 1], [2]], {"names": ["a", "c", "b"]}, [1, 3, 2]),
    ],
)
def test_torchs_groups_are_counted_through(groups, options, right):
    opt = abc()
    theirs = {"state": sums(0, 1, 2), "param_groups": [{"params": group} for group in groups]}
    from_torch(opt, theirs, **options)
    assert [float(opt.state[name]["G"][0]) for name in "abc"] == right


def test_names_that_torch_kept_are_followed():
    opt = abc()
    groups = [{"params": [0, 1, 2], "param_names": ["c", "a", "b"]}]
    from_torch(opt, {"state": sums(0, 1, 2), "param_groups": groups})
    assert [float(opt.state[name]["G"][0]) for name in "abc"] == [2, 3, 1]


def test_a_parameter_without_state_has_taken_no_step():
    opt = abc(ao.Adam(0.1))
    one = {"step": 5.0, "exp_avg": np.ones(1), "exp_avg_sq": np.ones(1)}
    groups = [{"params": [0, 1, 2]}]
    from_torch(opt, {"state": {0: one, 2: {**one, "step": 3.0}}, "param_groups": groups})
    assert opt.t == 5
    alone = ao.Optimizer(np.zeros(1), ao.Adam(0.1))
    alone.step(np.ones(1))
    opt.step({name: np.ones(1) for name in "abc"})
    np.testing.assert_array_equal(opt.params["b"], alone.params)
    entries = opt.state_dict()["parameters"]
    assert [entries[name].get("behind", 0) for name in "abc"] == [0, 5, 2]


@pytest.mark.parametrize(
    ("theirs", "error", "words"),
    [
        (3, TypeError, "expected what state_dict"),
        ({"state": {}}, TypeError, "has no 'state' and 'param_groups'"),
        ({"state": {}, "param_groups": [3]}, TypeError, "expected what state_dict"),
        ({"state": {0: 3}, "param_groups": [{"params": [0, 1, 2]}]}, TypeError, "a dict"),
        ({"state": {}, "param_groups": [{"params": [0, 0, 1]}]}, ValueError, "each once"),
        ({"state": {0: {"step": 1.5, "sum": [1.0]}}, "param_groups": [{"params": [0, 1, 2]}]},
         ValueError, "step 1.5, expected a whole number"),
        ({"state": {0: {"step": np.nan}}, "param_groups": [{"params": [0, 1, 2]}]},
         ValueError, "step nan"),
        ({"state": {0: {"step": 1.0, "sum": "x"}}, "param_groups": [{"params": [0, 1, 2]}]},
         TypeError, "sum of <U1, expected numbers"),
        ({"state": {0: {"step": 1.0, "sum": np.ones(7)}}, "param_groups": [{"params": [0, 1, 2]}]},
         ValueError, "G of float64 and shape"),
    ],
)  # fmt: skip
def test_what_is_no_state_of_torch_changes_nothing(theirs, error, words):
    opt = abc()
    opt.step({name: np.ones(1) for name in "abc"})
    before = opt.state_dict()
    with pytest.raises(error, match=words):
        from_torch(opt, theirs)
    assert_same(opt.state_dict(), before)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (ao.AdaGrad(eps_inside=True), "AdaGrad.eps_inside is True, expected False: torch has"),
        (ao.RMSProp(momentum=0.5, nesterov=True), "RMSProp.nesterov is True"),
        (ao.Adam(eps_hat=True), "Adam.eps_hat is True"),
        (ao.Adamax(eps_inside=False), "Adamax.eps_inside is False, expected True"),
        (ao.AMSGrad(corrected_max=True), "AMSGrad.corrected_max is True"),
        (ao.AdaGrad(weight_decay=0.1, decoupled=True), "AdaGrad.decoupled is True, expected False"),
        (ao.SGD(), "method is SGD.* expected one of Momentum, AdaGrad"),
    ],
)
def test_what_torch_has_not_is_refused(method, words):
    opt = ao.Optimizer(np.ones(2), method)
    with pytest.raises(ValueError, match=words):
        to_torch(opt, tensor=np.asarray)


def test_the_state_of_another_method_changes_nothing():
    opt = ao.Optimizer(np.ones(2), ao.Adam())
    theirs = {"state": {0: {"step": 3.0, "sum": np.ones(2)}}, "param_groups": [{"params": [0]}]}
    with pytest.raises(ValueError, match=r"\['step', 'sum'\] for parameter 0, expected 'exp_avg'"):
        from_torch(opt, theirs)
    assert opt.t == 0


def test_the_state_of_another_number_of_parameters():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.Adam())
    with pytest.raises(ValueError, match="state_dict has 1 parameters, expected 2"):
        from_torch(opt, {"state": {}, "param_groups": [{"params": [0]}]})


# -- with torch ------------------------------------------------------------------------------------

PAIRS = {
    "Adagrad": (ao.AdaGrad(0.1, eps=1e-3), {"eps": 1e-3}),
    "RMSprop": (ao.RMSProp(0.1, 0.99, momentum=0.9), {"momentum": 0.9}),
    "Adadelta": (ao.AdaDelta(0.1), {}),
    "Adam": (ao.Adam(0.1, weight_decay=0.1), {"weight_decay": 0.1}),
    "AdamW": (ao.AdamW(0.1), {}),
    "Adamax": (ao.Adamax(0.1), {}),
    "NAdam": (ao.Nadam(0.1), {}),
}
PAIRS["amsgrad"] = (ao.AMSGrad(0.1), {"amsgrad": True})


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_runs_cross_over_with_torch_itself(name, dtype, request):
    torch = pytest.importorskip("torch")
    # NAdam keeps its product of momenta in the default dtype.
    before = torch.get_default_dtype()
    request.addfinalizer(lambda: torch.set_default_dtype(before))
    torch.set_default_dtype(getattr(torch, dtype))
    method, options = PAIRS[name]
    make = getattr(torch.optim, "Adam" if name == "amsgrad" else name)
    x = torch.ones(7, dtype=getattr(torch, dtype), requires_grad=True)
    theirs = make([x], lr=0.1, **options)
    y = np.ones(7, dtype)
    ours = ao.Optimizer(y, method)
    gs = GRADIENTS[:30].astype(dtype)

    def step_theirs(g):
        x.grad = torch.tensor(g)
        theirs.step()

    for g in gs[:10]:
        step_theirs(g)
    y[:] = x.detach().numpy()
    from_torch(ours, theirs.state_dict())
    for g in gs[10:20]:
        step_theirs(g)
        ours.step(g)
    tolerance = {"rtol": 1e-4 if dtype == "float32" else 1e-12}
    np.testing.assert_allclose(y, x.detach().numpy(), **tolerance)
    theirs = make([x], lr=99.0)
    theirs.load_state_dict(to_torch(ours))
    with torch.no_grad():
        x[:] = torch.tensor(y)
    for g in gs[20:]:
        step_theirs(g)
        ours.step(g)
    np.testing.assert_allclose(y, x.detach().numpy(), **tolerance)
