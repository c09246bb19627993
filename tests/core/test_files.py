"""Files are whole or not there, and what keeps one from being written is one line."""

import errno
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bico.core.errors import InputError
from bico.core.files import check_writable, replacing, write_text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        InputError("ffmpeg failed: av_interleaved_write_frame(): No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_with_the_path_and_leaves_what_there_was(tmp_path, error):
    path = tmp_path / "one.json"
    path.write_text("old")
    with pytest.raises(InputError, match=f"^{path}: cannot be written: (No space|Disk quota)"), replacing(path) as new:
        new.write_text("half")
        raise error
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_a_limit_on_the_size_of_files_is_one_line(tmp_path):
    """As `ulimit -f` sets it, on what libraries write, too."""
    code = f"""
import numpy, signal
from pathlib import Path
from safetensors.numpy import save_file
from bico.core.errors import InputError
from bico.core.files import replacing, write_text
from bico.media.writing import write_clip
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def write_with_safetensors(path):
    with replacing(path) as unfinished:
        save_file({{"a": numpy.zeros(10**6)}}, unfinished)
noise = numpy.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), numpy.uint8)
writers = write_with_safetensors, lambda path: write_text(path, "a" * 10**6), lambda path: write_clip(path, noise, 8)
for write in writers:
    try:
        write(Path({str(tmp_path)!r}) / "one")
    except InputError as error:
        print(error)
"""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit)
    assert done.stdout.splitlines() == [f"{tmp_path}/one: cannot be written: File too large"] * 3, done.stderr
    assert not [*tmp_path.iterdir()]


def test_a_file_that_is_read_meanwhile_and_is_missing_is_not_one_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "one") as new:
        shutil.copyfile(tmp_path / "elsewhere" / "missing", new)


def test_two_who_write_one_file_do_not_write_into_each_other(tmp_path):
    path = tmp_path / "one"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and [*tmp_path.iterdir()] == [path]


def test_a_parent_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "one").touch()
    with pytest.raises(InputError, match=r"cannot be written: (Not a directory|File exists)"):
        write_text(tmp_path / "one" / "two" / "three", "text")


def test_an_output_is_tried_before_there_is_one(tmp_path):
    (tmp_path / "read.mp4").write_text("mine")
    (tmp_path / "link.mp4").symlink_to("read.mp4")
    check_writable(tmp_path / "new" / "out.mp4", reads=(tmp_path / "read.mp4",))
    for name in ("read.mp4", "link.mp4", "new/../read.mp4"):
        with pytest.raises(InputError, match="which is read: expected another name"):
            check_writable(tmp_path / name, reads=(tmp_path / "missing.mp4", tmp_path / "read.mp4"))
    for path in (Path("/proc/x.mp4"), tmp_path / "read.mp4" / "out.mp4"):
        with pytest.raises(InputError, match="no file can be written there"):
            check_writable(path)
    with pytest.raises(InputError, match="this is a folder"):
        check_writable(tmp_path)
    assert (tmp_path / "read.mp4").read_text() == "mine" and not [*(tmp_path / "new").iterdir()]


def test_what_is_written_may_be_read_by_others(tmp_path):
    """safetensors gives its files to their owner alone."""
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "written.safetensors") as unfinished:
        save_file({"one": np.zeros(1)}, unfinished)
    assert (tmp_path / "written.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
