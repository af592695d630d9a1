"""Checkpoint files: what goes in comes out to the last bit, or an error says what is wrong."""

import errno
import json
import math
import os
import re
import stat
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptopt.optimizer import checkpoint

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", ml_dtypes.bfloat16),
]
HEADER = {"t": 3, "lr": 0.1, "method": "AdaGrad"}
ARRAYS = {
    "x": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "state/G": np.array([0.5, -1, 2]).astype(ml_dtypes.bfloat16),
    "t": np.array(7),
}
LOCAL_EXTRA = 20  # bytes of sizes in 64 bits, behind a local file header of 30 and the name

posix = pytest.mark.skipif(os.name != "posix", reason="files as in POSIX")
# Each example writes its own contents to the folder first.
on_disk = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


@pytest.fixture
def saved(path):
    """A path where there is a checkpoint."""
    checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    return path


def fails(*words):
    """Expect a ValueError whose message holds all the words, in their order."""
    return pytest.raises(ValueError, match=".*".join(re.escape(str(word)) for word in words))


def assert_same(arrays, expected):
    """The same names in the same order, the same dtypes, shapes and bits."""
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype.newbyteorder("="), name
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].astype(array.dtype).tobytes(), name


def assert_holds(path, header=HEADER, arrays=ARRAYS):
    assert error_of(path, header, arrays) is None


def round_trip(path, header, arrays):
    checkpoint.write(path, "optimizer", header, arrays)
    return checkpoint.read(path, "optimizer")


