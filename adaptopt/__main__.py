"""``python -m adaptopt``: print the environment, run the demonstration, and plot the results.

``python -m adaptopt warm`` compiles common kernels instead.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .demo import environment
from .demo.calls import without_a_rate
from .demo.demonstration import (
    BATCH,
    METHODS,
    Problem,
    Rates,
    Run,
    bag_of_words,
    measure_rates,
    measure_words,
    real_problems,
    train,
)
from .demo.warm import warm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# One grid for all methods and problems, so that no method gets a better choice.
GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
QUICK_GRID = (0.01, 0.1, 1.0)
# Colours of Okabe and Ito, which colour-blind readers can tell apart; dashes differ as well.
STYLES = {
    "SGD": ("#000000", ":"),
    "AdaGrad": ("#D55E00", "-"),
    "RMSProp": ("#0072B2", "--"),
    "Adam": ("#009E73", "-."),
}
COLOURS = ("#AA4499", "#56B4E9")  # of rare and of frequent words


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, and return the exit status.

    Parameters
    ----------
    arguments : list of str, optional
        The arguments after the program's name. By default those of this process.

    Returns
    -------
    int
        0 if everything ran, 1 if something was left out; a message on stderr says what.
    """
    parser = argparse.ArgumentParser(
        prog="python -m adaptopt",
        description="Print the environment, train logistic regression with SGD, AdaGrad, "
        "RMSProp and Adam on real and synthetic data, and plot the results.",
        epilog='Needs pip install "adaptopt[demo]". Without it, runs a part and exits with 1.',
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["warm"],
        help="compile the kernels of common calls instead, so that later processes load them",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("adaptopt-demo.png"),
        metavar="PATH",
        help="file of the picture (default: %(default)s in the current folder)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows and steps, fewer learning rates"
    )
    parser.add_argument("--environment", action="store_true", help="print only the environment")
    options = parser.parse_args(arguments)
    if options.command == "warm":
        return warm()
    output = options.output.absolute()
    if not options.environment and (output.is_dir() or not output.parent.is_dir()):
        parser.error(f"--output is {options.output}, expected a file in a folder that exists")
    print(environment.describe(), flush=True)
    return 0 if options.environment else demonstrate(output, options.quick)


def demonstrate(output: Path, quick: bool) -> int:
    """Run every method on every problem, print and plot the results; return the exit status."""
    start = time.perf_counter()
    missing = _missing_extras()
    problems = [] if "sklearn" in missing else real_problems(quick)
    problems.append(bag_of_words(quick))
    grid = QUICK_GRID if quick else GRID
    winners = [_search(problem, grid) for problem in problems]
    _print_table(problems, winners)
    bag, rates = problems[-1], {"AdaGrad": Rates(), "RMSProp": Rates()}
    for name, watch in rates.items():
        train(bag, name, winners[-1][name].lr, watch)
    print("\nWithout a learning rate:")
    for sentence in without_a_rate(problems[-1]):
        _print_paragraph(sentence, "- ")
    print("\nWhat this run measured:")
    for sentence in (
        *_measure_winners(problems, winners, grid),
        *measure_words(bag, winners[-1]),
        *measure_rates(bag, rates),
    ):
        _print_paragraph(sentence, "- ")
    print(f"\nIt took {time.perf_counter() - start:.0f} s.")
    if "matplotlib" not in missing:
        try:
            _draw(output, problems, winners, rates)
        except (OSError, ValueError) as error:
            print(f"The picture could not be saved: {error}", file=sys.stderr)
            return 1
        print(f"The picture is in {output}")
    return 1 if {"sklearn", "matplotlib"} & set(missing) else 0


def _missing_extras() -> list[str]:
    """Return the optional packages that cannot be imported, and print what is left out."""
    costs = {
        "sklearn": "scikit-learn is not installed: the problems on real data are left out.",
        "matplotlib": "matplotlib is not installed: there will be no picture.",
        "tqdm": "tqdm is not installed: there will be no progress bar.",
    }
    missing = []
    for module in costs:
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    if missing:
        lines = [costs[module] for module in missing]
        print(*lines, 'For all of it: pip install "adaptopt[demo]"', sep="\n", file=sys.stderr)
    return missing


def _search(problem: Problem, grid: tuple[float, ...]) -> dict[str, Run]:
    """Run every method at every learning rate, print the losses, return each method's best run."""
    rows, held_out = len(problem.train[1]), len(problem.held_out[1])
    print(f"\n{problem.name}: {rows} training rows, {held_out} held out")
    _print_paragraph(problem.about, "  ")
    pairs = [(name, lr) for name in METHODS for lr in grid]
    runs = [train(problem, name, lr) for name, lr in _with_progress(pairs, problem.name)]
    print(f"  Training loss after {problem.steps} steps of {BATCH} rows (* marks the lowest):")
    print("  lr      " + " ".join(f"{lr:>8g}" for lr in grid))
    lowest = {}
    for name in METHODS:
        own = [run for run in runs if run.method == name]
        lowest[name] = min(own, key=lambda run: run.loss)
        cells = [f"{run.loss:8.4f}" + " *"[run is lowest[name]] for run in own]
        print(f"  {name:<8}{''.join(cells)}".rstrip())
    return lowest


