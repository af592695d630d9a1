"""SciPy's own tests of its minimisers, run against ours; what does not fit is left out by name.

A test of SciPy runs as it is: its module sees a stand-in for `scipy.optimize` whose `minimize`
(and `fmin_tnc`, `fmin_l_bfgs_b`, `fmin_bfgs`) hands the problem to one of our methods, whichever
solver the test names. Ours are the method and, in `RUN`, options that replace the test's: a budget
that is right for Newton steps is not right for gradient steps. The assertions are SciPy's.
"""

import inspect
import itertools
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
import scipy
import scipy.optimize

import adaptopt as ao
from adaptopt.schedules import exponential

# SciPy's tests carry marks that --strict-markers does not know; without a configuration pytest
# makes them unasked.
with mock.patch.object(pytest.mark, "_config", None):
    test_optimize = pytest.importorskip(
        "scipy.optimize.tests.test_optimize", exc_type=ImportError, reason="SciPy without tests"
    )
    test_tnc = pytest.importorskip("scipy.optimize.tests.test_tnc", exc_type=ImportError)

pytestmark = [
    # By contract a run says what finite differences cost, and that it uses no Hessian.
    pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Method .* does not use Hessian:RuntimeWarning"),
]

WRITTEN_FOR = (1, 17)
DISP = ("TestOptimizeWrapperDisp", "TestOptimizeWrapperNoDisp")
NO_WRAPPER = ("TestOptimizeNoWrapperDisp", "TestOptimizeNoWrapperNoDisp")


# -- what runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The methods that take a test of SciPy, and the options that replace the test's."""

    methods: tuple[ao.Method, ...]
    options: dict[str, Any] = field(default_factory=dict)


def each(classes: tuple[str, ...], names: str) -> list[str]:
    return [f"{cls}.{name}" for cls in classes for name in names.split()]


# Gradients of order 1 and curvatures of order 0.1 to 10: any method with an everyday rate.
EASY = (ao.AdaGrad(1.0), ao.RMSProp(exponential(0.3, 0.95)), ao.Momentum(0.5, momentum=0.3))
# Curvatures of order 1 to 1000: the flat valleys of Rosenbrock's and Wood's functions.
VALLEY = (ao.RMSProp(exponential(0.03, 0.998), momentum=0.9), ao.Momentum(5e-4, momentum=0.95))
ROSEN = (ao.AdaGrad(0.5), *VALLEY)
# The run may be short: the test looks at what is reported, not at the solution.
SHORT = (ao.AdaGrad(0.1), ao.RMSProp(0.01), ao.Momentum(1e-4))

