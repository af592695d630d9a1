"""Plots of how a run went, with Matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["history", "rates", "regret"]

POINTS = 200  # of the curve of one parameter's rates


def history(res: object, ax: Axes | None = None) -> Axes:
    """Plot the course of a run: its loss, and if they are known its gradients and its rates.

    Parameters
    ----------
    res : OptimizeResult
        A result of `minimize` or `minimize_finite_sum` with ``options={"history": True}``, or with
        a number of steps between two records. The option ``history_rates`` adds the rates.
    ax : matplotlib Axes, optional
        Where to plot the loss, and nothing else. By default in a new figure, which has a panel for
        each quantity.

    Returns
    -------
    matplotlib.axes.Axes
        The panel of the loss. ``ax.figure.axes`` holds all panels.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    TypeError, ValueError
        If ``res`` is no result, or has no history.

    Notes
    -----
    The scale of the loss is logarithmic if all losses are above 0. The gradient's norm is the
    largest absolute component. Of the effective learning rates, the median, the quartiles and the
    extremes over all coordinates are shown.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> from scipy.optimize import rosen, rosen_der
    >>> options = {"history": True, "history_rates": 5}
    >>> res = ao.minimize(rosen, [-1.2, 1.0], jac=rosen_der, options=options)
    >>> ax = ao.plot.history(res)
    >>> [panel.get_ylabel() for panel in ax.figure.axes]
    ['loss', 'largest gradient', 'effective rate']
    """
    course = getattr(res, "history", None)
    if not isinstance(course, dict) or not {"t", "fun"} <= course.keys():
        raise (TypeError if not hasattr(res, "x") else ValueError)(
            f"res is {_short(res)}, expected a result with a history: options={{'history': True}}"
        )
    panels = ["fun"]
    if ax is None:
        panels += [name for name in ("gradient_norm", "rates_t") if len(course.get(name, ()))]
    axes = _panels(len(panels)) if ax is None else [ax]
    axes[0].plot(course["t"], course["fun"], color="C0")
    axes[0].set_ylabel("loss")
    _logarithmic_if_positive(axes[0], course["fun"])
    for name, panel in zip(panels[1:], axes[1:], strict=True):
        if name == "gradient_norm":
            panel.plot(course["t"], course[name], color="C1")
            panel.set_ylabel("largest gradient")
            _logarithmic_if_positive(panel, course[name])
        else:
            _plot_quantiles(panel, course)
    axes[-1].set_xlabel("step")
    return axes[0]


def rates(opt: Any, ax: Axes | None = None) -> Axes:
    """Plot the effective learning rates of the last step, sorted, a curve for each parameter.

    Parameters
    ----------
    opt : Optimizer or OptimizeResult
        An optimizer that has taken a step, or the result of a run.
    ax : matplotlib Axes, optional
        Where to plot. By default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The plot: the share of coordinates whose rate is at most the value on the vertical axis.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    TypeError, ValueError
        If ``opt`` has no rates, or no step has been taken.

    Examples
    --------
    A rare coordinate keeps the rate that a frequent one loses:

    >>> import numpy as np, adaptopt as ao
    >>> opt = ao.Optimizer(np.zeros(2), ao.AdaGrad(lr=0.1))
    >>> for t in range(100):
    ...     opt.step(np.array([1.0, t % 50 == 0]))
    >>> opt.learning_rates().round(3)
    array([0.01 , 0.071])
    >>> ao.plot.rates(opt).get_ylabel()
    'effective rate'
    """
    found = getattr(opt, "learning_rates", None)
    if callable(found):
        names = list(opt.params) if hasattr(opt.params, "keys") else []
        curves = {name: found(name) for name in names} or {"": found()}
    elif found is not None:
        curves = {"": found}
    else:
        raise TypeError(f"opt is {_short(opt)}, expected an Optimizer or a result with rates")
    shown = {name: _finite(values) for name, values in curves.items()}
    if not any(values.size for values in shown.values()):
        raise ValueError(f"opt is {_short(opt)}, expected one that has taken a step")
    axes = _panels(1)[0] if ax is None else ax
    for name, values in shown.items():
        if values.size:
            shares = np.linspace(0.0, 1.0, min(POINTS, max(values.size, 2)))
            axes.plot(shares, np.quantile(values, shares), label=name or None)
    if len(shown) > 1:
        axes.legend()
    _logarithmic_if_positive(axes, np.concatenate([*shown.values()]))
    axes.set_xlabel("share of coordinates")
    axes.set_ylabel("effective rate")
    return axes


def regret(tracker: Any, ax: Axes | None = None) -> Axes:
    r"""Plot the regret of online play against the rounds, and the bound's :math:`\sqrt{T}`.

    Parameters
    ----------
    tracker : adaptopt.regret.Tracker
        A tracker that has played.
    ax : matplotlib Axes, optional
        Where to plot. By default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The plot, with logarithmic scales: regret against the comparators if every round had one,
        the largest linearised regret if it is finite, and a dotted line of slope 1/2.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    TypeError, ValueError
        If ``tracker`` is none, or has no round whose regret is above 0 and finite.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x, box = np.zeros(1), ao.Box(-1, 1)
    >>> opt, tracker = ao.Optimizer(x, ao.AdaGrad(lr=1.4), prox=box), ao.regret.Tracker(box)
    >>> for g in np.random.default_rng(0).choice([-1.0, 1.0], size=(100, 1)):
    ...     tracker.play(x, g @ x, g)
    ...     opt.step(g)
    >>> ao.plot.regret(tracker).get_xlabel()
    'rounds T'
    """
    if not callable(getattr(tracker, "course", None)):
        raise TypeError(f"tracker is {_short(tracker)}, expected a regret.Tracker")
    course = tracker.course()
    names = {"regret": "regret", "linearised": "largest linearised regret"}
    kept = {
        name: np.isfinite(course[name]) & (course[name] > 0) for name in names if name in course
    }
    if not any(keep.any() for keep in kept.values()):
        raise ValueError(
            f"tracker is {_short(tracker)}, expected rounds with a finite regret above 0: "
            "give a bounded domain, or a comparator in every round"
        )
    axes = _panels(1)[0] if ax is None else ax
    for name, keep in kept.items():
        if keep.any():
            t, values = course["t"][keep], course[name][keep]
            axes.plot(t, values, label=names[name])
    axes.plot(t, values[-1] * np.sqrt(t / t[-1]), ":", color="0.4", label=r"$\propto \sqrt{T}$")
    axes.set(xscale="log", yscale="log", xlabel="rounds T", ylabel="regret")
    axes.legend()
    return axes


def _panels(count: int) -> list[Axes]:
    """Return the axes of a new figure, one above the other."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError('plots need Matplotlib: pip install "adaptopt[plot]"') from None
    size = (6.4, 1.2 + 2.2 * count)
    _, axes = pyplot.subplots(count, sharex=True, figsize=size, layout="constrained")
    return list(np.atleast_1d(axes))


def _plot_quantiles(axes: Axes, course: dict[str, np.ndarray]) -> None:
    t, rows = course["rates_t"], course["learning_rate_quantiles"]
    least, low, median, high, most = rows.T
    axes.fill_between(t, least, most, color="C2", alpha=0.2, linewidth=0, label="all")
    axes.fill_between(t, low, high, color="C2", alpha=0.4, linewidth=0, label="middle half")
    axes.plot(t, median, color="C2", label="median")
    axes.set_ylabel("effective rate")
    axes.legend()
    _logarithmic_if_positive(axes, rows)


def _logarithmic_if_positive(axes: Axes, values: np.ndarray) -> None:
    """Take a logarithmic scale if no value is below 0, and some are above."""
    known = _finite(values)
    if known.size and known.min() >= 0 and known.max() > 0:
        axes.set_yscale("log")


def _finite(values: Any) -> np.ndarray:
    """Return the finite values as a flat array of float64 on the host."""
    host = values.copy_to_host() if hasattr(values, "copy_to_host") else values
    flat = np.asarray(host).astype(np.float64).reshape(-1)
    return flat[np.isfinite(flat)]


def _short(value: object) -> str:
    return repr(value) if len(repr(value)) < 60 else f"a {type(value).__name__}"