def error_of(path, header=HEADER, arrays=ARRAYS):
    """Return the ValueError of reading a file, or None where it holds what it should."""
    try:
        found = checkpoint.read(path, "optimizer")
    except ValueError as error:
        return error
    assert found[0] == header
    assert_same(found[1], arrays)
    return None


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(path, contents):
    """Write an archive with these entries, whose checksums are right."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


# -- what goes in comes out ------------------------------------------------------------------------


@on_disk
@given(data=st.data(), name=st.text(), dtype=st.sampled_from(DTYPES))
def test_arrays_of_any_dtype_shape_and_name(tmp_path, data, name, dtype):
    dtype = np.dtype(dtype)
    shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=5))
    raw = data.draw(hnp.arrays(np.uint8, (*shape, dtype.itemsize)))
    array = (raw % 2 if dtype.name == "bool" else raw).reshape(-1).view(dtype).reshape(shape)
    arrays = {name: array, name + "2": array}
    assert_same(round_trip(tmp_path / "run.npz", {}, arrays)[1], arrays)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "/", "π", "\ud800", "adaptopt", "0.npy", "\0"])
def test_an_array_may_have_any_name(path, name):
    assert list(round_trip(path, {}, {name: np.ones(2)})[1]) == [name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        np.transpose,
        lambda a: a[::-1, ::2],
        lambda a: np.broadcast_to(a[0, 0], (3, 2)),
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: a.astype(a.dtype.newbyteorder("<")).T,
    ],
)
def test_arrays_of_any_layout_come_back_plain(path, dtype, change):
    array = change(np.arange(12).reshape(3, 4).astype(dtype))
    arrays = round_trip(path, {}, {"a": array})[1]
    assert_same(arrays, {"a": array})
    flags = arrays["a"].flags
    assert (flags.c_contiguous, flags.aligned, flags.writeable) == (True, True, True)
    assert arrays["a"].dtype.isnative


@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16])
def test_arrays_longer_than_a_chunk(path, dtype):
    array = np.random.default_rng(0).standard_normal((1001, 1003)).astype(dtype)
    arrays = {"c": array, "f": np.asfortranarray(array), "strided": array[::2, ::-3]}
    assert_same(round_trip(path, {}, arrays)[1], arrays)


def test_arrays_written_on_a_machine_of_the_other_byte_order(saved):
    contents = entries(saved)
    other = ARRAYS["x"].astype(ARRAYS["x"].dtype.newbyteorder("S"))
    contents["0.npy"] = contents["0.npy"].replace(
        ARRAYS["x"].dtype.str.encode(), other.dtype.str.encode()
    ).replace(ARRAYS["x"].tobytes(), other.tobytes())  # fmt: skip
    forge(saved, contents)
    assert_holds(saved)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
headers = st.dictionaries(
    st.text(),
    st.recursive(
        scalars,
        lambda inside: (
            st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@on_disk
@given(header=headers)
def test_a_header_comes_back_exactly(tmp_path, header):
    # repr tells -0.0 from 0.0, True from 1 and 1.0 from 1, and nan equals nan.
    assert repr(round_trip(tmp_path / "run.npz", header, {})[0]) == repr(header)


def test_a_header_may_hold_what_is_not_finite(path):
    found = round_trip(path, {"a": [math.nan, math.inf, -math.inf, 5e-324]}, {})[0]["a"]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 5e-324]


def test_a_header_may_use_the_names_of_the_format(path):
    header = {"version": 5, "kind": "other", "arrays": [], "format": None}
    assert round_trip(path, header, {})[0] == header


def test_a_tuple_in_a_header_is_read_as_a_list(path):
    assert round_trip(path, {"first": (1.0, 2.0)}, {})[0] == {"first": [1.0, 2.0]}


def test_numpy_reads_the_file_without_pickle(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert archive.files == ["adaptopt", "0", "1", "2"]
        np.testing.assert_array_equal(archive["0"], ARRAYS["x"])
        assert archive["1"].dtype == np.uint16
        contents = json.loads(archive["adaptopt"].tobytes())
    assert contents["version"] == 1
    assert contents["arrays"][1] == {
        "name": "state/G", "entry": "1.npy", "dtype": "bfloat16", "shape": [3],
    }  # fmt: skip


def test_the_same_contents_make_the_same_file(saved):
    before = saved.read_bytes()
    checkpoint.write(saved, "optimizer", HEADER, ARRAYS)
    assert saved.read_bytes() == before


def test_ml_dtypes_is_imported_for_bfloat16_alone(path):
    checkpoint.write(path, "optimizer", {}, {"x": np.ones(2, np.float16)})
    code = (
        "import sys; from adaptopt.optimizer import checkpoint; "
        "checkpoint.read(sys.argv[1], 'optimizer'); "
        "sys.exit('ml_dtypes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0


def test_bfloat16_without_ml_dtypes(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r"run\.npz holds bfloat16 arrays.*ml_dtypes"):
        checkpoint.read(saved, "optimizer")


def test_neither_writing_nor_reading_copies_an_array(path):
    array = np.ones((4096, 1024), np.float64)  # 32 MiB
    arrays = {"c": array, "f": array.T, "strided": array[:, ::2], "swapped": array.view(">f8")}
    tracemalloc.start()
    try:
        checkpoint.write(path, "optimizer", {}, arrays)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = checkpoint.read(path, "optimizer")[1]
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written < 8e6
    assert read < sum(a.nbytes for a in found.values()) + 8e6


# -- what cannot be written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.array([None])}, r"arrays\['a'\] has dtype object, expected one of bool, .*float"),
        ({"a": np.array(["s"])}, r"arrays\['a'\] has dtype <U1"),
        ({"a": np.zeros(2, "f4,f4")}, r"arrays\['a'\] has dtype"),
        ({"a": np.zeros(2, "M8[s]")}, r"arrays\['a'\] has dtype datetime64\[s\]"),
        ({"a": np.zeros(2, ml_dtypes.float8_e4m3)}, r"arrays\['a'\] has dtype float8_e4m3"),
        ({"a": [1.0]}, r"arrays\['a'\] is a list, expected a NumPy array"),
        ({"a": np.ma.masked_array([1.0])}, r"arrays\['a'\] is a MaskedArray"),
        ({3: np.ones(2)}, "the name of an array in arrays is 3, expected a str"),
    ],
)
def test_arrays_that_no_checkpoint_holds(saved, arrays, words):
    with pytest.raises(TypeError, match=words):
        checkpoint.write(saved, "optimizer", {}, arrays)
    assert_holds(saved)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            {"a": [{"b": np.int64(3)}]},
            r"header\['a'\]\[0\]\['b'\] is np.int64\(3\), expected a dict",
        ),
        ({"a": {1: 2}}, r"a key of header\['a'\] is 1, expected a str"),
        ({"a": {1, 2}}, r"header\['a'\] is \{1, 2\}"),
        ({"a": 1j}, r"header\['a'\] is 1j"),
        ([], r"header is \[\], expected a dict"),
    ],
)
def test_headers_that_json_would_change(saved, header, words):
    with pytest.raises(TypeError, match=words):
        checkpoint.write(saved, "optimizer", header, {})
    assert_holds(saved)


def test_a_kind_is_a_str(path):
    with pytest.raises(TypeError, match="kind is 3, expected a str"):
        checkpoint.write(path, 3, {}, {})


# -- where it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", [str, Path, os.fsencode])
@pytest.mark.parametrize("name", ["run", "run.npz", "run.ckpt", "é" * 100])
def test_the_path_is_used_as_it_is(tmp_path, change, name):
    path = change(tmp_path / name)
    checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    assert os.listdir(tmp_path) == [name]
    assert_holds(path)


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.write("run", "optimizer", HEADER, ARRAYS)
    assert_holds("run")


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_other(path, umask):
    before = os.umask(umask)
    try:
        checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_replaced_keeps_its_permissions(saved, mode):
    saved.chmod(mode)
    checkpoint.write(saved, "optimizer", HEADER, ARRAYS)
    assert stat.S_IMODE(saved.stat().st_mode) == mode


@posix
def test_what_is_private_is_so_from_the_start(saved, monkeypatch):
    saved.chmod(0o600)
    modes = []
    monkeypatch.setattr(os, "chmod", lambda name, _: modes.append(os.stat(name).st_mode & 0o777))
    checkpoint.write(saved, "optimizer", HEADER, ARRAYS)
    assert modes == [0o600]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="to root, nothing is read-only")
def test_a_read_only_file_is_not_replaced(saved):
    saved.chmod(0o444)
    with pytest.raises(PermissionError, match=r"run\.npz"):
        checkpoint.write(saved, "optimizer", {}, {})
    assert_holds(saved)


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, there):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "run", tmp_path / "link"
    link.symlink_to(Path("folder", "run"))
    if there:
        target.write_text("old")
    checkpoint.write(link, "optimizer", HEADER, ARRAYS)
    assert link.is_symlink()
    assert_holds(target)
    assert os.listdir(tmp_path / "folder") == ["run"]


@posix
def test_links_in_a_circle(path):
    path.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        checkpoint.write(path, "optimizer", {}, {})


@posix
def test_a_device_is_not_replaced(tmp_path):
    with pytest.raises(OSError, match=f"Not a regular file.*{os.devnull}"):
        checkpoint.write(os.devnull, "optimizer", {}, {})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_folder_is_what_the_system_says(tmp_path):
    with pytest.raises((IsADirectoryError, PermissionError)):
        checkpoint.write(tmp_path, "optimizer", {}, {})
    with pytest.raises((IsADirectoryError, PermissionError)):
        checkpoint.read(tmp_path, "optimizer")


def test_a_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"run\.npz"):
        checkpoint.read(path, "optimizer")


def test_a_missing_folder_is_named_with_the_file_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder.+run\.npz'$"):
        checkpoint.write(tmp_path / "folder" / "run.npz", "optimizer", {}, {})


# -- the old file or the new one -------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()]
)
@pytest.mark.parametrize(
    "name", ["os.fsync", "os.replace", "zipfile.ZipFile.close", "numpy.nditer", "os.chmod"]
)
def test_an_error_leaves_the_old_file_and_no_other(saved, monkeypatch, name, error):
    def fail(*args, **kwargs):
        raise error

    saved.chmod(0o640)
    monkeypatch.setattr(name, fail)
    with pytest.raises(type(error)):
        checkpoint.write(saved, "optimizer", {}, {"x": np.zeros(10_000)})
    monkeypatch.undo()
    assert os.listdir(saved.parent) == ["run.npz"]
    assert_holds(saved)


@posix
def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(saved):
    code = """
