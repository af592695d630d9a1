"""Files from strangers are refused in words or read; `python tests/forge.py` tries more."""

import json
import tracemalloc
import zipfile

import forge
import numpy as np
import pytest

from adaptopt.optimizer import checkpoint


@pytest.mark.parametrize("name", forge.KINDS)
def test_forged_files_are_refused_or_read(name, capfd):
    outcomes = forge.count_outcomes(name, 150)
    assert outcomes.keys() <= {"refused", "accepted"}, capfd.readouterr().err


def peak_of(path):
    """Return the most memory that the refusal of a file takes."""
    tracemalloc.start()
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.read(path, "optimizer")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_entries_upon_each_other_take_no_more_memory_than_the_file(tmp_path):
    path = tmp_path / "run"
    count = 200
    arrays = [
        {"name": str(k), "entry": f"{k}.npy", "dtype": "uint8", "shape": [1 << 22]}
        for k in range(count)
    ]
    contents = {"format": "adaptopt", "version": 1, "kind": "optimizer", "header": {}}
    text = np.frombuffer(json.dumps({**contents, "arrays": arrays}).encode(), np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("adaptopt.npy"), forge.packed(text))
        archive.writestr(zipfile.ZipInfo("0.npy"), forge.packed(np.zeros(1 << 22, np.uint8)))
        whole = archive.infolist()[1]
        for k in range(1, count):
            info = zipfile.ZipInfo(f"{k}.npy")
            info.header_offset, info.CRC = whole.header_offset, whole.CRC
            info.file_size = info.compress_size = whole.file_size
            archive.filelist.append(info)
    assert peak_of(path) < 3 * path.stat().st_size


@pytest.mark.parametrize("item", ["[],", "{},", "0,", "[[[]]],", '"\\ud83d\\ude00",'])
def test_a_header_of_many_items_takes_no_more_memory_than_three_files(tmp_path, item):
    path = tmp_path / "run"
    text = f'{{"format": "adaptopt", "header": [{item * ((20 << 20) // len(item))}0]}}'
    with zipfile.ZipFile(path, "w") as archive:
        array = np.frombuffer(text.encode(), np.uint8)
        archive.writestr(zipfile.ZipInfo("adaptopt.npy"), forge.packed(array))
    assert peak_of(path) < 3 * path.stat().st_size
