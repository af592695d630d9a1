"""The plots, drawn from the JSON."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from . import shown

# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers differ as well.
STYLES = {
    "adaptopt": {"color": "#D55E00", "marker": "o", "linewidth": 2.4, "zorder": 5},
    "NumPy": {"color": "#999999", "marker": "s"},
    "torch default": {"color": "#56B4E9", "marker": "v"},
    "torch foreach": {"color": "#0072B2", "marker": "^"},
    "torch fused": {"color": "#009E73", "marker": "D"},
    "torch compiled": {"color": "#117733", "marker": "<"},
    "JAX + optax": {"color": "#CC79A7", "marker": "P"},
    "DeepSpeed": {"color": "#E69F00", "marker": "X"},
}
LIMIT = {"color": "black", "linestyle": "--", "linewidth": 1.4, "zorder": 4}
DPI = 110


def draw(found, folder):
    """Draw the plots of all measured sections."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for section, pictures in {
        "dense": {"bandwidth": bandwidth, "time": time_of_steps},
        "dict": {"dict": dictionary},
        "sparse": {"nonzero": nonzero},
        "growth": {"growth": growth},
    }.items():
        if section in found["sections"]:
            for name, make in pictures.items():
                figure = make(found["sections"][section])
                figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
                plt.close(figure)


def of_most_threads(part):
    most = max(contest["case"]["threads"] for contest in part["contests"])
    return [c for c in part["contests"] if c["case"]["threads"] == most and c["entries"]], most


def series(contests, key, value):
    """Return the points of every library by name, and those of the fastest plain kernel."""
    lines, limits = {}, {}
    for contest in contests:
        x = contest["case"][key]
        for entry in contest["entries"]:
            if "seconds" not in entry:
                continue
            y = value(contest, entry["seconds"]["median"])
            if entry["kind"] == "limit":
                before = limits.get(x)
                better = min if value(contest, 2.0) > value(contest, 1.0) else max
                limits[x] = y if before is None else better(before, y)
            elif entry["name"] in STYLES:
                lines.setdefault(entry["name"], []).append((x, y))
    return lines, sorted(limits.items())


def panels(part, key, value, label, scale="log"):
    contests, threads = of_most_threads(part)
    methods = list(dict.fromkeys(contest["case"]["method"] for contest in contests))
    figure, axes = plt.subplots(
        1, len(methods), figsize=(3.6 * len(methods), 3.9), sharey=True, layout="constrained"
    )
    for axis, method in zip(axes, methods, strict=True):
        lines, limits = series([c for c in contests if c["case"]["method"] == method], key, value)
        for name, points in lines.items():
            axis.plot(*zip(*points, strict=True), label=name, markersize=4.5, **STYLES[name])
        axis.plot(*zip(*limits, strict=True), label="the limit: a plain kernel", **LIMIT)
        axis.set(xscale="log", yscale=scale, title=f"{method}, {threads} threads")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(label)
    handles = {
        text: handle
        for axis in axes
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    return figure, axes


def bandwidth(part):
    figure, axes = panels(part, "n", lambda c, s: c["bytes"] / s / 1e9, "GB/s", "linear")
    for axis in axes:
        axis.set_xlabel("float32 elements")
        axis.set_ylim(bottom=0)
    return figure


def time_of_steps(part):
    figure, axes = panels(part, "n", lambda c, s: s, "seconds a step")
    for axis in axes:
        axis.set_xlabel("float32 elements")
    return figure


def dictionary(part):
    contests = [c for c in part["contests"] if c["case"]["method"] == "AdaGrad"]
    lines, limits = series(contests, "parameters", lambda c, s: s)
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for name, points in lines.items():
        axis.plot(*zip(*points, strict=True), label=name, markersize=4.5, **STYLES[name])
    axis.plot(*zip(*limits, strict=True), label="the limit: a plain kernel", **LIMIT)
    axis.set(
        xscale="log", yscale="log", xlabel="parameters of 1,000 float32", ylabel="seconds a step",
        title="AdaGrad on a dict",
    )  # fmt: skip
    axis.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def nonzero(part):
    (contest, *_), threads = of_most_threads(part)
    entries = [entry for entry in contest["entries"] if "seconds" in entry]
    entries.sort(key=lambda entry: -entry["seconds"]["median"])
    colours = {"ours": "#D55E00", "peer": "#0072B2", "limit": "#999999"}
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(entries) + 1.1), layout="constrained")
    values = [entry["seconds"]["median"] / contest["nonzeros"] * 1e9 for entry in entries]
    names = [entry["name"] for entry in entries]
    bars = axis.barh(names, values, color=[colours[entry["kind"]] for entry in entries])
    axis.bar_label(bars, [shown.three(value) for value in values], padding=3)
    axis.set(
        xscale="log", xlabel="ns a nonzero (ours orange, peers blue, a plain gather grey)",
        title=f"An epoch over sparse rows (hogwild: {threads} threads)",
    )  # fmt: skip
    axis.set_xlim(min(values) * 0.6, max(values) * 2)
    return figure


def growth(part):
    fitted = [contest for contest in part["contests"] if contest["exponents"]]
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    for axis, key, label in (
        (axes[0], "seconds", "seconds"),
        (axes[1], "peak_bytes", "bytes at most"),
    ):
        for contest, marker in zip(fitted, "osv^D", strict=False):
            sizes = [point["size"] for point in contest["points"]]
            text = f"{contest['case']['what']}: {contest['exponents'][key]:.2f}"
            axis.plot(sizes, [p[key] for p in contest["points"]], marker=marker, label=text)
        axis.set(xscale="log", yscale="log", xlabel="size", ylabel=label)
        axis.grid(alpha=0.25)
        axis.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=8,
            title="what grows, and the exponent",
        )  # fmt: skip
    return figure
