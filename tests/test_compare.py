"""The comparison with other libraries runs, and the pages are what was measured."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from comparison import (  # noqa: E402
    growth,
    peers,
    report,
    results,
    scale,
    sections,
    steppers,
    timing,
)

from benchmarks import data  # noqa: E402

KEPT = results.read(ROOT / "benchmarks" / "results" / "compare.json")
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """The folder of a quick run: one for all of xdist's workers, whoever comes first."""
    folder = tmp_path_factory.getbasetemp().parent / "compare-quick"
    done = folder / "done"
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 600
        while not done.exists():
            assert time.monotonic() < deadline
            time.sleep(0.2)
    else:
        command = [sys.executable, ROOT / "benchmarks" / "compare.py", "--quick", "--threads", "2"]
        command += ["--json", folder / "compare.json"]
        env = os.environ | {"MPLBACKEND": "Agg"}
        run = subprocess.run(
            [str(part) for part in command], env=env, capture_output=True, text=True, check=False
        )
        (folder / "printed").write_text(run.stdout)
        done.write_text(run.stderr if run.returncode else "")
    assert done.read_text() == ""
    return folder


def test_a_quick_run_measures_every_section(quick):
    found = results.read(quick / "compare.json")["sections"]
    assert list(found) == list(sections.MODULES)
    assert all(part["contests"] for part in found.values())


def test_a_quick_run_says_of_every_peer_its_version_or_why_it_is_missing(quick):
    found = results.read(quick / "compare.json")["sections"]
    for name, part in found.items():
        assert list(part["peers"]) == [peer.name for peer in sections.module(name).PEERS]
        for peer in part["peers"].values():
            assert peer["missing"] is not None or peer["version"] is not None


def test_a_quick_run_times_no_peer_that_is_missing(quick):
    for part in results.read(quick / "compare.json")["sections"].values():
        missing = {name for name, peer in part["peers"].items() if peer["missing"] is not None}
        timed = {e["name"] for contest in part["contests"] for e in contest["entries"]}
        assert not missing & timed


def test_a_quick_run_prints_every_table_and_what_is_missing(quick):
    printed = (quick / "printed").read_text()
    assert all(f"## {sections.module(name).TITLE}" in printed for name in sections.MODULES)
    for part in results.read(quick / "compare.json")["sections"].values():
        for peer in part["peers"].values():
            assert peer["missing"] is None or f"missing: {peer['package']}" in printed


def test_a_quick_run_makes_the_pages_and_says_that_it_was_quick(quick):
    found = results.read(quick / "compare.json")
    page = (quick / "performance.md").read_text(encoding="utf-8")
    assert page == report.performance(found, report.gpu_results())
    assert "it says nothing about speed" in page
    assert (quick / "scale.md").read_text(encoding="utf-8") == scale.page(found)


def test_a_quick_run_draws_the_pictures_that_the_page_shows(quick):
    pytest.importorskip("matplotlib")
    page = (quick / "performance.md").read_text(encoding="utf-8")
    names = re.findall(r"\]\((images/[^)]+)\)", page)
    assert names
    assert all((quick / name).is_file() for name in names)