RUN = {
    # test_optimize.py, the maximum-entropy problem
    "TestOptimizeWrapperDisp.test_cg_cornercase": Run((ao.AdaGrad(1.0),)),
    **dict.fromkeys(each(DISP, "test_powell_bounded"), Run(EASY, {"gtol": 1e-3})),
    **dict.fromkeys(each(DISP, "test_cobyqa"), Run((ao.SGD(4.0),), {"gtol": 1e-3})),
    "TestOptimizeWrapperDisp.test_neldermead_x0_ub": Run(
        (ao.AdaGrad(2.0), ao.RMSProp(1.0), ao.Momentum(0.6))
    ),
    "TestOptimizeWrapperDisp.test_ncg_zero_xtol": Run(EASY, {"gtol": 1e-8}),
    "TestOptimizeSimple.test_finite_differences_jac": Run(EASY),
    "TestOptimizeSimple.test_bfgs_gh_2169": Run((ao.AdaGrad(1.0),)),
    "TestOptimizeSimple.test_bfgs_double_evaluations": Run(EASY[:1]),
    "TestOptimizeSimple.test_l_bfgs_b_numjac": Run(EASY),
    "TestOptimizeSimple.test_l_bfgs_b_funjac": Run(EASY),
    "TestOptimizeSimple.test_minimize_l_bfgs_b": Run(EASY),
    "TestOptimizeSimple.test_minimize_l_bfgs_b_ftol": Run((ao.SGD(4.0),), {"gtol": None}),
    "TestOptimizeSimple.test_minimize_l_bfgs_b_maxfun_interruption": Run((ao.AdaGrad(100.0),)),
    "TestOptimizeSimple.test_minimize_tol_parameter": Run(
        (*EASY[:2], ao.Momentum(0.01)), {"maxiter": 300}
    ),
    "TestOptimizeSimple.test_minimize_callback_copies_array": Run(SHORT),
    "TestOptimizeSimple.test_no_increase": Run(EASY),
    "TestOptimizeSimple.test_respect_maxiter": Run(SHORT),
    "TestOptimizeSimple.test_minimize_coerce_args_param": Run(EASY),
    "TestOptimizeSimple.test_nan_values": Run(EASY),
    "TestOptimizeSimple.test_duplicate_evaluations": Run(EASY),
    "TestOptimizeSimple.test_callback_stopiteration": Run(SHORT),
    "TestOptimizeSimple.test_minimize_invalid_bounds": Run(EASY[:1]),
    "TestOptimizeSimple.test_minimize_warnings_gh1953": Run(SHORT[:1]),
    # test_optimize.py, bounds
    "test_minimize_with_scalar": Run(
        (ao.AdaGrad(10.0), ao.RMSProp(exponential(3.0, 0.95)), ao.Momentum(0.4, momentum=0.3))
    ),
    "test_onesided_bounded_powell_stability": Run((ao.AdaGrad(1e6),)),
    "TestLBFGSBBounds.test_l_bfgs_b_bounds": Run(EASY, {"gtol": 5e-7}),
    "TestLBFGSBBounds.test_l_bfgs_b_funjac": Run(EASY, {"gtol": 5e-7}),
    "TestLBFGSBBounds.test_minimize_l_bfgs_b_bounds": Run(EASY, {"gtol": 5e-7}),
    "TestLBFGSBBounds.test_minimize_l_bfgs_b_incorrect_bounds": Run(EASY[:1]),
    "TestLBFGSBBounds.test_minimize_l_bfgs_b_bounds_FD": Run(EASY, {"gtol": 5e-7}),
    # Finite differences of f = 1289 are exact to about 1e-4.
    "test_equal_bounds": Run((ao.AdaGrad(0.5), ao.RMSProp(exponential(0.1, 0.95))), {"gtol": 1e-3}),
    "test_all_bounds_equal": Run(EASY[:1]),
    "test_bounds_with_list": Run(SHORT, {"maxiter": 100}),
    "test_gh12594": Run(EASY),
    # test_optimize.py, the rest
    "test_obj_func_returns_scalar": Run(EASY[:1]),
    "test_neldermead_respect_fp": Run(SHORT, {"maxiter": 100}),
    "TestNewtonCg.test_rosenbrock": Run(ROSEN, {"maxiter": 20_000}),
    # Four minima: where plain momentum ends from here is luck.
    "TestNewtonCg.test_himmelblau": Run(EASY[:2]),
    "TestNewtonCg.test_finite_difference": Run(ROSEN, {"maxiter": 20_000}),
    "TestNewtonCg.test_hessian_update_strategy": Run(ROSEN, {"maxiter": 20_000}),
    "TestOptimizeResultAttributes.test_attributes_present": Run(SHORT, {"maxiter": 20}),
    "test_cobyla_threadsafe": Run((ao.SGD(0.5), ao.AdaGrad(1.0))),
    "test_result_x_shape_when_len_x_is_one": Run(EASY),
    "test_x_overwritten_user_function": Run(EASY),
    "test_gh12513_trustregion_exact_infinite_loop": Run((ao.Momentum(1e-5),)),
    "TestAnnotations.test_callable_annotations": Run(SHORT, {"maxiter": 5}),
    # test_tnc.py
    "TestTnc.test_raising_exceptions": Run(EASY[:1], {"maxfev": None}),
    "TestTnc.test_callback_shouldnt_affect_minimization": Run(SHORT, {"maxiter": 100}),
}
TNC = {
    "1": Run(VALLEY),
    "1b": Run(VALLEY),
    "1c": Run(VALLEY),
    "2": Run((ao.AdaGrad(1.0), VALLEY[0], ao.Momentum(2e-4, momentum=0.9, nesterov=True))),
    "3": Run((ao.AdaGrad(5.0),), {"gtol": 1e-7}),
    "4": Run(EASY),
    "5": Run(EASY),
    "38": Run((VALLEY[0], ao.Momentum(20.0, momentum=0.95, nesterov=True)), {"gtol": 1e-8}),
    "45": Run(EASY),
}
for problem, run in TNC.items():
    for name in (f"test_minimize_tnc{problem}", f"test_tnc{problem}"):
        RUN[f"TestTnc.{name}"] = Run(run.methods, {"maxfev": None, **run.options})


# -- what is left out, and why ---------------------------------------------------------------------

