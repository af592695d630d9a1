"""Compare with other libraries: one command makes the table, the JSON, the plots and the page.

Run it on a machine that does nothing else. Every section and number of threads is measured in a
process of its own, all that is compared in the same one, in turns; libraries that are not installed
are reported as missing. Sections that are run again replace themselves in the JSON.
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
    parser.add_argument("--quick", action="store_true", help="all tiny: no figures to keep")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="by default all")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each comparison, about")
    parser.add_argument(
        "--json", type=Path, help="default: results/compare.json, whose pages are the manual's"
    )
    parser.add_argument("--note", help="a sentence that the page shows with these sections")
    parser.add_argument("--report", action="store_true", help="measure nothing, make the pages")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--brief", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given)
    elif given.quick and given.json is None:
        parser.error("--quick needs --json: its figures are not to be kept")
    else:
        conduct(given)


def conduct(given):
    """Run the workers, keep what they found, and make the pages."""
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
    """Measure some sections in a process of their own, whose threads are set before it starts."""
    command = [sys.executable, __file__, "--worker", piece, "--seconds", given.seconds]
    command += ["--threads", threads, "--sections", *names]
    command += ["--quick"] * given.quick + ["--brief"] * brief
    count = str(threads)
    env = os.environ | {
        "OMP_WAIT_POLICY": "passive",  # threads that spin would take the processor from the next
        "THP_MEM_ALLOC_ENABLE": "1",  # torch's memory in huge pages, as NumPy's is
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",  # SciPy and scikit-learn lose by more, up to fivefold
        "NUMBA_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }
    print(f"== {', '.join(names)}: {threads} threads", flush=True)
    subprocess.run([str(part) for part in command], check=True, env=env)


def work(given):
    """Measure, in the process that ``run_worker`` started."""
    if hasattr(os, "sched_setaffinity"):
        # Before any thread starts: a library that makes more than it is given gains nothing.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: given.threads])
    from comparison import sections

    seconds = 0.05 if given.quick else given.seconds
    plan = sections.Plan(given.quick, seconds, given.threads, given.brief)
    found = sections.measure(given.sections, plan)
    given.worker.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