def test_quick_figures_cannot_be_written_over_the_kept_ones():
    command = [sys.executable, ROOT / "benchmarks" / "compare.py", "--quick"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "--json" in run.stderr


def test_the_kept_figures_are_of_every_section_and_none_of_a_quick_run():
    assert set(KEPT["sections"]) == set(sections.MODULES)
    assert not any(part["settings"]["quick"] for part in KEPT["sections"].values())


def test_the_page_on_performance_is_made_of_the_kept_figures():
    assert report.performance(KEPT, report.gpu_results()) == PAGE


def test_the_page_on_scale_is_made_of_the_kept_figures():
    assert scale.page(KEPT) == (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_kept_figures():
    assert report.BEGIN in README
    assert report.with_figures(README, KEPT) == README


def test_the_page_gives_a_reason_wherever_a_peer_is_faster():
    assert report.UNEXPLAINED not in PAGE


@pytest.mark.parametrize("picture", sorted(set(re.findall(r"\]\((images/[^)]+)\)", PAGE))))
def test_a_picture_of_the_page_exists(picture):
    assert (ROOT / "docs" / picture).is_file()


@pytest.mark.parametrize("method", list(steppers.METHODS))
def test_numpy_takes_the_steps_of_ours(method):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(1000, np.float32), data.signed(rng, 1000)
    given = method, [x], ([g], [-g])
    made = {"adaptopt": steppers.Ours(*given), "NumPy": steppers.NumPy(*given)}
    assert steppers.checked(made, "adaptopt")["NumPy"][1]


def test_a_result_that_is_not_a_number_is_not_equal():
    worst = peers.largest_difference([np.array([np.nan, 1.0])], [np.ones(2)])
    assert peers.judge(worst)[1] is False


def test_the_gradients_are_random_and_away_from_zero():
    g = data.signed(np.random.default_rng(0), 10_000)
    assert g.dtype == np.float32
    assert 0.5 <= abs(g).min() < abs(g).max() <= 1.5
    assert abs((g > 0).mean() - 0.5) < 0.05


def entry(name, kind, seconds):
    values = iter(seconds)
    return timing.Entry(name, kind, lambda calls: next(values), "ours")


def test_a_ratio_is_that_of_the_medians():
    # A call before the rounds tells how many calls make a series.
    ours, theirs = [1.0, 1.0, 2.0, 9.0], [4.0, 4.0, 8.0, 8.0]
    entries = [entry("ours", "ours", ours), entry("peer", "peer", theirs)]
    found = timing.compare({}, entries, seconds=0.0, least=3)["entries"][1]
    assert found["seconds"]["median"] == 8.0
    assert found["ratio"]["median"] == 4.0
    assert found["ratio"]["high"] == 4.0
    assert found["rounds"] == 3


def test_what_failed_its_check_is_listed_and_not_timed():
    entries = [
        entry("ours", "ours", [1.0] * 8),
        timing.Entry("peer", "peer", None, "ours", "differs"),
    ]
    found = timing.compare({}, entries, seconds=0.0)["entries"][1]
    assert found == {"name": "peer", "kind": "peer", "check": "differs"}


def section(threads, took=1, **settings):
    contest = {"case": {"threads": threads}, "entries": [], "took": took}
    return {"settings": settings, "took": took, "contests": [contest]}


def test_a_section_that_is_measured_again_replaces_itself_and_no_other(tmp_path):
    path = tmp_path / "compare.json"
    results.merge(path, {"dense": section(2), "loop": section(2)})
    results.merge(path, {"dense": section(2, took=5)})
    found = results.read(path)["sections"]
    assert found["dense"] == section(2, took=5)
    assert found["loop"] == section(2)


def test_figures_of_other_threads_are_kept(tmp_path):
    path = tmp_path / "compare.json"
    results.merge(path, {"dense": section(1)})
    results.merge(path, {"dense": section(2)})
    contests = json.loads(path.read_text())["sections"]["dense"]["contests"]
    assert [contest["case"]["threads"] for contest in contests] == [2, 1]


def test_a_note_is_shown_and_goes_with_the_figures(tmp_path):
    path = tmp_path / "compare.json"
    results.merge(path, {"dense": section(2, quick=False)}, "It was noisy.")
    assert report.warnings(results.read(path)) == ["**dense: It was noisy.**", ""]
    results.merge(path, {"dense": section(2, quick=False)})
    assert report.warnings(results.read(path)) == []


def test_the_exponent_is_the_slope_over_the_largest_sizes():
    points = [{"size": n, "seconds": 1e-3 + 1e-9 * n**2} for n in (1, 10, 10**6, 10**7, 10**8)]
    assert growth.exponent(points, "seconds") == pytest.approx(2.0, abs=1e-3)


def peer_entry(name, median, high):
    ratio = {"median": median, "low": median, "high": high, "against": "adaptopt"}
    return {
        "name": name,
        "kind": "peer",
        "check": "equal",
        "seconds": {"median": 1.0},
        "ratio": ratio,
    }


def page_of(entries):
    contest = {"case": {"method": "AdaGrad", "n": 100, "threads": 1}, "entries": entries}
    return "\n".join(report.wins({"sections": {"dense": {"contests": [contest]}}}))


def test_a_faster_peer_is_listed_with_the_reason():
    text = page_of([peer_entry("NumPy", 0.8, 0.9)])
    assert sections.module("dense").REASONS["NumPy"] in text
    assert "AdaGrad, n = 100, 1 thread: 0.80 (0.80 to 0.90)" in text


def test_a_peer_within_the_spread_is_listed_apart():
    text = page_of([peer_entry("NumPy", 0.99, 1.02)])
    assert text.index("within the spread") < text.index("NumPy, AdaGrad")


def test_a_slower_peer_is_not_listed():
    assert "NumPy" not in page_of([peer_entry("NumPy", 1.2, 1.3)])


def test_a_peer_that_reaches_what_ours_does_not_is_listed():
    entry = peer_entry("NumPy", 1.0, 1.0)
    del entry["ratio"]
    assert "AdaGrad, n = 100, 1 thread: 1.00 s, ours not" in page_of([entry])
