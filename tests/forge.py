"""Forge checkpoints whose checksums are right, and count what comes of reading them.

``python tests/forge.py --count 1500 optimizer minimize finite-sum`` (without a kind: all of them).
A forged file may be refused, with a ValueError or a TypeError, or be read as another state: then a
few steps are taken from it. Everything else is wrong: another exception, an optimizer that has been
modified by a file that it refused, more memory than three times the file, a crash, or more than
eight seconds. ``--seed`` starts elsewhere, and a line says which seed forges the file again:
``--seed N --count 1``.

A kind is a function that returns ``files, read, go``: the bytes of true files, ``read(path)``, of
which the memory is measured, and ``go(path)``, which may raise only if it has modified nothing.
"""

import argparse
import collections
import faulthandler
import io
import json
import math
import random
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
from numba import njit
from scipy import sparse

import adaptopt as ao
from adaptopt.optimizer import checkpoint
from adaptopt.solvers.state import DescentState, EpochState

HANGS = 8  # seconds
ALLOWED = 3  # times the size of a file, and what any reading takes
LEAST = 1 << 20  # bytes

KINDS = {}


def kind(make):
    KINDS[make.__name__.replace("_", "-")] = make
    return make


def true_file(save):
    """Return the bytes of what ``save(path)`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "run")
        return (Path(folder) / "run").read_bytes()


class ModifiedError(Exception):
    """A refused file has changed something."""


def facts(value):
    """Return what can be compared of a state."""
    if isinstance(value, dict):
        return {key: facts(item) for key, item in value.items()}
    return (value.tobytes(), str(value.dtype)) if isinstance(value, np.ndarray) else repr(value)


# -- what is read ----------------------------------------------------------------------------------


@kind
def optimizer():
    """Groups, scalars, waiting rows, narrow state, and an array of some size."""

    def few():
        methods = {"t": ao.RMSProp(0.1, momentum=0.9), "n": ao.Nadam(0.1), "s": ao.AdaGradNorm()}
        return ao.Optimizer({"t": np.ones((4, 2)), "n": np.ones(3), "s": np.ones(2)}, methods)

    def narrow():
        options = {"master": True, "state_dtype": "bfloat16", "loss_scale": 2.0}
        return ao.Optimizer({"w": np.ones(3, "f2"), "v": np.ones(2, "f2")}, ao.Adam(), **options)

    def large():
        return ao.Optimizer(np.ones(300_000), ao.AdaGrad(0.1))

    def step(opt):
        if isinstance(opt.params, dict) and "t" in opt.params:
            opt.step_rows([0, 2], np.ones((2, 2)), "t")
        opt.step(opt.params if not isinstance(opt.params, dict) else dict(opt.grads))

    made = []
    for make in (few, narrow, large):
        opt, saved = make(), make()
        for _ in range(3):
            step(saved)
        made.append((opt, true_file(saved.save)))

    def of(path):
        """Return the optimizer that a file is meant for, by its size or its names."""
        data = path.read_bytes()
        return made[2 if len(data) > 1 << 20 else b'"w"' in data][0]

    def go(path):
        opt = of(path)
        before = facts(opt.state_dict())
        try:
            opt.load(path)
        except (ValueError, TypeError):
            if facts(opt.state_dict()) != before:
                raise ModifiedError from None
            raise
        for _ in range(2):
            step(opt)
        opt.flush()
        opt.reset()

    return [data for _, data in made], lambda path: checkpoint.read(path, "optimizer"), go


@njit
def bowl(x, g_out):
    f = 0.0
    for i in range(x.size):
        g_out[i] = x[i] - 3.0
        f += g_out[i] ** 2 / 2
    return f


@kind
def minimize():
    """In Python and compiled, with what the stopping tests and certificates keep."""
    box = [(-9.0, 9.0)] * 3
    options = {"gtol": None, "ftol": 1e-12, "xtol": 1e-12, "patience": 50, "maxiter": 5}

    def run(compiled, state=None):
        fun = bowl if compiled else lambda x: (float((x - 3) @ (x - 3)) / 2, x - 3)
        return ao.minimize(
            fun, np.zeros(3), jac=None if compiled else True, method=ao.AdaGrad(0.1),
            bounds=box, options=options, state=state,
        )  # fmt: skip

    def go(path):
        for compiled in (False, True):
            run(compiled, path)

    files = [true_file(run(compiled).state.save) for compiled in (False, True)]
    return files, DescentState.load, go


@kind
def finite_sum():
    """Dense and sparse rows, shuffled, stopped inside an epoch, averaged and validated."""
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((60, 4))
    matrices = (dense, sparse.csr_matrix(np.where(dense > 0.5, dense, 0.0)))
    problems = [ao.problems.LeastSquares(A, np.ones(60)) for A in matrices]

    def run(k, state=None, epochs=1, **options):
        p = problems[k]
        return ao.minimize_finite_sum(
            p, np.zeros(4), None, method=ao.Adam(0.1) if k else ao.AdaGrad(0.1), rng=0,
            batch_size=1 + k, epochs=epochs, average=None if k else "polynomial", state=state,
            validation=p if k else None, options=options,
        )  # fmt: skip

    def go(path):
        run(b'"method": "Adam"' in path.read_bytes(), path)

    def states():
        for k in range(2):
            yield run(k, epochs=2).state
            yield run(k, maxtime=0.0).state

    return [true_file(state.save) for state in states()], EpochState.load, go


# -- forging ---------------------------------------------------------------------------------------

ODD = (
    None, True, -1, 0, 1, 2, 7, 2**31, 2**53 + 2, 2**62, 2**63, 10**30, -(2**63), -(10**18),
    1.5, -0.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, "", "x", "7", "params", [], {}, [1],
    [1.0, 2.0], {"a": 1}, [[]], "long " * 400,
)  # fmt: skip


def inside(value, at=()):
    """Yield the places in what JSON holds."""
    items = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, item in items:
        yield (*at, key)
        yield from inside(item, (*at, key))


def holder(value, at):
    for key in at[:-1]:
        value = value[key]
    return value


def forge_contents(draw, contents):
    """Change a few values of a header."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = list(inside(contents))
        inner = [at for at in places if at[0] == "header"]
        if inner and draw.random() < 0.8:
            places = inner
        at = draw.choice(places)
        here, key = holder(contents, at), at[-1]
        change = draw.randrange(6)
        if change < 3:
            here[key] = draw.choice(ODD)
        elif change == 3:
            del here[key]
        elif change == 4:
            other = draw.choice(places)
            here[key] = json.loads(json.dumps(holder(contents, other)[other[-1]]))
        elif isinstance(here, dict):
            here[draw.choice(["x", "last", "params", "", *map(str, here)])] = here.pop(key)
        else:
            here.append(here[key])
    return contents


