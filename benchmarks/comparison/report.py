"""The pages and plots, made from the JSON and from nothing else."""

import json
import re
from pathlib import Path

from . import scale, sections, shown, tables

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
UNEXPLAINED = "no reason is known"

HEAD = """\
# Performance

`benchmarks/compare.py` makes this page from `benchmarks/results/compare.json`.
`benchmarks/README.md` says how to repeat the measurements.

A ratio is the time of the other library over ours: above 1, ours is faster. It is the ratio of the
medians. The brackets give the quartiles of the ratios within the rounds. All candidates of a
comparison run in one process, by turns, in an order that is shuffled in each round. Before a
candidate is timed, its result is checked against ours. If its algorithm is another one, the table
says what was compared.
"""

SETTINGS = """\
## Settings of each library

Unless noted, all use float32. All get the same arrays and the same number of threads, and the
process is bound to as many processors. OMP_WAIT_POLICY=passive keeps the threads of one from taking
processor time in another's turn. The gradients are random, of both signs and of size 0.5 to 1.5,
and change their sign in every round. If options differ between libraries, they are chosen so that
the formulas are equal (see [Matching other libraries](matching.rst)).
"""

NO_GPU = """\
Nothing has been measured on a GPU yet. The CUDA kernels have run in a simulator and have been
compiled for devices, but there are no figures. On a machine with a device,
`benchmarks/gpu_check.py` checks and measures them.
"""


def write(found, docs, readme=None):
    """Write the pages and the plots to a folder, and the figures into the README."""
    docs = Path(docs)
    (docs / "images").mkdir(parents=True, exist_ok=True)
    (docs / "performance.md").write_text(performance(found, gpu_results()))
    (docs / "scale.md").write_text(scale.page(found))
    try:
        from . import plots
    except ImportError as error:
        print(f"no plots: {error}")
    else:
        plots.draw(found, docs / "images")
    if readme is not None:
        readme = Path(readme)
        readme.write_text(with_figures(readme.read_text(), found))


def gpu_results(path=ROOT / "benchmarks" / "results" / "gpu_check.json"):
    """Return the results of ``gpu_check.py`` on a GPU, or None if there are none."""
    return json.loads(path.read_text()) if path.exists() else None


def with_figures(text, found):
    """Return the README with the figures of the JSON."""
    pattern = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    return pattern.sub(lambda match: match[1] + "\n".join(headlines(found)) + match[2], text)


def performance(found, gpu):
    """Return the page."""
    lines = [
        *HEAD.split("\n"),
        *warnings(found),
        *headlines(found),
        *wins(found),
        *not_timed(found),
        *where_it_ran(found),
    ]
    for name in in_order(found):
        lines += tables.section(name, found["sections"][name])
    lines += [*on_a_gpu(gpu), *settings(found)]
    return "\n".join(lines).rstrip("\n") + "\n"


def in_order(found):
    """Return the sections that were measured, in the order of the page."""
    return [name for name in sections.MODULES if name in found["sections"]]


def warnings(found):
    """Return what a reader must know before trusting a figure."""
    lines, notes = [], {}
    for name, part in found["sections"].items():
        if part["settings"]["quick"]:
            lines = ["**This was a quick run with tiny sizes: it says nothing about speed.**", ""]
        if "note" in part:
            notes.setdefault(part["note"], []).append(name)
    for note, names in notes.items():
        lines += [f"**{', '.join(names)}: {note}**", ""]
    return lines


def terminal(found, names):
    """Return the tables of some sections, for a terminal."""
    lines = []
    for name in names:
        if name in found["sections"]:
            lines += tables.section(name, found["sections"][name], pictures=False)
    return [*lines, *not_timed(found), *wins(found)]


def peers_of(found):
    """Yield every comparison with a peer that was timed."""
    for name, part in found["sections"].items():
        for contest in part["contests"]:
            for entry in contest["entries"]:
                if entry["kind"] == "peer" and "seconds" in entry:
                    yield name, contest, entry


def wins(found):
    """Return every case where a peer is faster, with the reason."""
    groups, level = {}, []
    for name, contest, entry in peers_of(found):
        if "ratio" not in entry:  # none of ours reached the precision
            text = f"{shown.case(contest)}: {shown.seconds(entry['seconds']['median'])}, ours not"
        else:
            text = f"{shown.case(contest)}: {shown.ratio(entry)}"
        if "ratio" not in entry or max(entry["ratio"]["median"], entry["ratio"]["high"]) < 1:
            groups.setdefault((name, entry["name"]), []).append(text)
        elif entry["ratio"]["median"] < 1:
            level.append(f"{entry['name']}, {text}")
    lines = ["## Where a peer is faster", ""]
    for (name, peer), cases in groups.items():
        title = sections.module(name).TITLE[0].lower() + sections.module(name).TITLE[1:]
        reason = sections.module(name).REASONS.get(peer, UNEXPLAINED)
        lines += [f"- **{peer}**, {title}: {reason}.", *[f"  - {text}" for text in cases]]
    if not groups:
        lines.append("No peer is faster.")
    if level:
        lines += ["", "Faster than ours by the medians, but within the spread:", ""]
        lines += [f"- {text}" for text in level]
    return [*lines, ""]


