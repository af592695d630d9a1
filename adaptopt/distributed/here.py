"""Blocks that are streamed through this process, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from .tasks import Block, Problem, Sent, Source, Summand, holds_futures, load
from .tree import Tree


class Here:
    """Runs what there is to run over blocks in this process.

    Parameters
    ----------
    blocks : sequence of Block
        The blocks.
    keep : bool
        Whether loaded problems are kept in memory.
    """

    moved = redone = 0

    def __init__(self, blocks: Sequence[Block], keep: bool) -> None:
        self._blocks, self._keep = blocks, keep
        self._kept: dict[int, Problem] = {}

    def run(self, numbers: Sequence[int], scales: Sequence[float], sent: Sent) -> Summand:
        """Return the sum over blocks of what a function makes of them."""
        tree = Tree()
        for k in numbers:
            tree.add(self._run(self._blocks[k], scales[k], sent))
        return tree.total()

    def _run(self, block: Block, scale: float, sent: Sent) -> Summand:
        problem = self._kept.get(block.k)
        if problem is None:
            problem = load(block, self._made(block))
        if self._keep:
            self._kept[block.k] = problem
        with block.named():
            return sent.function(problem, scale, block.k, *sent.arguments)

    def _made(self, block: Block) -> Source:
        """Return the loader or the problem of a block; one that Dask makes is made here."""
        if not hasattr(type(block.source), "__dask_graph__"):
            return block.source
        from dask.local import get_sync

        with block.named():
            if holds_futures(block.source):
                raise TypeError("it holds futures of a cluster, expected client=, which has them")
            # By its name Dask warns if a client is active.
            return block.source.compute(scheduler=get_sync)
