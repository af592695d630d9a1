"""What the manual says to pass is there."""

import re
import runpy
from pathlib import Path

import pytest

import adaptopt as ao

pytestmark = pytest.mark.quick

DOCS = Path(__file__).parents[1] / "docs"
CALLS = re.findall(
    r"``((?:Ad|RMS|AMS|Nadam|Momentum|SGD)\w*\([^`]*\))``", (DOCS / "matching.rst").read_text()
)


@pytest.mark.parametrize("call", sorted(set(CALLS)))
def test_the_table_of_other_libraries_names_methods_that_can_be_made(call):
    names = {"inverse_time": ao.schedules.inverse_time, "lr": 0.1, "lr_decay": 0.1, "eps_root": 0.1}
    assert isinstance(eval(call, {**vars(ao), **names}), ao.Method)


def test_the_table_is_found():
    assert len(set(CALLS)) > 15


def test_the_script_on_text_out_of_core_learns(capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runpy.run_path(str(DOCS / "gallery" / "uses" / "plot_text_out_of_core.py"))
    assert int(capsys.readouterr().out.partition("%")[0]) > 90
