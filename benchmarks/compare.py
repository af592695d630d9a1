"""Compare with other libraries: one command makes the table, the JSON, the plots and the pages.

Run it on a machine that does nothing else. Each section and number of threads has its own process.
Within it, all candidates of a comparison take turns. Libraries that are not installed are reported
as missing. A section that is measured again replaces its earlier results in the JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE / "results" / "compare.json"
SECTIONS = ("dense", "dict", "rows", "sparse", "dense-epochs", "loop", "solve", "growth")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, only to see that it works"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="approximate time of each comparison"
    )
    parser.add_argument(
        "--json",
        type=Path,
        help="default: results/compare.json, from which the manual's pages are made",
    )
    parser.add_argument("--note", help="a sentence that the page shows for these sections")
    parser.add_argument("--report", action="store_true", help="do not measure, only make the pages")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--brief", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given)
    elif given.quick and given.json is None:
        parser.error("--quick needs --json: its figures must not replace the real ones")
    else:
        conduct(given)


def conduct(given):
    """Run the workers, store their results, and make the pages."""
    from comparison import report, results, sections

    path, start = given.json or KEPT, time.perf_counter()
    jobs = () if given.report else sections.jobs(given.sections, given.threads, given.quick)
    for names, threads, brief in jobs:
        with tempfile.TemporaryDirectory() as folder:
            piece = Path(folder, "piece.json")
            run_worker(given, names, threads, brief, piece)
            results.merge(path, json.loads(piece.read_text()), given.note)
    found = results.read(path)
    print("\n".join(report.terminal(found, given.sections)))
    root = HERE.parent
    docs, readme = (path.parent, None) if given.json else (root / "docs", root / "README.md")
    report.write(found, docs, readme)
    print(f"{path}; pages and plots in {docs}; {time.perf_counter() - start:.0f} s")


def run_worker(given, names, threads, brief, piece):
    """Measure some sections in a new process, whose number of threads is set before it starts."""
    command = [sys.executable, __file__, "--worker", piece, "--seconds", given.seconds]
    command += ["--threads", threads, "--sections", *names]
    command += ["--quick"] * given.quick + ["--brief"] * brief
    count = str(threads)
    env = os.environ | {
        "OMP_WAIT_POLICY": "passive",  # waiting threads would delay the next candidate
        "THP_MEM_ALLOC_ENABLE": "1",  # torch's memory in huge pages, as NumPy's is
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",  # with more, SciPy and scikit-learn take up to 5 times as long
        "NUMBA_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }
    print(f"== {', '.join(names)}: {threads} threads", flush=True)
    subprocess.run([str(part) for part in command], check=True, env=env)


def work(given):
    """Measure in the process that ``run_worker`` started."""
    if hasattr(os, "sched_setaffinity"):
        # Before any thread starts: a library that starts more threads gains nothing by it.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: given.threads])
    from comparison import sections

    seconds = 0.05 if given.quick else given.seconds
    plan = sections.Plan(given.quick, seconds, given.threads, given.brief)
    found = sections.measure(given.sections, plan)
    given.worker.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