def forge_array(draw, array):
    """Return another array."""
    array = array.copy()
    change = draw.randrange(7)
    if change < 3 and array.size:
        odd = [0, -1, 1, 2, 5000, 2**31, 2**62, -(2**62), math.nan, math.inf, -math.inf, 1e300]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = np.array(draw.choice(odd)).astype(array.dtype)
        places = draw.sample(
            range(array.size), draw.choice((1, array.size)) if array.size < 999 else 1
        )
        array.reshape(-1)[places] = value
    elif change == 3:
        array = array.astype(draw.choice(["f4", "f8", "i8", "u1", "i4", ">f8", "c16", "?", "f2"]))
    elif change == 4:
        array = array.reshape(-1)[: draw.randrange(array.size + 1)]
    elif change == 5:
        array = np.concatenate([array.reshape(-1)] * 2)
    else:
        array = array.reshape(*array.shape, 1) if draw.random() < 0.5 else array.reshape(-1, 1)
    return array


def packed(array, said=None):
    """Return the bytes of an .npy file, which may say something else of itself."""
    file = io.BytesIO()
    description = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, description | (said or {}))
    return file.getvalue() + array.tobytes()


SAID = (
    {"shape": (2**40,)}, {"shape": (-1,)}, {"shape": (0,)}, {"fortran_order": True},
    {"descr": "|O"}, {"descr": "<f4"}, {"descr": "<M8[s]"}, {"shape": (2**62, 4)},
    {"descr": "<f8,<f8"},
)  # fmt: skip