COUNTS = (
    "pins evaluation counts and iterates of one solver (such as exactly 10 calls of f for BFGS), "
    "which another algorithm cannot have"
)
FMIN = "calls an old fmin_* function of another solver; the cases of minimize run"
SAME_CALL = "does not look at what its class varies: the call is the one of TestOptimizeWrapperDisp"
SAME_CALL_OF_ANOTHER = "differs from another case in the name of the solver only, which is ignored"
EMPTY_BODY = "has an empty body without the wrapper"
LINE_SEARCH = "tests a line search or its constants c1, c2, maxls; our methods have no line search"
INVERSE_HESSIAN = "tests hess_inv0, the first inverse Hessian of BFGS; our methods keep none"
SIMPLEX = "tests the simplex of Nelder-Mead (initial_simplex, adaptive, xatol), a method without g"
DIRECTIONS = "tests the direction set of Powell's method, a method without gradients"
SCALAR = "tests minimize_scalar, bracket or one of their solvers: scalar minimisation"
HELPER = "tests a function of SciPy that is no minimiser (rosen, check_grad, show_options, ...)"
INTERNAL = "tests a private helper of SciPy's minimisers that our methods do not go through"
GLOBAL = "tests a global optimiser without naming a local method; see test_scipy_front_ends.py"
CONSTRAINTS = "needs constraints; ours are refused with a ValueError, only bounds are supported"
WORKERS = "tests options['workers'], SciPy's parallel finite differences, which ours do not have"
FINITE_BEST = (
    "wants f(x) to be NaN or -inf at the result; ours is the best finite iterate by contract"
)
X0_REFUSED = "starts at NaN, which is refused with a ValueError instead of being handed back"
STRICT_MAXITER = (
    "wants maxiter -1 or 100.1 to be taken; ours must be a whole number >= 0, or a ValueError says "
    "which option is wrong"
)
CUSTOM = "tests how SciPy hands arguments to a custom method of the test's own, not a minimiser"
ANOTHER_FRONT_END = "annotates callables for a function that is not minimize"

