"""What the README shows is so."""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(markdown):
    """Return (heading, language, text) of every fenced block."""
    heading, found = "", []
    for match in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$",
        markdown,
        re.MULTILINE | re.DOTALL,
    ):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.append((heading, match["language"], match["text"]))
    return found


def examples():
    """Return every Python block and the output shown below it, None where there is none."""
    found = [*blocks(README), ("", "", "")]
    return [
        pytest.param(code, after[2] if after[1] == "text" else None, id=heading)
        for (heading, language, code), after in pairwise(found)
        if language == "python"
    ]


@pytest.mark.parametrize(("code", "shown"), examples())
def test_the_example_runs_and_prints_what_is_shown(code, shown):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == (shown or "")


def test_all_fences_are_closed():
    assert README.count("\n```") == 2 * len(blocks(README))


def test_two_commands_are_two_lines_of_shell():
    commands = [b for b in blocks(README) if b[0] == "Two commands"]
    assert [language for _, language, _ in commands] == ["sh", "sh"]
    assert [text.count("\n") for _, _, text in commands] == [1, 1]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^):#]+)\)", README))
def test_a_linked_file_exists(target):
    assert (Path(__file__).parents[1] / target).is_file()
