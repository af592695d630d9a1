"""A scheduler that is killed in a run: one clear error, and a file to go on from."""

import socket
import subprocess
import sys

import block_files
import numpy as np
import pytest

import adaptopt as ao
from adaptopt.distributed import Sum

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore:a call over:scipy.optimize.OptimizeWarning")


GIVEN = {"method": ao.AdaGradDA(0.5, l1=0.01), "rng": 0}
X0 = np.zeros(block_files.FEATURES)


@pytest.fixture
def start():
    """Return what starts a scheduler with a port, and a worker, in processes of their own."""
    started = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start():
        for name, *given in (
            ("dask_scheduler", "--host", "127.0.0.1", "--port", str(port)),
            ("dask_worker", f"tcp://127.0.0.1:{port}", "--no-nanny"),
        ):
            command = [sys.executable, "-m", f"distributed.cli.{name}", *given, "--no-dashboard"]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=block_files.FOLDER)
            started.append(process)
        return started[-2], f"tcp://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_run_goes_on_from_the_file_of_the_last_round(start, tmp_path):
    process, address = start()
    loaders, path = block_files.write(tmp_path), tmp_path / "round.npz"
    client = distributed.Client(address, timeout=30)
    client._timeout = 2  # after which it gives up a scheduler that is lost

    def kill(*, intermediate_result):
        if intermediate_result.epoch == 2:
            process.kill()

    with pytest.raises(ConnectionError, match="the Dask cluster of fun") as raised:
        ao.minimize_finite_sum(
            Sum(loaders, client), X0, None, callback=kill, options={"checkpoint": path}, **GIVEN
        )
    client.close()
    p = Sum(loaders)
    whole = ao.minimize_finite_sum(p, X0, None, epochs=4, **GIVEN)
    for state in (path, raised.value.state):
        res = ao.minimize_finite_sum(p, X0, None, epochs=2, state=state, **GIVEN)
        np.testing.assert_array_equal(res.x, whole.x)


def test_a_scheduler_that_comes_back_costs_no_bit(start, tmp_path):
    process, address = start()
    loaders = block_files.write(tmp_path)

    def restart(*, intermediate_result):
        if intermediate_result.epoch == 2:
            process.kill()
            process.wait()
            start()

    with distributed.Client(address, timeout=60) as client:
        before, p = client.scheduler_info()["id"], Sum(loaders, client)
        res = ao.minimize_finite_sum(p, X0, None, epochs=4, callback=restart, **GIVEN)
        assert client.scheduler_info()["id"] != before
    whole = ao.minimize_finite_sum(Sum(loaders), X0, None, epochs=4, **GIVEN)
    np.testing.assert_array_equal(res.x, whole.x)
