"""What is up to date survives a rerun; what is not is made anew."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from bico.core.files import replacing, write_csv
from bico.core.fingerprints import file_digest
from bico.core.records import checkpoints, make_all


def test_what_is_written_may_be_read_by_others(tmp_path):
    """safetensors gives its files to their owner alone."""
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "written.safetensors") as unfinished:
        save_file({"one": np.zeros(1)}, unfinished)
    assert (tmp_path / "written.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_rounds_to_zero_has_no_sign(tmp_path):
    table = pd.DataFrame({"case": ["one", "two"], "score": [-0.00004, -0.00006], "seed": [0, 1], "none": np.nan})
    write_csv(tmp_path / "scores.csv", table)
    assert (tmp_path / "scores.csv").read_text() == "case,score,seed,none\none,0.0000,0,\ntwo,-0.0001,1,\n"


def things(folder: Path, **records: int) -> dict:
    return {name: (folder / name, {"depends": value}) for name, value in records.items()}


def test_only_what_is_missing_or_stale_is_made(tmp_path, caplog):
    caplog.set_level("INFO")
    made = []

    def make(name: str) -> None:
        made.append(name)
        (tmp_path / name).write_text(name)

    make_all("learn", things(tmp_path, a=1, b=1), make, tmp_path / "manifest.json")
    make_all("learn", things(tmp_path, a=1, b=2, c=1), make, tmp_path / "manifest.json")
    assert made == ["a", "b", "b", "c"]
    assert list(json.loads((tmp_path / "manifest.json").read_text())) == ["a", "b", "c"]
    (tmp_path / "a").unlink()
    make_all("learn", things(tmp_path, a=1, b=2, c=1), make, tmp_path / "manifest.json")
    assert made[-1] == "a" and len(made) == 5
    assert "learn: a, 1 of 1" in caplog.text


def test_a_checkpoint_serves_what_it_was_begun_for_and_nothing_else(tmp_path):
    folder = checkpoints(tmp_path / "a.safetensors", {"code": "old"})
    (folder / "checkpoint").touch()
    assert list(tmp_path.iterdir()) == [folder]
    assert (checkpoints(tmp_path / "a.safetensors", {"code": "old"}) / "checkpoint").exists()
    assert not (checkpoints(tmp_path / "a.safetensors", {"code": "new"}) / "checkpoint").exists()


def test_what_was_made_before_a_failure_is_kept(tmp_path):
    made = []

    def make(name: str) -> None:
        made.append(name)
        if name == "b" and len(made) < 3:
            raise RuntimeError("out of memory")
        (tmp_path / name).write_text(name)

    with pytest.raises(RuntimeError):
        make_all("learn", things(tmp_path, a=1, b=1), make, tmp_path / "manifest.json")
    assert not (tmp_path / "manifest.json").exists()
    make_all("learn", things(tmp_path, a=1, b=1), make, tmp_path / "manifest.json")
    assert made == ["a", "b", "b"]


def test_nothing_old_stands_beside_a_record_that_is_not_its_own(tmp_path):
    """Making it anew breaks off after the file is there and before its record is; then the old settings come back."""

    def make(value: int, error: type[BaseException] | None = None) -> None:
        def write(name: str) -> None:
            (tmp_path / name).write_text(str(value))
            if error:
                raise error

        make_all("learn", things(tmp_path, a=value), write, tmp_path / "manifest.json")

    make(1)
    with pytest.raises(KeyboardInterrupt):
        make(2, KeyboardInterrupt)
    make(1)
    assert (tmp_path / "a").read_text() == "1"


def test_the_manifest_tells_what_is_in_the_files(tmp_path):
    make_all("learn", things(tmp_path, a=1), lambda name: (tmp_path / name).write_text("one"), tmp_path / "m")
    assert json.loads((tmp_path / "m").read_text()) == {"a": file_digest(tmp_path / "a")}
