"""A sum over blocks on a cluster of two processes: the same bits, faults, what Dask hands over."""

import asyncio
import os
import pickle
import shutil
import signal
import threading
import time
from functools import partial

import block_files
import numpy as np
import pytest

import adaptopt as ao
from adaptopt.distributed import BlockError, Sum

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

pytestmark = [
    pytest.mark.xdist_group("cluster"),
    pytest.mark.filterwarnings("ignore:a call over:scipy.optimize.OptimizeWarning"),
]
X0 = np.zeros(block_files.FEATURES)


def make_cluster(workers=2):
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )


@pytest.fixture(scope="module")
def cluster():
    with make_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def loaders(tmp_path_factory):
    return block_files.write(tmp_path_factory.mktemp("blocks"))


def scale(cluster, client, workers):
    """Let the cluster have so many workers; its own wait never ends after one was killed."""
    cluster.scale(workers)
    end = time.monotonic() + 60
    while len(client.nthreads()) != workers:
        assert time.monotonic() < end
        time.sleep(0.05)


def run(p, **options):
    given = {"method": ao.AdaGradDA(0.5, l1=0.01), "rng": 0, "epochs": 3, **options}
    return ao.minimize_finite_sum(p, X0, None, **given)


@pytest.fixture(scope="module")
def here(loaders):
    return run(Sum(loaders))


def same(res, expected):
    np.testing.assert_array_equal(res.x, expected.x)
    np.testing.assert_array_equal(res.jac, expected.jac)
    assert res.fun == expected.fun


def test_the_bits_are_those_of_this_process(client, loaders, here):
    res = run(Sum(loaders, client))
    same(res, here)
    assert (res.rounds["bytes"] > 0).all()
    p, q = Sum(loaders, client), Sum(loaders)
    same(ao.minimize(p, X0), ao.minimize(q, X0))


def test_the_bits_are_those_of_one_and_of_three_workers(cluster, client, loaders, here):
    try:
        for workers in (3, 1):
            scale(cluster, client, workers)
            same(run(Sum(loaders, client)), here)
    finally:
        scale(cluster, client, 2)


def test_blocks_that_are_not_kept_are_loaded_for_each_call(client, loaders, here):
    same(run(Sum(loaders, client, keep=False)), here)


def test_a_killed_worker_costs_no_bit(client, loaders, here, tmp_path):
    path = loaders[4].args[0]
    killing = partial(block_files.load_once_killed, path, str(tmp_path / "killed"))
    p = Sum([*loaders[:4], killing, loaders[5]], client, keep=False)
    same(run(p), here)
    assert (tmp_path / "killed").exists()


def test_a_worker_killed_between_rounds_costs_no_bit(cluster, client, loaders, here):
    scale(cluster, client, 2)

    def kill(*, intermediate_result):
        if intermediate_result.epoch == 1:
            pids = client.run(os.getpid)
            os.kill(min(pids.values()), signal.SIGKILL)

    same(run(Sum(loaders, client), callback=kill), here)


@pytest.mark.parametrize("workers", [1, 2])  # Dask blames all tasks that a dead worker had
def test_a_block_that_kills_all_workers_is_named(loaders, workers):
    killing = partial(block_files.load_killing, loaders[2].args[0])
    with make_cluster(workers) as cluster, distributed.Client(cluster) as client:
        cluster.scheduler.allowed_failures = 1
        with pytest.raises(BlockError, match=r"block 2 \(load_killing.*: 2 workers died") as raised:
            run(Sum([*loaders[:2], killing], client))
    assert raised.value.block == 2


def test_ctrl_c_in_a_round_keeps_the_last_one_and_frees_the_workers(client, loaders, here):
    slow = [partial(block_files.load_slowly, loader.args[0]) for loader in loaders]
    p = Sum(slow, client, keep=False)

    def tasks():
        return set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))

    before = tasks()

    def interrupt(*, intermediate_result):
        if intermediate_result.epoch == 1:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt) as raised:
        run(p, callback=interrupt)
    assert raised.value.state.epoch == 1
    end = time.monotonic() + 30
    while tasks() - before:
        assert time.monotonic() < end
        time.sleep(0.05)
    same(run(p, epochs=2, state=raised.value.state), here)


def test_cancelled_futures_are_made_again(client, loaders, here):
    p = Sum(loaders, client)
    p(X0)

    def cancel(*, intermediate_result):
        client.cancel(list(p._engine._kept.values()))

    same(run(p, callback=cancel), here)


def test_a_damaged_file_is_named_and_the_state_kept(client, loaders, tmp_path):
    damaged = tmp_path / "damaged.npz"
    shutil.copy(loaders[3].args[0], damaged)
    blocks = [*loaders[:3], partial(block_files.load, str(damaged)), *loaders[4:]]

    def damage(*, intermediate_result):
        if intermediate_result.epoch == 2:
            damaged.write_bytes(b"no rows")

    with pytest.raises(BlockError, match=r"block 3 \(load\('.*damaged.npz'\)\)") as raised:
        run(Sum(blocks, client, keep=False), callback=damage)
    assert raised.value.block == 3
    np.testing.assert_array_equal(raised.value.state.x, run(Sum(loaders), epochs=2).x)


