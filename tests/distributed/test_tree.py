"""The tree over which blocks are summed."""

import pytest

from adaptopt.distributed.tree import FAN_IN, Tree, fold

pytestmark = pytest.mark.quick


class Term:
    def __init__(self, text):
        self.text = text

    def __add__(self, other):
        return Term(f"({self.text} {other.text})")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 13, 64, 65, 131])
def test_all_ways_add_over_the_same_tree(count):
    terms = [Term(str(k)) for k in range(count)]
    tree = Tree()
    for term in terms:
        tree.add(term)
    level = terms
    while len(level) > 1:
        level = [fold(*level[i : i + FAN_IN]) for i in range(0, len(level), FAN_IN)]
    assert tree.total().text == level[0].text == fold(*terms).text


def test_a_tree_keeps_few_sums():
    tree = Tree()
    for _ in range(1000):
        tree.add(1)
    assert tree.total() == 1000
    assert len(tree._sums) <= 10
