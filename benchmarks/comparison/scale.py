"""The page on sizes beyond one machine, computed from the measurements."""

from . import shown

COUNTS = (10**9, 10**12)
SLOTS = {
    "AdaGrad, RMSProp": 4,
    "AdaGrad, state in bfloat16": 2,
    "Adam": 8,
}
MEMORY, NETWORK, DISK = (
    512e9,
    12.5e9,
    5e9,
)  # of one machine: bytes, bytes per second, bytes per second


PAGE = """\
# Beyond one machine

This page estimates what the optimizer needs for problems that do not fit one machine. The estimates
are computed from measurements on one machine; nothing has been run at these sizes.
`benchmarks/compare.py` makes this page.

## What is known

- A step on a long array takes the time that its bytes take to move. {measured}
- Time and memory grow in proportion to the number of parameters{exponents}
  ([Performance](performance.md)).
- Each coordinate is computed independently. Splitting the parameters over machines changes no bit
  of a step. Only `clip_norm` needs a number from all machines: one sum per step.

## Bytes

Parameters and gradients are float32. A step reads parameter, gradient and state, and writes
parameter and state.

{bytes}
The last column assumes {rate} GB/s. It is an estimate: no machine can hold a trillion parameters in
memory.

## Machines

Assume machines with {memory} of memory, half of it for the optimizer, with the bandwidth measured
here, on a network of {network} in each direction. Each machine holds a part of the parameters and
of the state. It computes the gradients of all parameters from its own data. In each step it then
sends and receives nearly `4 n` bytes of gradients (a reduce-scatter) and `4 n` bytes of parameters
(an all-gather), however many machines there are.

{machines}
The network is by far the bottleneck: the optimizer's own time falls with the number of machines,
but the time of the exchange does not. It helps to send less: gradients in bfloat16 (half the
bytes), one step for the mean of several batches, and above all sparse rows.

## Sparse rows

A table of 1e12 numbers has 1e10 rows of 100. A batch with 1e5 of these rows moves {touched} in
memory and {sent} on the network. This takes {touched_time} and {sent_time} if one machine does it
all. Each machine holds a range of the rows and their state. From the other machines a step needs
only the gradients of its rows. `RowWiseAdaGrad` has one number of state per row: {row_wise} instead
of {full}.

If the memory is too small, a table may be a file (`numpy.memmap`, see
[Sparse rows](sparse_rows.rst)). A disk of {disk} (assumed) reads and writes 1e5 rows of 100 with
their state in {disk_time} at best. But such a row has 400 bytes, less than a page of 4,096. If each
row of both arrays takes one page, the time is {page_time}.

## What the library offers, and what it does not

- It offers steps on rows, tables and state in files, accumulators in bfloat16, 16-bit parameters,
  gradients that you write in place (`opt.grads`), and results that do not depend on the split.
- `ao.distributed.Sum` minimises sums over blocks of rows on a Dask cluster: see
  [Rows on many machines](distributed.md), with a plan for 100 of them.
- It does not split parameters over machines. A program that does makes an `Optimizer` for each
  machine's part, and moves the gradients by its own communication (MPI, NCCL, Dask).
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
    """Return the bandwidth of the longest AdaGrad step, bytes per second, and a sentence on it."""
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
    """Return the fitted exponents, if there is a fit."""
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