def test_delayed_futures_and_problems_are_blocks_too(client, loaders, here):
    import dask

    blocks = [
        dask.delayed(block_files.load)(loaders[0].args[0]),
        client.submit(loaders[1]),
        loaders[2](),
        *loaders[3:],
    ]
    same(run(Sum(blocks, client)), here)
    delayed = [dask.delayed(block_files.load)(loader.args[0]) for loader in loaders]
    same(run(Sum(delayed)), here)
    with pytest.raises(TypeError, match="block 1 is a Future, expected client="):
        Sum(blocks)


def test_chunks_that_workers_get_from_elsewhere_are_aligned(client):
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((200, 5)), rng.standard_normal(200)
    X = client.persist(da.from_array(A, chunks=(50, 5)))
    p = Sum.from_dask(ao.problems.LeastSquares, X, b, client=client)
    assert p.value(X0) == pytest.approx(ao.problems.LeastSquares(A, b).value(X0), rel=1e-13)
    with pytest.raises(TypeError, match=r"X is on a cluster .*, expected client="):
        Sum.from_dask(ao.problems.LeastSquares, X, b)


@pytest.mark.parametrize("make", ["submit", "delayed"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_future_or_delayed_that_fails_shows_the_error_of_the_block(client, loaders, make, keep):
    import dask

    made = (
        client.submit if make == "submit" else lambda function, path: dask.delayed(function)(path)
    )
    p = Sum([*loaders[:2], made(block_files.load, "nowhere.npz")], client, keep=keep)
    for _ in range(2):
        with pytest.raises(BlockError, match=r"block 2 .*it failed with FileNotFound.*nowhere"):
            p(X0)


def test_a_sum_with_a_client_is_not_pickled(client, loaders):
    with pytest.raises(TypeError, match="a Sum with a client cannot be pickled"):
        pickle.dumps(Sum(loaders, client))
    assert pickle.loads(pickle.dumps(Sum(loaders))).count == 6


def test_a_future_that_is_lost_is_named(client, loaders):
    future = client.submit(loaders[1])
    p = Sum([loaders[0], future], client)
    p(X0)
    client.cancel(future)
    with pytest.raises(BlockError, match=r"block 1 .*the future is cancelled"):
        p(X0)


def test_persisted_data_are_held_by_the_sum(client):
    X = da.ones((40, 2), chunks=(10, 2))
    p = Sum.from_dask(ao.problems.LeastSquares, X.persist(), np.ones(40), client=client)
    assert p.value(np.zeros(2)) == 0.5


def test_dask_arrays_give_a_block_for_each_chunk_of_rows(client, loaders, here):
    A, y = (np.concatenate(part) for part in zip(*map(block_files.rows_of, range(6)), strict=True))
    X = da.from_array(A, chunks=(block_files.ROWS, 2))
    p = Sum.from_dask(ao.problems.Logistic, X, da.from_array(y, chunks=50), client=client)
    same(run(p), here)
    assert (len(p), p.count) == (len(y), 6)
    same(run(Sum.from_dask(ao.problems.Logistic, X, y)), here)


def test_data_frames_give_a_block_for_each_partition(client):
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame(rng.standard_normal((30, 3)), columns=list("abc"))
    table["n"] = range(30)
    frame = dd.from_pandas(table, npartitions=3)
    frame = frame[frame["n"] >= 10]  # the first partition is empty
    p = Sum.from_dask(ao.problems.LeastSquares, frame[["a", "b"]], frame["c"], client=client)
    A, b = table[["a", "b"]].to_numpy()[10:], table["c"].to_numpy()[10:]
    assert (p.count, len(p)) == (2, 20)
    expected = ao.problems.LeastSquares(np.ascontiguousarray(A), b).value(np.ones(2))
    assert p.value(np.ones(2)) == pytest.approx(expected, rel=1e-13)


def test_asynchronous_clients_are_refused(cluster, loaders):
    async def make():
        async with distributed.Client(cluster.scheduler_address, asynchronous=True) as asynchronous:
            Sum(loaders, asynchronous)

    with pytest.raises(TypeError, match="client is asynchronous"):
        asyncio.run(make())


def test_closed_clients_are_refused(cluster, loaders):
    client = distributed.Client(cluster)
    p = Sum(loaders, client)
    client.close()
    with pytest.raises(ValueError, match="client is closed"):
        Sum(loaders, client)
    with pytest.raises(ConnectionError, match="its client is closed"):
        p(X0)
    with pytest.raises(TypeError, match="client is 'tcp"):
        Sum(loaders, "tcp://127.0.0.1:8786")


def test_loaders_that_cannot_be_sent_are_named(client, loaders):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"block 1 .*cannot be pickled"):
        Sum([loaders[0], lambda: lock], client)


def test_loaders_that_hold_data_warn(client):
    data = np.ones(1_000_000)
    with pytest.warns(RuntimeWarning, match="has 8 MB"):
        Sum([lambda: ao.problems.LeastSquares(data[:, None], data)], client)


def test_threads_of_a_task_are_those_of_its_worker(client, loaders):
    assert Sum(loaders[:1], client).on_block(0, block_files.numba_threads) == 1


def test_short_calls_warn_once(client, loaders, recwarn):
    import warnings

    p = Sum(loaders[:2], client)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            p(X0)
    (warning,) = (w for w in caught if "a call over 2 blocks took" in str(w.message))
    assert "larger blocks" in str(warning.message)
