"""Any sequence of calls of an `Optimizer`, against one without kernels, tables or buffers.

CI runs some hundred sequences; ``ADAPTOPT_SEQUENCES=5000 pytest -n0 tests/test_any_calls.py`` runs
as many for each set of methods.
"""

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive import NaiveOptimizer
from scipy import sparse

import adaptopt as ao

SEQUENCES = int(os.environ.get("ADAPTOPT_SEQUENCES", "25"))

SHAPES = {"table": (3, 2), "other": (3, 2), "w": (4,)}


def falling(t):
    return 0.1 / t


MOVING = ao.RMSProp(falling, rho=0.5, momentum=0.5, lr_inside=True)
RESTING = ao.AdaGrad(0.1)
DECAYING = ao.RMSProp(falling, rho=0.5, weight_decay=0.5, decoupled=True)
SETS = {
    "one group": dict.fromkeys(SHAPES, MOVING),
    "groups": {"table": MOVING, "other": DECAYING, "w": ao.Nadam(0.1)},
    "a penalty": dict.fromkeys(SHAPES, RESTING),
    "one number for all": dict.fromkeys(SHAPES, ao.AdaGradNorm(0.5)),
}
PROXES = {"a penalty": {"table": ao.L1(0.05), "other": ao.L1(0.05), "w": ao.Box(-0.5, 0.5)}}

rows = st.lists(st.integers(0, 2), max_size=4)
seeds = st.integers(0, 99)
tables = st.sampled_from(["table", "other"])


def draw(seed, shape):
    return np.random.default_rng(seed).integers(-2, 3, shape) / 2.0


class AnyCalls(RuleBasedStateMachine):
    """What may be called, in any order; each is done to both."""

    kind = "one group"

    @initialize(options=st.sampled_from([{}, {"clip_norm": 1.0}, {"nan_policy": "skip"}]))
    def make(self, options):
        methods, proxes = SETS[self.kind], PROXES.get(self.kind)
        self.made_with = options
        self.opt = self.another()
        self.naive = NaiveOptimizer(
            {name: draw(7, shape) for name, shape in SHAPES.items()},
            methods,
            proxes or {},
            options.get("clip_norm"),
            bool(options),
        )
        self.saved = None

    def another(self):
        params = {name: draw(7, shape) for name, shape in SHAPES.items()}
        return ao.Optimizer(params, SETS[self.kind], PROXES.get(self.kind), **self.made_with)

    def step(self, given, whole):
        """Take a step along what is given, which stands for these whole gradients or None."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of steps that are skipped
            self.opt.step(given)
        self.naive.step(whole)

    @rule(seed=seeds)
    def step_all(self, seed):
        gs = {name: draw(seed, shape) for name, shape in SHAPES.items()}
        self.step(gs, gs)

    @rule(seed=seeds)
    def step_in_place(self, seed):
        gs = {name: draw(seed, shape) for name, shape in SHAPES.items()}
        for name, place in self.opt.grads.items():
            place[...] = gs[name]
        self.step(self.opt.grads, gs)

    @rule(seed=seeds, names=st.sets(st.sampled_from(list(SHAPES))), named=st.booleans())
    def step_some(self, seed, names, named):
        gs = {name: draw(seed, shape) if name in names else None for name, shape in SHAPES.items()}
        self.step(gs if named else {n: g for n, g in gs.items() if g is not None}, gs)

    @rule(seed=seeds, places=rows, name=tables, others=st.booleans(), csr=st.booleans())
    def step_rows(self, seed, places, name, others, csr):
        values = draw(seed, (len(places), 2))
        whole = np.zeros(SHAPES[name])
        np.add.at(whole, places, values)
        pair = (np.array(places, np.int64), values)
        given = {name: sparse.csr_matrix(whole) if csr else pair}
        gs = dict.fromkeys(SHAPES) | {name: whole}
        if others:
            gs |= {other: draw(seed, SHAPES[other]) for other in SHAPES if other != name}
            given = gs | given
        self.step(given, gs)

    @rule(seed=seeds, places=rows, name=tables)
    def step_rows_by_name(self, seed, places, name):
        if self.kind == "one number for all":
            return
        values = draw(seed, (len(places), 2))
        whole = np.zeros(SHAPES[name])
        np.add.at(whole, places, values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.opt.step_rows(np.array(places, np.int64), values, name)
        self.naive.step(dict.fromkeys(SHAPES) | {name: whole})

    @rule(name=tables, by_rows=st.booleans())
    def step_that_is_skipped(self, name, by_rows):
        if not self.made_with:
            return
        bad = np.full(SHAPES[name], np.nan)
        gs = dict.fromkeys(SHAPES) | {name: bad}
        self.step({name: ([0, 1, 2], bad)} if by_rows else gs, gs)

    @rule(name=tables, by_rows=st.booleans())
    def step_that_is_refused(self, name, by_rows):
        bad = ([0, 3], np.ones((2, 2))) if by_rows else np.ones(3)
        whole = {other: np.ones(shape) for other, shape in SHAPES.items()}
        with pytest.raises(ValueError, match="grads"):
            self.opt.step(whole | {name: bad})
        with pytest.raises(ValueError, match="grads"):
            self.opt.step_rows([0], np.ones((2, 2)), name)

    @rule(places=rows, name=tables)
    def catch_up(self, places, name):
        self.opt.catch_up(places, name)
        np.testing.assert_allclose(
            self.opt.params[name][places], self.naive.params[name][places], rtol=1e-9, atol=1e-12
        )

    @rule()
    def flush(self):
        self.opt.flush()

    @rule()
    def save(self):
        self.saved = self.opt.state_dict(), copy.deepcopy(self.naive)

    @rule(fresh=st.booleans())
    def load(self, fresh):
        if self.saved is None:
            return
        state, naive = self.saved
        self.opt = self.another() if fresh else self.opt
        self.opt.load_state_dict(state)
        self.naive = copy.deepcopy(naive)

    @rule()
    def load_that_is_refused(self):
        state = self.opt.state_dict()
        state["parameters"]["w"]["params"] = np.ones(5)
        with pytest.raises(ValueError, match="expected"):
            self.opt.load_state_dict(state)

    @rule(by_pickle=st.booleans())
    def copy(self, by_pickle):
        before = self.opt
        self.opt = pickle.loads(pickle.dumps(before)) if by_pickle else copy.deepcopy(before)

    @rule()
    def reset(self):
        self.opt.reset()
        self.naive.reset()

    @rule(name=tables)
    def ask_for_rates(self, name):
        self.opt.learning_rates(name)

    @invariant()
    def counts_are_the_same(self):
        assert (self.opt.t, self.opt.skipped) == (self.naive.t, self.naive.skipped)

    def teardown(self):
        self.opt.flush()
        for name, x in self.naive.params.items():
            np.testing.assert_allclose(self.opt.params[name], x, rtol=1e-9, atol=1e-12)
            for slot, expected in zip(
                SETS[self.kind][name].slots, self.naive.slots[name], strict=True
            ):
                ours = self.opt.state[name][slot]
                np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
            scalars = tuple(self.opt.scalars[name].values())
            np.testing.assert_allclose(scalars, self.naive.scalars_of(name), rtol=1e-12)


@pytest.mark.parametrize("kind", SETS)
def test_any_sequence_of_calls_is_that_of_the_naive_optimizer(kind, request):
    if kind != "one group":  # what it calls is the same, but for the kernels
        request.getfixturevalue("in_python")
    machine = type("Calls", (AnyCalls,), {"kind": kind})
    machine.TestCase.settings = settings(
        max_examples=SEQUENCES,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase("runTest").runTest()
