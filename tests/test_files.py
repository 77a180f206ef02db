"""Files are whole or absent, arrays come back as they were, and a file that cannot be read is named."""

import os
import subprocess

import numpy as np
import pytest

from icl_synth import files

ARRAY = np.arange(24.0).reshape(2, 3, 4)
LAYOUTS = {
    "transposed": ARRAY.T,
    "strided": ARRAY[:, ::2, ::-1],
    "Fortran": np.asfortranarray(ARRAY),
    "broadcast": np.broadcast_to(ARRAY[:1], ARRAY.shape),
    "mask": (ARRAY > 5).T,
    "scalar": np.float32(3),
}


def test_arrays_of_any_layout_come_back(tmp_path):
    files.write_safetensors(tmp_path / "x.safetensors", LAYOUTS, {"a": "b"})
    arrays, metadata = files.read_safetensors(tmp_path / "x.safetensors", "arrays")
    assert metadata == {"a": "b"} and arrays.keys() == LAYOUTS.keys()
    for name, values in LAYOUTS.items():
        np.testing.assert_array_equal(arrays[name], values, err_msg=name)
        assert arrays[name].dtype == values.dtype


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def half(temporary):
        temporary.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, half)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


def test_the_next_writer_removes_what_killed_writers_of_the_same_file_left(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    alive = {f".x.{os.getppid()}.writing.txt", ".x.1.writing.txt"}
    others = {f".y.{ended.pid}.writing.txt", f".x.{ended.pid}.writing.json", ".x.mine.writing.txt"}
    for name in (*alive, *others, f".x.{ended.pid}.writing.txt", f".x.{2**80}.writing.txt"):
        (tmp_path / name).write_text("half")
    files.write_text(tmp_path / "x.txt", "é")
    assert set(os.listdir(tmp_path)) == {"x.txt", *alive, *others}
    assert (tmp_path / "x.txt").read_bytes() == "é".encode()


@pytest.mark.parametrize("content", [b"", b'{"a": [1,', b"\xff\xfe\x00", b"{'a': 1}"])
def test_json_that_is_cut_or_no_json_is_refused_by_name(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON .*: expected a description"):
        files.read_json(tmp_path / "x.json", "a description")
    with pytest.raises(FileNotFoundError, match=r"y\.json is missing: expected a description"):
        files.read_json(tmp_path / "y.json", "a description")


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')
    assert files.read_json(tmp_path / "x.json", "a description") == {"a": "é"}


def test_safetensors_that_cannot_be_read_are_refused_by_name(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write_safetensors(path, {"a": ARRAY})
    for content in (path.read_bytes()[:-1], b"", b"\x00" * 20):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.safetensors cannot be read .*: expected arrays"):
            files.read_safetensors(path, "arrays")
    with pytest.raises(FileNotFoundError, match="is missing: expected arrays"):
        files.read_safetensors(tmp_path, "arrays")


def test_equal_arrays_and_metadata_make_equal_bytes(tmp_path):
    """safetensors writes its metadata in an order that differs from call to call."""
    arrays, metadata = {"a": np.arange(3.0)}, {name: f"{name} ä" for name in ("format", "config", "card", "more")}
    for number in range(8):
        files.write_safetensors(tmp_path / f"{number}.safetensors", arrays, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    back, kept = files.read_safetensors(tmp_path / "0.safetensors", "arrays")
    assert kept == metadata and (back["a"] == arrays["a"]).all()