def _print_paragraph(text: str, start: str) -> None:
    """Print lines of at most 98 columns, indented by two."""
    print(
        textwrap.fill(
            text, 98, initial_indent=start, subsequent_indent="  ", break_on_hyphens=False
        )
    )


def _with_progress(pairs: list[tuple[str, float]], label: str) -> Iterable[tuple[str, float]]:
    """Show a progress bar on stderr if that is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return pairs
    bar: Iterable[tuple[str, float]] = tqdm(
        pairs, desc=f"  {label}", unit="run", leave=False, disable=None
    )
    return bar


def _print_table(problems: list[Problem], winners: list[dict[str, Run]]) -> None:
    """Print the results of each method at its best learning rate."""
    print("\nEach method at the learning rate with its lowest training loss:")
    print(
        f"  {'problem':<14}{'method':<9}{'lr':>6}{'training loss':>15}{'held-out loss':>15}"
        f"{'accuracy':>10}{'steps':>7}{'seconds':>9}{'in updates':>12}"
    )
    for problem, lowest in zip(problems, winners, strict=True):
        for run in lowest.values():
            print(
                f"  {problem.name:<14}{run.method:<9}{run.lr:>6g}{run.loss:>15.4f}"
                f"{run.held_out_loss:>15.4f}{run.accuracy:>10.1%}{problem.steps:>7}"
                f"{run.seconds:>9.3f}{run.update_seconds:>12.4f}"
            )
    print(
        "  loss: mean over all rows; accuracy: of the held-out rows; seconds: of gradients (NumPy)"
    )
    print("  and updates (adaptopt), without compiling kernels or evaluating losses; one run each")


def _measure_winners(
    problems: list[Problem], winners: list[dict[str, Run]], grid: tuple[float, ...]
) -> Iterator[str]:
    """Report the method with the lowest loss, and whether the grid of rates was wide enough."""
    edges = []
    for problem, lowest in zip(problems, winners, strict=True):
        first, *others = sorted(lowest.values(), key=lambda run: run.loss)
        behind = ", ".join(f"{run.method}'s is {run.loss / first.loss:.2f} times" for run in others)
        held = min(lowest.values(), key=lambda run: run.held_out_loss)
        yield (
            f"{problem.name}: {first.method} has the lowest training loss ({behind} as large), "
            f"{held.method} the lowest held-out loss."
        )
        edges += [
            f"{r.method} on {problem.name}"
            for r in lowest.values()
            if r.lr in grid[:: len(grid) - 1]
        ]
    if edges:
        yield f"The best learning rate is at an edge of the grid for {', '.join(edges)}."
    else:
        yield "No best learning rate is at an edge of the grid."


def _draw(
    output: Path, problems: list[Problem], winners: list[dict[str, Run]], rates: dict[str, Rates]
) -> None:
    """Plot the losses of every problem, and below them the effective rates of the words."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, hspace=0.03)
    top.suptitle(f"Training loss: the same batches of {BATCH} rows, each method at its best lr")
    panels = top.subplots(1, len(problems), squeeze=False)[0]
    panels[0].set_ylabel("mean loss of all training rows")
    for axes, problem, lowest in zip(panels, problems, winners, strict=True):
        for run in lowest.values():
            label, (colour, dashes) = f"{run.method}, lr {run.lr:g}", STYLES[run.method]
            axes.plot(
                run.steps, run.losses, label=label, linewidth=1.8, color=colour, linestyle=dashes
            )
        axes.set(title=problem.name, xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        _finish(axes)
    panels = bottom.subplots(1, len(rates), sharey=True)
    panels[0].set_ylabel("effective learning rate")
    for axes, (name, seen) in zip(panels, rates.items(), strict=True):
        for (group, columns), colour in zip(problems[-1].groups.items(), COLOURS, strict=True):
            steps, table = seen.of(columns)
            low, median, high = np.quantile(table, (0.1, 0.5, 0.9), axis=1)
            axes.fill_between(steps, low, high, alpha=0.2, linewidth=0, color=colour)
            axes.plot(steps, median, label=group, linewidth=2.2, color=colour)
            one = table[:, table.shape[1] // 2]
            axes.plot(steps, one, label="one of them", linewidth=0.7, color=colour)
        axes.set(title=f"{name}, lr {winners[-1][name].lr:g}")
        _finish(axes)
    panels[-1].get_legend().remove()
    bottom.suptitle(
        "Effective learning rates in the bag of words: median and middle 80% of the words that "
        f"had a gradient by step {steps[0]}"
    )
    figure.savefig(output, dpi=120, format=output.suffix[1:] or "png")


def _finish(axes: Axes) -> None:
    """Give the axes a logarithmic scale with plain numbers, a grid and a legend."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xlabel="step", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


if __name__ == "__main__":
    sys.exit(main())
