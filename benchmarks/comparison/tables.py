"""The tables of a section, in Markdown."""

from . import sections, shown

UNITS = {"sparse": ("nonzeros", "a nonzero"), "dense-epochs": ("steps", "a step")}
GRIDS = {
    "dense": "n",
    "dict": "parameters",
}  # sections with one contest per row, and the key of the rows
PICTURES = {
    "dense": (
        ("bandwidth", "GB/s over the number of elements, with what a plain kernel reaches"),
        ("time", "time of a step over the number of elements"),
    ),
    "dict": (("dict", "time of a step over the number of parameters"),),
    "sparse": (("nonzero", "ns for a nonzero"),),
    "growth": (("growth", "time over each size"),),
}
LIMIT = """\
The limit is a plain kernel that reads and writes as much memory, and computes only sums and
differences. For arrays larger than the caches, no step can be faster. Within the caches, a step
takes longer, because it also computes a root and a division.
"""

GROWTH = """\
Time and memory grow as the size to the power of the exponent, which is fitted to the three largest
sizes. The memory is the most that an optimizer and a call take, without the data.
"""


def section(name, part, pictures=True):
    """Return the tables of a section, its plots first."""
    lines = [f"## {sections.module(name).TITLE}", ""]
    if pictures:
        for picture, text in PICTURES.get(name, ()):
            lines += [f"![{text}](images/{picture}.png)", ""]
    if name in GRIDS:
        return lines + grids(part, GRIDS[name])
    if name == "growth":
        return lines + growth(part)
    for contest in part["contests"]:
        lines += listing(contest, *UNITS.get(name, (None, "")))
    return lines


def grids(part, key):
    """Return a table for each method and number of threads: a row per size, a column per peer."""
    groups = {}
    for contest in part["contests"]:
        title = shown.case(contest, leave_out=(key,))
        groups.setdefault(title, []).append(contest)
    lines = LIMIT.split("\n")
    for title, contests in groups.items():
        columns = list(
            dict.fromkeys(
                entry["name"] for contest in contests for entry in contest["entries"]
                if entry["kind"] == "peer"
            )
        )  # fmt: skip
        rows = []
        for contest in contests:
            by_name = {entry["name"]: entry for entry in contest["entries"]}
            row = [shown.size(contest["case"][key])]
            row += [cell(by_name.get(name)) for name in columns]
            ours = next((e for e in contest["entries"] if e["kind"] == "ours"), None)
            if ours is None:
                rows.append([*row, "", contest["left_out"], ""])
                continue
            median = ours["seconds"]["median"]
            rate = contest["bytes"] / median / 1e9
            rows.append([*row, part_of_limit(contest), shown.seconds(median), shown.three(rate)])
        header = [key, *columns, "part of the limit", "ours", "GB/s"]
        lines += [f"**{title}**", "", *shown.table(header, rows)]
        lines += variants(contests, key)
    return lines


def variants(contests, key):
    """Return a line for each other variant of ours, with its times by size."""
    times = {}
    for contest in contests:
        for entry in contest["entries"]:
            if entry["kind"] == "ours" and "ratio" in entry and entry["name"] != "adaptopt":
                size, median = shown.size(contest["case"][key]), entry["seconds"]["median"]
                ratio = shown.three(entry["ratio"]["median"])
                times.setdefault(entry["name"], []).append(
                    f"{size}: {shown.seconds(median)}, {ratio} times the time without"
                )
    return [
        line
        for name, found in times.items()
        for line in (f"Ours {name}:", "", *(f"- {text}" for text in found), "")
    ]


def cell(entry):
    if entry is None:
        return ""
    if "ratio" in entry:
        return shown.ratio(entry)
    return entry["check"].partition(",")[0].partition(":")[0]


def part_of_limit(contest):
    """Return the ratio of the fastest plain kernel's time to ours."""
    found = limit(contest)
    return "" if found is None else shown.ratio(found)


def limit(contest):
    plain = [e for e in contest["entries"] if e["kind"] == "limit" and "ratio" in e]
    return min(plain, key=lambda entry: entry["seconds"]["median"], default=None)


def listing(contest, unit, what):
    """Return a table of all entries, with the time per unit."""
    count = contest.get(unit, 1)
    rows = []
    for entry in contest["entries"]:
        found = entry.get("seconds")
        time = shown.seconds(found["median"] / count) if found else "not timed"
        kind = {"limit": "the limit"}.get(entry["kind"], "")
        beside = f"{shown.ratio(entry)} of {entry['ratio']['against']}" if "ratio" in entry else ""
        rows.append([entry["name"], beside, time, entry["check"] or kind])
    header = ["", "time over ours", f"time {what}".strip(), "check"]
    facts = [
        f"{shown.size(contest[key])} nonzeros" for key in ("nonzeros",) if key in contest
    ]  # fmt: skip
    return [f"**{', '.join([shown.case(contest), *facts])}**", "", *shown.table(header, rows)]


def growth(part):
    """Return the exponents, then the points."""
    exponents, points = [], []
    for contest in part["contests"]:
        what, found = contest["case"]["what"], contest["points"]
        if contest["exponents"]:
            slopes = [f"{contest['exponents'][key]:.2f}" for key in ("seconds", "peak_bytes")]
            span = f"{shown.size(found[-3]['size'])} to {shown.size(found[-1]['size'])}"
            exponents.append([what, *slopes, span])
        for point in found:
            memory = shown.amount(point["peak_bytes"]) if "peak_bytes" in point else ""
            points.append([what, f"{point['size']:,}", shown.seconds(point["seconds"]), memory])
    return [
        *GROWTH.split("\n"),
        *shown.table(["size", "exponent of time", "of memory", "fitted over"], exponents),
        *shown.table(["size", "", "time", "memory"], points),
    ]
