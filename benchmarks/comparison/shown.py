"""Format numbers, cases and tables."""


def seconds(value):
    """Return a time with three digits and a unit."""
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= 0.9995 * size:
            return f"{three(value / size)} {unit}"
    return f"{three(value * 1e9)} ns"


def three(value):
    """Return a number with three significant digits, without an exponent."""
    if value >= 99.95:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def ratio(entry):
    """Return a ratio with its quartiles."""
    found = entry["ratio"]
    return f"{three(found['median'])} ({three(found['low'])} to {three(found['high'])})"


def size(value):
    """Return a count, with a power of ten in the form 1e6."""
    text = f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return text if value >= 1e5 and float(text) == value else f"{value:,}"


def amount(number_of_bytes):
    """Return bytes in a suitable unit."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if number_of_bytes >= 10**power:
            return f"{three(number_of_bytes / 10**power)} {unit}"
    return f"{number_of_bytes:.0f} B"


def case(contest, leave_out=()):
    """Return what a comparison was of."""
    parts = []
    for key, value in contest["case"].items():
        if key in leave_out:
            continue
        if isinstance(value, str):
            parts.append(value if key in ("what", "method", "problem") else f"{key} {value}")
        else:
            value = size(value) if isinstance(value, int) else f"{value:g}"
            names = {"n": f"n = {value}", "threads": threads(contest)}
            parts.append(names.get(key, f"{key} {value}"))
    return ", ".join(parts)


def threads(contest):
    count = contest["case"]["threads"]
    return f"{count} thread{'s' * (count != 1)}"


WORDS = ("check", "date", "versions", "section", "setting", "fastest peer")


def table(header, rows):
    """Return the lines of a Markdown table: words aligned left, numbers right."""
    rule = ["---:" if k and name not in WORDS else "---" for k, name in enumerate(header)]
    return [f"| {' | '.join(map(str, row))} |" for row in (header, rule, *rows)] + [""]