LEFT_OUT = dict(
    itertools.chain.from_iterable(
        ((name, reason) for name in names)
        for reason, names in [
            (
                COUNTS,
                each(DISP, "test_bfgs test_cg test_ncg test_ncg_hess test_ncg_hessp")
                + ["TestOptimizeSimple.test_l_bfgs_b"],
            ),
            (
                COUNTS + "; without the wrapper it calls fmin_*",
                each(NO_WRAPPER, "test_bfgs test_cg test_ncg test_ncg_hess test_ncg_hessp"),
            ),
            (
                INVERSE_HESSIAN,
                each(
                    DISP + NO_WRAPPER,
                    "test_bfgs_hess_inv0_neg test_bfgs_hess_inv0_sanity "
                    "test_bfgs_hess_inv0_semipos",
                ),
            ),
            (
                LINE_SEARCH,
                each(DISP + NO_WRAPPER, "test_bfgs_c1 test_bfgs_c2 test_invalid_c1_c2")
                + ["TestOptimizeSimple.test_minimize_l_bfgs_maxls"],
            ),
            (
                "compares step counts under BFGS's xrtol; our test of the step is xtol, absolute",
                each(DISP + NO_WRAPPER, "test_bfgs_xrtol"),
            ),
            (
                FINITE_BEST,
                each(DISP + NO_WRAPPER, "test_bfgs_infinite")
                + ["TestOptimizeSimple.test_bfgs_nan_return"],
            ),
            (X0_REFUSED, ["TestOptimizeSimple.test_bfgs_nan"]),
            (
                DIRECTIONS,
                each(DISP + NO_WRAPPER, "test_powell test_powell_gh14014")
                + ["test_bounded_powell_outsidebounds"],
            ),
            (
                "pins the local minimum (f = 0.00714) that Powell's method falls into without "
                "bounds, and that it finds another one with them",
                ["test_bounded_powell_vs_powell"],
            ),
            (
                SIMPLEX,
                each(
                    DISP + NO_WRAPPER,
                    "test_neldermead test_neldermead_initial_simplex "
                    "test_neldermead_initial_simplex_bad",
                )
                + ["test_neldermead_xatol_fatol", "test_neldermead_adaptive"],
            ),
            ("counts the iterations of Nelder-Mead's simplex", ["test_neldermead_iteration_num"]),
            (
                STRICT_MAXITER,
                each(DISP + NO_WRAPPER, "test_ncg_negative_maxiter")
                + ["test_minimize_maxiter_noninteger"],
            ),
            (
                SAME_CALL,
                each(
                    (DISP[1], *NO_WRAPPER),
                    "test_cg_cornercase test_ncg_zero_xtol test_neldermead_x0_ub",
                ),
            ),
            (EMPTY_BODY, each(NO_WRAPPER, "test_powell_bounded test_cobyqa")),
            (
                "wants nfev to be exactly maxfev or more; a step by finite differences takes "
                "n + 1 evaluations or more at once, and ours never exceed maxfev",
                [
                    "test_maxfev_test",
                    *each(("TestIterationLimits",), "test_neldermead_limit test_powell_limit"),
                ],
            ),
            (
                "passes fmin_bfgs an epsilon vector, the steps of its finite differences; ours "
                "are SciPy's automatic ones",
                ["TestOptimizeSimple.test_bfgs_numerical_jacobian"],
            ),
            (CUSTOM, each(("TestOptimizeSimple",), "test_custom test_gh10771")),
            (
                "needs second-order methods, and errors from those that get no Hessian",
                ["TestOptimizeSimple.test_finite_differences_hess"],
            ),
            (
                "wants the same number of Hessian evaluations (nhev) from dense and sparse ones",
                ["test_sparse_hessian"],
            ),
            (
                "wants 3 iterations and a first step of 1.01, the length of BFGS's first line "
                "search, for gradients from 1e-50 to 1e50",
                ["TestOptimizeSimple.test_initial_step_scaling"],
            ),
            (
                "pins the message of L-BFGS-B and that x is the last iterate; ours is the best one",
                ["TestOptimizeSimple.test_l_bfgs_b_maxiter"],
            ),
            (
                "tests which solver is chosen where none is named, with constraints too",
                ["TestOptimizeSimple.test_minimize_automethod"],
            ),
            (
                "wants an error for an x0 of two dimensions; ours takes x0 of any shape",
                ["TestOptimizeSimple.test_ndim_error"],
            ),
            (
                "wants the RuntimeWarning of Nelder-Mead and Powell's method; the warning of the "
                "gradient methods is tested by test_minimize_warnings_gh1953",
                ["TestOptimizeSimple.test_runtime_warning"],
            ),
            (
                CONSTRAINTS,
                [
                    "TestOptimizeSimple.test_respect_maxiter_trust_constr_ineq_constraints",
                    "TestOptimizeSimple.test_slsqp_respect_bounds",
                    "test_minimize_multiple_constraints",
                    "test_eb_constraints",
                ],
            ),
            (
                SCALAR,
                each(
                    ("TestOptimizeScalar",),
                    "test_brent test_disp test_fminbound test_fminbound_scalar test_gh11207 "
                    "test_golden test_minimize_non_finite_bounds_gh10911 test_minimize_scalar "
                    "test_minimize_scalar_coerce_args_param test_minimize_scalar_custom "
                    "test_minimize_scalar_defaults_gh10911 "
                    "test_minimize_scalar_dimensionality_gh16196 "
                    "test_minimize_scalar_warnings_gh1953 "
                    "test_minimize_unbounded_method_with_bounds_gh10911 test_nan_values "
                    "test_result_attributes",
                )
                + each(
                    ("TestBracket",),
                    "test_errors_and_status_false test_minimize_scalar_success_false",
                )
                + ["test_brent_negative_tolerance", "test_gh12696"],
            ),
            (
                LINE_SEARCH + "; this is Powell's",
                [
                    "test_line_for_search",
                    "test_linesearch_powell",
                    "test_linesearch_powell_bounded",
                ],
            ),
            (DIRECTIONS + ", through fmin_powell", ["test_powell_limits", "test_powell_output"]),
            (
                HELPER,
                [
                    "test_check_grad",
                    *each(("TestRosen",), "test_hess_prod test_rosen test_rosen_der"),
                    "test_show_options",
                    "test_approx_fprime",
                ],
            ),
            (
                INTERNAL,
                [
                    "test_wrap_scalar_function_with_validation",
                    "test_memoize_jac_function_before_gradient",
                    "test_memoize_jac_gradient_before_function",
                    "test_memoize_jac_with_bfgs",
                    "test_multiprocessing_too_many_open_files_23080",
                ],
            ),
            (
                GLOBAL,
                each(
                    ("TestBrute",),
                    "test_1D test_brute test_coerce_args_param test_runtime_warning test_workers",
                )
                + ["TestGlobalOptimization.test_optimize_result_attributes"],
            ),
            (WORKERS, each(("TestWorkers",), "test_equal_bounds test_smoke")),
            (
                ANOTHER_FRONT_END,
                each(
                    ("TestAnnotations",),
                    "test_basinhopping_annotations test_brute_annotations "
                    "test_curve_fit_annotations test_differential_evolution_annotations",
                ),
            ),
        ]
    )
)