def forged(draw, data):
    """Return the bytes of a forged file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    first = next(iter(entries))
    contents = json.loads(np.load(io.BytesIO(entries[first])).tobytes())
    how = draw.choice(
        ("header", "header", "header", "arrays", "arrays", "said", "text", "zip", "bytes")
    )
    if how == "arrays":
        for item in draw.sample(contents["arrays"], draw.choice((1, 1, 2))):
            array = np.load(io.BytesIO(entries[item["entry"]]))
            new = forge_array(draw, array)
            entries[item["entry"]] = packed(new)
            true = (
                new.dtype.name if item["dtype"] != "bfloat16" or new.dtype != "u2" else "bfloat16"
            )
            if draw.random() < 0.8:
                item |= {"dtype": true, "shape": new.shape}
    elif how == "said":
        item = draw.choice(contents["arrays"])
        array = np.load(io.BytesIO(entries[item["entry"]]))
        said = draw.choice(SAID)
        entries[item["entry"]] = packed(array, said)
        item |= {key: said[key] for key in said if key == "shape"}
    elif how == "header":
        contents = forge_contents(draw, contents)
    text = json.dumps(contents)
    if how == "text":
        size = max(len(data) // draw.choice((2, 8)), 1000)
        odd = (
            "[" * size + "]" * size,
            "[]," * (size // 3),
            "1" * 5000,
            '{"a":' * 999,
            "\\ud83d" * 99,
        )
        text = text.replace('"header": {', f'"header": {{"x": [{draw.choice(odd)}0], ', 1)
    entries[first] = packed(np.frombuffer(text.encode(), np.uint8))
    return write_zip(draw, entries, how)


def write_zip(draw, entries, how):
    file = io.BytesIO()
    change = draw.randrange(5) if how == "zip" else None
    names = list(entries)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in entries.items():
            compress = zipfile.ZIP_DEFLATED if change == 0 else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), data, compress)
        if change == 1:  # one entry many times over
            archive.writestr(zipfile.ZipInfo(draw.choice(names)), entries[names[-1]])
        if change == 2:  # all entries are the largest one
            largest = max(archive.infolist(), key=lambda info: info.file_size)
            for info in archive.infolist()[1:]:
                info.header_offset, info.CRC = largest.header_offset, largest.CRC
                info.file_size = info.compress_size = largest.file_size
        if change == 3:
            for info in archive.infolist():
                info.file_size = info.compress_size = draw.choice((0, 2**31, 2**40, info.file_size))
        if change == 4:
            archive.infolist()[0].filename = draw.choice(("0.npy", "../adaptopt.npy", "x"))
    data = bytearray(file.getvalue())
    if how == "bytes":
        for _ in range(draw.choice((1, 4, 64))):
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


# -- counting --------------------------------------------------------------------------------------


def outcome(path, read, go):
    """Return what came of one file."""
    tracemalloc.start()
    try:
        read(path)
    except Exception:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if peak > ALLOWED * path.stat().st_size + LEAST:
        return f"memory {peak} for {path.stat().st_size} bytes"
    try:
        go(path)
    except (ValueError, TypeError) as error:
        return "refused" if len(str(error)) > 20 else f"no words: {error!r}"
    except ModifiedError:
        return "modified"
    except Exception as error:
        return f"wrong exception: {error!r:.300}"
    return "accepted"


def work(name, count, seed):
    """Forge files of one kind in this process, and print what came of each."""
    warnings.simplefilter("ignore")
    files, read, go = KINDS[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        for k in range(seed, seed + count):
            draw = random.Random(k)
            path.write_bytes(forged(draw, draw.choice(files)))
            faulthandler.dump_traceback_later(HANGS, exit=True)
            with np.errstate(all="ignore"):
                print(outcome(path, read, go), flush=True)
            faulthandler.cancel_dump_traceback_later()


def count_outcomes(name, count, seed=0):
    """Forge files of one kind in processes of their own; return how often what came of it."""
    outcomes = collections.Counter()
    done = 0
    while done < count:
        command = [sys.executable, __file__, "--work", "--seed", str(seed + done)]
        ran = subprocess.run(
            [*command, "--count", str(count - done), name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = ran.stdout.splitlines()
        for k, line in enumerate(lines, seed + done):
            if line not in ("refused", "accepted"):
                print(f"{name} --seed {k}: {line}", file=sys.stderr)
        outcomes.update(line.split(":")[0] for line in lines)
        done += len(lines)
        if ran.returncode:
            print(f"{name} --seed {seed + done}: {ran.stderr}", file=sys.stderr)
            outcomes["hung" if "Timeout" in ran.stderr else "crashed"] += 1
            done += 1
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.kinds[0], given.count, given.seed)
    wrong = 0
    for name in given.kinds or KINDS:
        outcomes = count_outcomes(name, given.count, given.seed)
        wrong += sum(outcomes.values()) - outcomes["refused"] - outcomes["accepted"]
        print(name, dict(outcomes), flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
