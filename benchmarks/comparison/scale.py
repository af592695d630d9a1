"""The page on sizes beyond one machine: arithmetic on what was measured."""

from . import shown

COUNTS = (10**9, 10**12)
SLOTS = {
    "AdaGrad, RMSProp": 4,
    "AdaGrad, state in bfloat16": 2,
    "Adam": 8,
}
MEMORY, NETWORK, DISK = 512e9, 12.5e9, 5e9  # of one machine: bytes, bytes a second, bytes a second


PAGE = """\
# Beyond one machine

What the optimizer needs at sizes that do not fit one machine, by arithmetic. This page is made by
`benchmarks/compare.py`. Nothing of it has been run at these sizes.

## What is known

- A step moves bytes and does little else. {measured}
- Time and memory grow in proportion to the number of parameters{exponents}
  ([Performance](performance.md)).
- Each coordinate is computed alone. A split of the parameters over machines changes no bit of a
  step; only `clip_norm` needs a number from all of them, one sum a step.

## Bytes

float32 parameters and gradients; a step reads parameter, gradient and state, and writes parameter
and state.

{bytes}
The last column is for {rate} GB/s. It is by arithmetic: a trillion parameters fit no machine's
memory.

## Machines

Assumed: machines with {memory} of memory, of which half is for this, at the bandwidth measured
here, on a network of {network} each way. Each holds a part of the parameters and of the state. When
every machine computes gradients of all parameters on its own rows, it sends and receives close to
`4 n` bytes of gradients (a reduce-scatter) and `4 n` bytes of parameters (an all-gather) in every
step, whatever their number.

{machines}
The network is the limit, by far: the optimizer's own time falls with the number of machines, that
of the exchange does not. What helps is to send less: gradients in bfloat16 (half), a step for the
mean of several batches, and above all sparse rows.

## Sparse rows

A table of 1e12 numbers is 1e10 rows of 100. A batch that touches 1e5 of them moves {touched} in
memory and {sent} on the network: {touched_time} and {sent_time} for one machine that does it all.
The rows are split by number over the machines, the state lies beside them, and a step needs nothing
from other machines but the gradients of its rows. `RowWiseAdaGrad` has one number of state for a
row: {row_wise} instead of {full}.

Where the memory is too small, a table may be a file (`numpy.memmap`, see
[Sparse rows](sparse_rows.rst)): on a disk of {disk} (assumed), 1e5 rows of 100 with their state are
read and written in {disk_time} at best. But such a row, 400 bytes, is less than a page of 4,096: at
a page a row for each of the two arrays, it is {page_time}.

## What is there, and what is not

- There: steps on rows, tables and state in files, accumulators in bfloat16, 16-bit parameters,
  gradients that are written in place (`opt.grads`), and a result that no split changes.
- Not there: the exchange itself. A program on many machines makes an `Optimizer` of its own part on
  each, and brings the gradients there with what it uses to talk (MPI, NCCL, Dask).
"""


def page(found):
    """Return the page."""
    rate, sentence = measured(found)
    numbers, rows, block = 1e5 * 100, 1e10, 4096  # of a batch, of the table, of a page
    moved = [
        [
            name,
            shown.size(n),
            shown.amount(8 * n),
            shown.amount(state * n),
            shown.amount((12 + 2 * state) * n),
            shown.seconds((12 + 2 * state) * n / rate),
        ]
        for n in COUNTS
        for name, state in SLOTS.items()
    ]
    header = ["", "parameters", "x and g", "state", "moved by a step", "one machine's time"]
    exchange = ["AdaGrad", "machines", "the step itself", "gradients and parameters on the network"]
    return PAGE.format(
        measured=sentence,
        exponents=exponents(found),
        bytes="\n".join(shown.table(header, moved)),
        rate=shown.three(rate / 1e9),
        memory=shown.amount(MEMORY),
        network=f"{shown.amount(NETWORK)} a second",
        machines="\n".join(shown.table(exchange, [machines(n, rate) for n in COUNTS])),
        touched=shown.amount(numbers * 20),
        sent=shown.amount(numbers * 8),
        touched_time=shown.seconds(numbers * 20 / rate),
        sent_time=shown.seconds(numbers * 8 / NETWORK),
        row_wise=shown.amount(rows * 4),
        full=shown.amount(rows * 100 * 4),
        disk=f"{shown.amount(DISK)} a second",
        disk_time=shown.seconds(numbers * 16 / DISK),
        page_time=shown.seconds(1e5 * 2 * 2 * block / DISK),
    )


def measured(found):
    """Return the bytes a second of the longest AdaGrad step, and a sentence on it."""
    contests = found["sections"].get("dense", {"contests": ()})["contests"]
    fitting = [c for c in contests if c["case"]["method"] == "AdaGrad" and c["entries"]]
    if not fitting:
        return 5e10, "Nothing was measured; 50 GB/s are assumed."
    longest = max(fitting, key=lambda c: (c["case"]["n"], c["case"]["threads"]))
    ours = next(e for e in longest["entries"] if e["kind"] == "ours")
    rate = longest["bytes"] / ours["seconds"]["median"]
    sentence = (
        f"AdaGrad on {shown.size(longest['case']['n'])} float32 reaches "
        f"{shown.three(rate / 1e9)} GB/s with {shown.threads(longest)}, measured."
    )
    return rate, sentence


def exponents(found):
    """Return what the fit says, where there is one."""
    for contest in found["sections"].get("growth", {"contests": ()})["contests"]:
        if contest["case"]["what"] == "elements of an array":
            fitted = contest["exponents"]
            return f", exponents {fitted['seconds']:.2f} and {fitted['peak_bytes']:.2f} measured"
    return ""


def machines(n, rate):
    """Return a row: machines for x, g and G, the time of their steps, the time of the exchange."""
    count = max(1, -(-12 * n // int(MEMORY / 2)))
    alone = count == 1
    exchange = "none" if alone else shown.seconds(8 * n * (count - 1) / count / NETWORK)
    return [shown.size(n), count, shown.seconds(20 * n / count / rate), exchange]