# The rest of these tests runs: reason -> whether a set of parameters is left out for it.
PARTS_LEFT_OUT = {
    "TestOptimizeSimple.test_minimize_callback_copies_array": {
        FMIN: lambda method: method.startswith("fmin") and method != "fmin_tnc",
    },
    "TestOptimizeSimple.test_no_increase": {
        "is an expected failure of SLSQP": lambda method: method == "slsqp",
    },
    "TestOptimizeSimple.test_respect_maxiter": {
        "pins the status that SLSQP (9) or COBYQA (6) has for maxiter": lambda method: (
            method in ("SLSQP", "cobyqa")
        ),
    },
    "TestOptimizeSimple.test_callback_stopiteration": {
        "pins a status, message or count that this one solver has and the others have not": (
            lambda method, new_cb_interface: (
                method in ("nelder-mead", "trust-constr", "cobyqa", "cobyla")
            )
        ),
    },
    "TestOptimizeSimple.test_minimize_warnings_gh1953": {
        "wants the RuntimeWarning of Powell's method instead": lambda method: method == "powell",
    },
    "test_all_bounds_equal": {CONSTRAINTS: lambda method: method == "SLSQP"},
    "test_equal_bounds": {
        CONSTRAINTS: lambda constraints, **rest: bool(constraints[0]),
    },
}


# Of each of these tests, the solvers for which SciPy makes a call of its own; the stand-in ignores
# the name, so that the others repeat one of these.
SOLVERS_APART = {
    "TestAnnotations.test_callable_annotations": ("Nelder-Mead", "CG", "Newton-CG"),
    "TestOptimizeSimple.test_callback_stopiteration": ("powell",),
    "TestOptimizeSimple.test_duplicate_evaluations": ("nelder-mead", "dogleg"),
    "TestOptimizeSimple.test_minimize_callback_copies_array": (
        *("fmin_tnc", "nelder-mead", "newton-cg", "tnc", "cobyla", "trust-constr"),
    ),
    "TestOptimizeSimple.test_minimize_invalid_bounds": ("nelder-mead",),
    "TestOptimizeSimple.test_minimize_warnings_gh1953": ("bfgs",),
    "TestOptimizeSimple.test_nan_values": ("nelder-mead", "newton-cg", "tnc", "dogleg"),
    "TestOptimizeSimple.test_no_increase": ("nelder-mead", "cg", "tnc"),
    "TestOptimizeSimple.test_respect_maxiter": ("Nelder-Mead", "Newton-CG", "trust-constr"),
    "test_all_bounds_equal": ("L-BFGS-B",),
    "test_equal_bounds": ("L-BFGS-B",),
    "test_minimize_with_scalar": ("l-bfgs-b",),
}


# -- how it runs -----------------------------------------------------------------------------------


OPTIONS_OF_ONE_SOLVER = ("finite_diff_rel_step", "subproblem_maxiter")


class StandIn:
    """`scipy.optimize` to the tests, with our method behind ``minimize`` and three ``fmin_*``."""

    def __init__(self, minimize: Any, method: ao.Method, options: dict[str, Any]) -> None:
        self._minimize, self._method, self._options = minimize, method, options

    def __getattr__(self, name: str) -> Any:
        return getattr(scipy.optimize, name)

    def minimize(self, fun, x0, args=(), method=None, *rest, options=None, **keywords):
        options = dict(options or {})
        if "maxfun" in options:
            options["maxfev"] = options.pop("maxfun")
        for name in OPTIONS_OF_ONE_SOLVER:
            options.pop(name, None)
        options |= self._options
        return self._minimize(fun, x0, args, self._method, *rest, options=options, **keywords)

    def fmin_bfgs(self, fun, x0, disp):
        return self.minimize(fun, x0).x

    def fmin_l_bfgs_b(self, fun, x0, fprime=None, args=(), approx_grad=False, **rest):
        result = self._fmin(fun, x0, fprime, args, approx_grad, **rest)
        return result.x, result.fun, {"warnflag": result.status, "task": result.message}

    def fmin_tnc(self, fun, x0, fprime=None, args=(), approx_grad=False, messages=0, **rest):
        result = self._fmin(fun, x0, fprime, args, approx_grad, **rest)
        return result.x, result.nfev, result.status

    def _fmin(self, fun, x0, fprime, args, approx_grad, bounds=None, callback=None, **options):
        jac = None if approx_grad else fprime or True
        return self.minimize(
            fun, x0, args, jac=jac, bounds=bounds, callback=callback, options=options
        )


