"""A scheduler that is killed in a run: one clear error, and a file to go on from."""

import subprocess
import sys

import block_files
import numpy as np
import pytest

import adaptopt as ao
from adaptopt.distributed import Sum

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore:a call over:scipy.optimize.OptimizeWarning")


@pytest.fixture
def scheduler(tmp_path):
    """Start a scheduler and a worker in processes of their own; yield both and their file."""
    file = tmp_path / "scheduler.json"
    names = {
        "dask_scheduler": ["--port", "0", "--host", "127.0.0.1"],
        "dask_worker": ["--no-nanny"],
    }
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *given, *options],
            stderr=subprocess.DEVNULL,
            cwd=block_files.FOLDER,
        )
        for name, given in names.items()
    ]
    yield processes[0], file
    for process in processes:
        process.kill()
        process.wait()


def test_a_run_goes_on_from_the_file_of_the_last_round(scheduler, tmp_path):
    process, file = scheduler
    loaders, x0 = block_files.write(tmp_path), np.zeros(block_files.FEATURES)
    path = tmp_path / "round.npz"
    given = {"method": ao.AdaGradDA(0.5, l1=0.01), "rng": 0}
    client = distributed.Client(scheduler_file=str(file), timeout=30)
    client._timeout = 2  # after which it gives up a scheduler that is lost

    def kill(*, intermediate_result):
        if intermediate_result.epoch == 2:
            process.kill()

    with pytest.raises(ConnectionError, match="the Dask cluster of fun") as raised:
        ao.minimize_finite_sum(
            Sum(loaders, client), x0, None, callback=kill, options={"checkpoint": path}, **given
        )
    client.close()
    p = Sum(loaders)
    whole = ao.minimize_finite_sum(p, x0, None, epochs=4, **given)
    for state in (path, raised.value.state):
        res = ao.minimize_finite_sum(p, x0, None, epochs=2, state=state, **given)
        np.testing.assert_array_equal(res.x, whole.x)
