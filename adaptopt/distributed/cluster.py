"""Blocks on the workers of a Dask cluster: one task a block, and a tree of tasks that add.

Of the client only ``scatter``, ``submit``, ``gather`` are used, and ``compute`` for Delayed blocks.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .sizes import tell_sizes
from .tasks import Block, BlockError, Sent, Source, Summand, is_future, is_problem, load, run_on
from .tree import FAN_IN, fold

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.scheduler import KilledWorker

REDO = 5  # calls that are taken again, one after the other, before the run ends
BACK = 60.0  # seconds to wait for a scheduler or workers that come back
BLAMED = 0.1  # seconds in which a scheduler says of all tasks of dead workers that they failed
LOST = ("cancelled", "lost", "error")  # states of a future that is of no use


class Cluster:
    """Runs what there is to run over blocks on workers.

    Parameters
    ----------
    client : distributed.Client
        A client that is not asynchronous.
    blocks : sequence of Block
        The blocks.
    keep : bool
        Whether workers keep loaded problems; otherwise each call loads them anew.

    Attributes
    ----------
    moved : int
        Bytes that all calls have moved, at most: what is sent, to each worker, and the results.
    redone : int
        Calls that were taken again.
    """

    def __init__(self, client: Client, blocks: Sequence[Block], keep: bool) -> None:
        self._client, self._blocks, self._keep = client, blocks, keep
        self._kept: dict[int, Future] = {}
        # Futures of blocks in a call that are made by others' tasks, which do not name the block.
        self._given: dict[int, Future] = {}
        self.moved = self.redone = 0
        self._direct = _to_workers(client)
        tell_sizes()

    def run(self, numbers: Sequence[int], scales: Sequence[float], sent: Sent) -> Summand:
        """Return the sum over blocks of what a function makes of them.

        What a lost worker or scheduler held is lost with it, and futures are cancelled. All of it
        can be made again: blocks are loaded, and the arguments are here.
        """
        try:
            return self._run(numbers, scales, sent)
        except _KilledError as killed:
            raise self._killer(killed, scales, sent) from killed.__cause__
        finally:
            self._given.clear()

    def _run(self, numbers: Sequence[int], scales: Sequence[float], sent: Sent) -> Summand:
        from dask.sizeof import sizeof
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        lost = CancelledError, NoValidWorkerError, OSError, asyncio.TimeoutError
        tries = 0
        while True:
            try:
                with self._futures() as made:
                    root = self._submit(numbers, scales, sent, made)
                    result = self._client.gather(root, direct=self._direct)
            except BlockError:
                raise
            except KilledWorker as error:
                raise self._killed(made, error) from error
            except lost as error:
                self._blame(NoValidWorkerError)
                tries += 1
                self._wait(error)
                if (killed := self._killed(made)).deaths:
                    raise killed from error
                if tries > REDO:
                    raise ConnectionError(
                        f"workers of the Dask cluster of fun were lost in {tries} attempts, one "
                        f"after the other ({type(error).__name__}: {error}). Have they enough "
                        "memory for a block and for the state? Is what a Delayed was made of "
                        "persisted, and no longer held here?"
                    ) from error
                self.redone += 1
            except Exception:
                self._blame()
                raise
            else:
                workers = min(len(numbers), max(len(self._client.scheduler_info()["workers"]), 1))
                self.moved += workers * sizeof(sent) + len(numbers) * sizeof(result)
                return result

    @contextmanager
    def _futures(self) -> Iterator[list[Future]]:
        """Release the futures of a call when it ends, by Ctrl-C too."""
        made: list[Future] = []
        try:
            yield made
        finally:
            for future in made:
                future.release()

    def _submit(
        self, numbers: Sequence[int], scales: Sequence[float], sent: Sent, made: list[Future]
    ) -> Future:
        """Submit the tasks of a call; return the future of their sum."""
        if self._client.status != "running":
            raise ConnectionResetError(f"the client is {self._client.status}")
        call = uuid.uuid4().hex
        arguments = self._client.scatter(sent, hash=False, direct=self._direct)
        made.append(arguments)
        level = []
        for k in numbers:
            block, task = self._blocks[k], self._on_worker(k, call)
            key = f"adaptopt-block-{k}-{call}"
            given = run_on, _plain(block), task, scales[k], arguments
            level.append(self._client.submit(*given, key=key, pure=False))
        made += level
        depth = 0
        while len(level) > 1:
            groups = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
            level = [
                self._client.submit(fold, *group, key=f"adaptopt-fold-{depth}-{i}-{call}")
                for i, group in enumerate(groups)
            ]
            made += level
            depth += 1
        return level[0]

    def _on_worker(self, k: int, call: str) -> Source:
        """Return what a task gets of a block: a loader, or the future of a problem."""
        block = self._blocks[k]
        kept = self._kept.get(k)
        if kept is not None and kept.status not in LOST:
            return kept
        source = block.source
        if hasattr(type(source), "__dask_graph__"):
            future = self._given[k] = self._client.compute(source)
        elif is_future(source):
            self._given[k] = source
            self._blame()
            if source.status in LOST:
                raise BlockError(
                    k,
                    f"block {k} ({block.name}): the future is {source.status}, expected one that "
                    "holds a problem; a loader or a Delayed can be made again, a future cannot",
                )
            return source
        elif is_problem(source):
            future = self._client.scatter(source, hash=False, direct=self._direct)
        elif self._keep:
            key = f"adaptopt-load-{k}-{call}"
            future = self._client.submit(load, _plain(block), source, key=key, pure=False)
        else:
            return source
        if self._keep or is_problem(source):
            self._kept[k] = future
        return future

    def _blame(self, *but: type[BaseException]) -> None:
        """Name the block whose future or Delayed has failed, if one has."""
        from distributed.scheduler import KilledWorker

        for k, future in self._given.items():
            if future.status == "error":
                why = future.exception()
                if not isinstance(why, (KilledWorker, *but)):
                    said = f"it failed with {type(why).__name__}: {why}"
                    raise BlockError(k, f"block {k} ({self._blocks[k].name}): {said}") from why

    def _killed(self, made: Sequence[Future], *errors: KilledWorker) -> _KilledError:
        """Return which blocks the scheduler blames: all that the workers had when they died."""
        from distributed.scheduler import KilledWorker

        time.sleep(BLAMED)
        found = [*errors]
        for future in (*made, *self._kept.values()):
            if future.status == "error" and isinstance(why := future.exception(), KilledWorker):
                found.append(why)
        deaths = max((error.allowed_failures + 1 for error in found), default=0)
        return _KilledError(sorted({_block_of(error.task) for error in found}), deaths)

    def _killer(self, killed: _KilledError, scales: Sequence[float], sent: Sent) -> BlockError:
        """Return the error that names the block which kills workers: of several, try each alone."""
        blocks = [k for k in killed.blocks if k >= 0]
        for k in blocks if len(blocks) > 1 else ():
            try:
                self._run([k], scales, sent)
            except _KilledError:
                blocks = [k]
                break
        names = " or ".join(f"{k} ({self._blocks[k].name})" for k in blocks) or "-1 (unknown)"
        alone = "; alone, each works" if len(blocks) > 1 else ""
        return BlockError(
            blocks[0] if len(blocks) == 1 else -1,
            f"block {names}: {killed.deaths} workers died while they had it, one after the other"
            f"{alone}. Has a worker enough memory for the block and for the state?",
        )

    def _wait(self, error: BaseException) -> None:
        """Wait for the scheduler and a worker, or say that they are lost."""
        end = time.monotonic() + BACK
        while time.monotonic() < end:
            if self._client.status not in ("running", "connecting"):
                break
            if self._client.status == "running" and self._has_workers():
                return
            time.sleep(0.1)
        status = self._client.status
        what = "has no workers" if status == "running" else f"is lost (its client is {status})"
        raise ConnectionError(
            f"the Dask cluster of fun {what}: {type(error).__name__}: {error}. Make a new "
            "client and a new Sum; a run goes on from the state of its last round, which is kept: "
            "pass it as state="
        ) from error

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except (OSError, CancelledError, RuntimeError):
            return False


class _KilledError(Exception):
    """Workers died, one after the other, while they had these blocks."""

    def __init__(self, blocks: list[int], deaths: int) -> None:
        super().__init__(blocks, deaths)
        self.blocks, self.deaths = blocks, deaths


def _block_of(task: object) -> int:
    """Return the number of the block whose task this is, or -1."""
    _, what, k, *_ = f"{task}---".split("-")
    return int(k) if what in ("load", "block") and k.isdigit() else -1


def _to_workers(client: Client) -> bool | None:
    """Return whether data go to workers without a stop at the scheduler; None: as the client says.

    Workers of a scheduler on the loopback are reached for certain.
    """
    address = getattr(client.scheduler, "address", "")
    return True if address.startswith(("tcp://127.0.0.1:", "inproc://")) else None


def _plain(block: Block) -> Block:
    """Return a block for a task, which gets its source beside it."""
    return Block(block.k, None, block.name, block.weighted)


def read_client(client: Client) -> None:
    """Raise if a client is not one that a run can wait for."""
    for name in ("submit", "scatter", "compute"):
        if not callable(getattr(client, name, None)):
            raise TypeError(f"client is {client!r:.60}, expected a distributed.Client, or None")
    if getattr(client, "asynchronous", False):
        raise TypeError(
            "client is asynchronous, expected Client(...) without asynchronous=True: a minimiser "
            "waits for the sum before each step, which would block the client's event loop"
        )
    if client.status != "running":
        raise ValueError(f"client is {client.status}, expected a client that is connected")


def check_loader(block: Block) -> None:
    """Raise if a loader cannot be sent to a worker; warn if data would go with it."""
    import warnings

    from distributed.protocol.pickle import dumps

    try:
        size = len(dumps(block.source))
    except Exception as error:
        raise TypeError(
            f"block {block.k} ({block.name}) cannot be pickled for a worker: {error}. Use "
            "functools.partial(load, path) with a function of a module"
        ) from error
    if size > 1_000_000:
        warnings.warn(
            f"the loader of block {block.k} ({block.name}) has {size / 1e6:.0f} MB, which go "
            "through this process: let it read its data on the worker, from a path",
            RuntimeWarning,
            stacklevel=4,
        )