def not_timed(found):
    """Return the peers that are missing, and those whose results differ."""
    missing, differ, cases = {}, [], {}
    for part in found["sections"].values():
        for peer in part["peers"].values():
            if peer["missing"] is not None:
                missing[peer["package"]] = f"{peer['package']} ({peer['missing']})"
        for contest in part["contests"]:
            if "left_out" in contest:
                differ.append(f"{shown.case(contest)}: {contest['left_out']}")
            for entry in contest["entries"]:
                if entry["kind"] in ("peer", "limit") and "seconds" not in entry:
                    key = entry["name"], entry["check"]
                    cases.setdefault(key, []).append(shown.case(contest))
    lines = ["## What was not timed", ""]
    lines += [f"- missing: {text}" for text in missing.values()]
    lines += [f"- {text}" for text in differ]
    lines += [f"- {name}: {check} ({'; '.join(where)})" for (name, check), where in cases.items()]
    return [*(lines if len(lines) > 2 else [*lines, "All of it was."]), ""]


def where_it_ran(found):
    """Return machine, date and versions of each section."""
    machines = {}
    for name, part in found["sections"].items():
        machine = part["machine"]
        caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
        key = (
            f"{machine['processor']}, {machine['cpus']} logical processors, {machine['simd']}, "
            f"caches {caches}, {machine['memory_gb']} GB of memory, {machine['system']}"
        )
        machines.setdefault(key, []).append((name, part))
    lines = ["## Where it was measured", ""]
    for key, parts in machines.items():
        lines += [key, ""]
        rows = [
            [name, part["date"], ", ".join(f"{k} {v}" for k, v in part["versions"].items())]
            for name, part in parts
        ]
        lines += shown.table(["section", "date", "versions"], rows)
    return lines


def settings(found):
    """Return the settings of each peer, each sentence once."""
    rows = {}
    for name, part in found["sections"].items():
        for peer, facts in part["peers"].items():
            rows.setdefault((peer, facts["setting"]), []).append(name)
    table = [[peer, ", ".join(where), text] for (peer, text), where in rows.items()]
    return [
        *SETTINGS.split("\n"),
        *shown.table(["peer", "section", "setting"], table),
    ]


def on_a_gpu(gpu):
    """Return what was measured on a GPU."""
    lines = ["## On a GPU", ""]
    if gpu is None:
        return [*lines, *NO_GPU.split("\n")]
    rows = [
        [row["library"], row["name"], shown.size(row["n"]), shown.seconds(row["seconds"]),
         shown.three(row["gb_per_s"])]
        for row in gpu["rows"] if "seconds" in row
    ]  # fmt: skip
    tests = gpu["tests"] if isinstance(gpu["tests"], str) else gpu["tests"]["outcome"]
    about = f"{gpu['device']}; the device's tests: {tests}. `benchmarks/gpu_check.py` measured:"
    return [*lines, about, "", *shown.table(["library", "step", "n", "time", "GB/s"], rows)]


def headlines(found):
    """Return the figures that the README shows."""
    rows = []
    for label, name, wanted in HEADLINES:
        contests = found["sections"].get(name, {"contests": ()})["contests"]
        most = max((contest["case"]["threads"] for contest in contests), default=0)
        for contest in contests:
            if (wanted | {"threads": most}).items() <= contest["case"].items():
                rows.append(headline(label, name, contest))
    rows = [row for row in rows if row is not None]
    return shown.table(["", "ours", "fastest peer", "peer / ours", "limit / ours"], rows)


def headline(label, name, contest):
    timed = [entry for entry in contest["entries"] if "seconds" in entry]
    peers = [entry for entry in timed if entry["kind"] == "peer" and "ratio" in entry]
    if name == "rows":
        peers = [entry for entry in peers if entry["ratio"]["against"] == "AdaGrad"]
    if not timed:
        return None
    count = contest.get(tables.UNITS.get(name, (None,))[0], 1)
    ours = shown.seconds(timed[0]["seconds"]["median"] / count)
    fastest = min(peers, key=lambda entry: entry["seconds"]["median"], default=None)
    beside = ("none here", "") if fastest is None else (fastest["name"], shown.ratio(fastest))
    plain = tables.limit(contest)
    part = shown.three(plain["ratio"]["median"]) if plain else ""
    return [label.format(**contest["case"]), ours, *beside, part]


HEADLINES = (
    *(
        (f"{method}, a step on {text} float32", "dense", {"method": method, "n": n})
        for method in ("AdaGrad", "RMSProp")
        for n, text in ((10**3, "1,000"), (10**6, "a million"), (10**8, "100 million"))
    ),
    (
        "AdaGrad, a step on a dict of {parameters:,} x {elements:,}",
        "dict",
        {"method": "AdaGrad", "parameters": 1_000},
    ),
    ("AdaGrad, steps on rows of a table of {rows:,} x {width}", "rows", {"what": "beside others"}),
    ("AdaGrad, a nonzero of an epoch over sparse rows", "sparse", {}),
    ("AdaGrad, a step on 32 dense rows of {columns}", "dense-epochs", {"batch": 32}),
    ("Rosenbrock in 2 variables, a step of the compiled loop", "loop", {"n": 2}),
)