import resource, sys
import numpy as np
from adaptopt.optimizer import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.write(sys.argv[1], "optimizer", {}, {"x": np.zeros(1_000_000)})
except OSError:
    sys.exit(3)
"""
    assert subprocess.run([sys.executable, "-c", code, saved], check=False).returncode == 3
    assert os.listdir(saved.parent) == ["run.npz"]
    assert_holds(saved)


@pytest.mark.parametrize("place", ["zipfile.ZipFile.close", "os.fsync", "os.replace"])
def test_a_process_killed_while_it_writes_leaves_the_old_file(saved, place):
    code = f"""
import os, sys, time, zipfile
import numpy as np
from adaptopt.optimizer import checkpoint
def wait(*args):
    print("waits", flush=True)
    time.sleep(600)
{place} = wait
checkpoint.write(sys.argv[1], "optimizer", {{}}, {{"x": np.zeros(1_000_000)}})
"""
    command = [sys.executable, "-c", code, saved]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"waits"
        process.kill()
    left = [name for name in os.listdir(saved.parent) if name != "run.npz"]
    assert [re.fullmatch(r"\.adaptopt-[0-9a-f]{16}\.tmp", name) is None for name in left] == [False]
    assert_holds(saved)


def test_the_data_are_on_the_disk_before_the_name_is(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (calls.append(n), r(*a)))
    checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    assert calls == ["fsync", "replace"] + ["fsync"] * (os.name == "posix")


@posix
def test_a_folder_that_cannot_be_synced_is_no_failure(path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no sync of folders here")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    assert_holds(path)


@posix  # Windows does not replace a file that is open
def test_writers_at_once_end_with_one_whole_file(path):
    start = threading.Barrier(4)
    errors = []

    def write(i):
        start.wait()
        try:
            for _ in range(25):
                checkpoint.write(path, "optimizer", {"i": i}, {"x": np.full(20_000, i)})
                header, arrays = checkpoint.read(path, "optimizer")
                assert (arrays["x"] == header["i"]).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(path.parent) == ["run.npz"]


def test_an_array_that_changes_meanwhile_does_not_damage_the_file(path):
    x = np.zeros(1_000_000)
    done = threading.Event()

    def change():
        while not done.is_set():
            x.__iadd__(1)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            round_trip(path, {}, {"x": x})
    finally:
        done.set()
        thread.join()


# -- what is no checkpoint, or a damaged one -------------------------------------------------------


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    """Return a file, and what is said of it with each of its bits flipped: None if it holds all."""
    path = tmp_path_factory.mktemp("flipped") / "run.npz"
    checkpoint.write(path, "optimizer", HEADER, ARRAYS)
    whole = path.read_bytes()
    said = []
    for i in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[i // 8] ^= 1 << i % 8
        path.write_bytes(damaged)
        error = error_of(path)
        said.append(error and str(error))
    path.write_bytes(whole)
    return path, said


def test_a_flipped_bit_is_found_or_changes_nothing(flipped):
    path, said = flipped
    found = [error for error in said if error is not None]
    assert all(str(path) in error for error in found)
    # What zip itself ignores: times, versions, attributes, the copies in the local headers.
    assert len(found) > 0.8 * len(said)


def test_a_flipped_bit_in_an_array_or_the_header_is_found(flipped):
    path, said = flipped
    words = (path, "is damaged (Bad CRC-32 for file", "expected a complete checkpoint")
    expected = ".*".join(re.escape(str(word)) for word in words)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    for info in infos:
        start = info.header_offset + 30 + len(info.filename) + LOCAL_EXTRA
        for i in range(8 * start, 8 * (start + info.file_size)):
            assert re.search(expected, said[i] or "")


def test_a_file_cut_off_anywhere(saved):
    whole = saved.read_bytes()
    for size in range(len(whole)):
        saved.write_bytes(whole[:size])
        with fails(saved):
            checkpoint.read(saved, "optimizer")


@on_disk
@given(
    arrays=st.dictionaries(
        st.text(max_size=3),
        hnp.arrays(st.sampled_from(["f4", "f8", "u1"]), hnp.array_shapes(min_side=0, max_side=3)),
        max_size=3,
    ),
    data=st.data(),
)
def test_damage_of_any_kind_is_found_or_changes_nothing(tmp_path, arrays, data):
    path = tmp_path / "run.npz"
    checkpoint.write(path, "optimizer", HEADER, arrays)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, len(whole) - start))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[start + length :])
    error = error_of(path, HEADER, arrays)
    assert error is None or str(path) in str(error)


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"more" * 100, "itself"])
def test_a_tail_is_found(saved, tail):
    whole = saved.read_bytes()
    saved.write_bytes(whole + (whole if tail == "itself" else tail))
    with fails(saved, "is damaged (", "expected a complete checkpoint"):
        checkpoint.read(saved, "optimizer")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"x = 3\n", "it starts with b'x = ', expected b'PK\\x03\\x04'"),
        (b"\x93NUMPY\x01\x00", "it starts with b'\\x93NUM'"),
        (b"PK\3\4", "it does not start with an entry adaptopt.npy"),
    ],
)
def test_a_file_of_another_format(path, content, words):
    path.write_bytes(content)
    with fails(path, "is not an adaptopt checkpoint:", words):
        checkpoint.read(path, "optimizer")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["x", "adaptopt"])
@pytest.mark.parametrize(
    "array", [np.ones(3), np.ones(3, np.uint8), np.array([{}]), np.frombuffer(b"[]", np.uint8)]
)
def test_an_npz_of_someone_else(path, save, name, array):
    save(path, **{name: array})
    with fails(path):
        checkpoint.read(path, "optimizer")


def test_pickled_objects_are_not_loaded(saved):
    np.savez(saved.with_name("other.npz"), **{"0": np.array([{"a": 1}])})
    forge(saved, entries(saved) | entries(saved.with_name("other.npz")))
    with fails(saved, "is damaged (0.npy is", "Python objects"):
        checkpoint.read(saved, "optimizer")


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("minimize state", "optimizer", "holds a minimize state, expected an optimizer"),
        ("optimizer", "minimize state", "holds an optimizer, expected a minimize state"),
    ],
)
def test_a_checkpoint_of_another_kind(path, kind, expected, words):
    checkpoint.write(path, kind, HEADER, ARRAYS)
    with fails(path, words):
        checkpoint.read(path, expected)


def test_a_newer_format(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "_VERSION", 2)
    checkpoint.write(saved, "optimizer", HEADER, ARRAYS)
    monkeypatch.undo()
    with fails(saved, "has format version 2, expected 1: it was written by a newer adaptopt"):
        checkpoint.read(saved, "optimizer")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "float64"}, "array 'x' is float32 of shape (2, 3), its header says float64"),
        ({"shape": [3, 2]}, "array 'x' is float32 of shape (2, 3), its header says float32"),
        ({"dtype": "bfloat16"}, "array 'x' is float32 of shape (2, 3), its header says uint16"),
        ({"dtype": "float8"}, "array 'x' is float32 of shape (2, 3), its header says float8"),
        ({"entry": "7.npy"}, "it has the entries"),
        ({"entry": "1.npy"}, "it has the entries"),
        ({"shape": None}, "its header does not say what its arrays are"),
        ({"name": "t"}, "two of its arrays have the same name"),
    ],
)
def test_arrays_that_are_not_what_the_header_says(saved, changes, words):
    contents = entries(saved)
    with np.load(saved) as archive:
        meta = json.loads(archive["adaptopt"].tobytes())
    meta["arrays"][0].update(changes)
    other = saved.with_name("other.npz")
    np.savez(other, adaptopt=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    forge(saved, contents | entries(other))
    with fails(saved, "is damaged (", words):
        checkpoint.read(saved, "optimizer")


@pytest.mark.parametrize("name", ["0.npy", "2.npy"])
def test_an_array_that_is_missing(saved, name):
    contents = entries(saved)
    del contents[name]
    forge(saved, contents)
    with fails(saved, "is damaged (it has the entries", "its header says", name):
        checkpoint.read(saved, "optimizer")


def test_an_array_too_many(saved):
    contents = entries(saved)
    forge(saved, contents | {"3.npy": contents["2.npy"]})
    with fails(saved, "is damaged (it has the entries", "3.npy"):
        checkpoint.read(saved, "optimizer")


def test_an_error_of_the_system_stays_one(saved, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.read(saved, "optimizer")