@dataclass(frozen=True)
class Case:
    """A test of SciPy with one set of its parameters."""

    module: Any
    cls: type | None
    function: Any
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        prefix = f"{self.cls.__name__}." if self.cls else ""
        return prefix + self.function.__name__

    @property
    def label(self) -> str:
        return "-".join([self.name, *(v for v in self.parameters.values() if isinstance(v, str))])

    @property
    def marks(self) -> list[Any]:
        marks = [*getattr(self.cls, "pytestmark", ()), *getattr(self.function, "pytestmark", ())]
        return [mark for mark in marks if mark.name == "filterwarnings"]

    def reason_left_out(self) -> str | None:
        if self.name in LEFT_OUT:
            return LEFT_OUT[self.name]
        for reason, unfit in PARTS_LEFT_OUT.get(self.name, {}).items():
            if unfit(**self.parameters):
                return reason
        apart = SOLVERS_APART.get(self.name)
        if apart and self.parameters["method"] not in apart:
            return SAME_CALL_OF_ANOTHER
        return None

    def run(self) -> None:
        if self.cls is None:
            self.function(**self.parameters)
            return
        instance = self.cls()
        if hasattr(instance, "setup_method"):
            instance.setup_method()
        self.function(instance, **self.parameters)


def parameter_sets(*owners: Any) -> list[dict[str, Any]]:
    """Multiply out the ``parametrize`` marks of a class and a function."""
    axes = []
    for mark in itertools.chain.from_iterable(getattr(o, "pytestmark", ()) for o in owners):
        if mark.name == "parametrize":
            names, values = mark.args[:2]
            names = [n.strip() for n in names.split(",")] if isinstance(names, str) else names
            rows = (getattr(v, "values", v) if len(names) > 1 else (v,) for v in values)
            axes.append([dict(zip(names, row, strict=True)) for row in rows])
    return [{k: v for d in chosen for k, v in d.items()} for chosen in itertools.product(*axes)]


def cases_of(module: Any) -> list[Case]:
    """Collect what pytest would."""
    cases = []
    for name, member in vars(module).items():
        if inspect.isfunction(member) and name.startswith("test"):
            cases += [Case(module, None, member, p) for p in parameter_sets(member)]
        elif inspect.isclass(member) and name.startswith("Test"):
            for method_name, method in inspect.getmembers(member, inspect.isfunction):
                if method_name.startswith("test"):
                    cases += [
                        Case(module, member, method, p) for p in parameter_sets(member, method)
                    ]
    return cases


FRONT_ENDS = {"adaptopt": ao.minimize, "scipy": scipy.optimize.minimize}
CASES = [*cases_of(test_optimize), *cases_of(test_tnc)]


def runs() -> Any:
    """Every case that runs, with every method that takes it, through both front ends."""
    for case in CASES:
        if case.name not in RUN or case.reason_left_out():
            continue
        for method in RUN[case.name].methods:
            for package, front_end in FRONT_ENDS.items():
                label = "-".join([case.label, type(method).__name__, package])
                yield pytest.param(case, method, front_end, marks=case.marks, id=label)


@pytest.mark.parametrize(("case", "method", "front_end"), [*runs()])
def test_passes_the_test_of_scipy(case, method, front_end, monkeypatch):
    stand_in = StandIn(front_end, method, RUN[case.name].options)
    monkeypatch.setattr(case.module, "optimize", stand_in)
    case.run()


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) != WRITTEN_FOR,
    reason="the tables are written for another SciPy",
)
def test_every_test_of_scipy_runs_or_has_a_reason():
    silent = {c.name for c in CASES if c.name not in RUN and not c.reason_left_out()}
    assert not silent


def test_no_test_of_scipy_is_both_run_and_left_out():
    assert not RUN.keys() & LEFT_OUT.keys()


def test_every_reason_is_a_sentence():
    parts = itertools.chain.from_iterable(PARTS_LEFT_OUT.values())
    assert all(len(reason.split()) > 2 for reason in [*LEFT_OUT.values(), *parts])
