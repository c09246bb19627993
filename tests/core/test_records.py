"""What is up to date survives a rerun; what is not is made anew."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bico.cli.main import main
from bico.core.errors import InputError
from bico.core.fingerprints import file_digest
from bico.core.records import alone, beside, checkpoints, digest_of, intact, make_all, remember, write_and_hold
from bico.core.saving import save_csv


def test_what_rounds_to_zero_has_no_sign(tmp_path):
    table = pd.DataFrame({"case": ["one", "two"], "score": [-0.00004, -0.00006], "seed": [0, 1], "none": np.nan})
    save_csv(tmp_path / "scores.csv", table)
    assert (tmp_path / "scores.csv").read_text() == "case,score,seed,none\none,0.0000,0,\ntwo,-0.0001,1,\n"


def things(folder: Path, **records: int) -> dict:
    return {name: (folder / name, {"depends": value}) for name, value in records.items()}


def test_a_text_that_is_held_is_not_replaced_by_another(tmp_path):
    """Jobs of a run read its config by name. A second run of other files in the same folder is not locked out."""
    file = tmp_path / "config.yaml"

    def run(text: str) -> subprocess.CompletedProcess[str]:
        code = (
            f"from pathlib import Path; from bico.core.records import *; write_and_hold(Path({str(file)!r}), {text!r})"
        )
        return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)

    assert run("first").returncode == 0
    write_and_hold(file, "second")  # the first has ended
    assert run("second").returncode == 0
    refused = run("third")
    assert refused.returncode == 1 and "config.yaml: a run with another config is at work" in refused.stderr
    assert file.read_text() == "second"


def test_one_thing_that_fails_does_not_keep_the_others_from_being_made(tmp_path):
    """A job that SLURM runs again begins with the same thing."""
    made = []

    def make(name: str) -> None:
        if name == "b":
            raise InputError("the loss is nan")
        made.append(name)
        (tmp_path / name).write_text(name)

    with pytest.raises(InputError, match=r"^the loss is nan$"):
        make_all("learn", things(tmp_path, a=1, b=1, c=1), make, tmp_path / "all.json")
    assert made == ["a", "c"] and not (tmp_path / "all.json").exists()

    def full(name: str) -> None:
        made.append(name)
        raise InputError("no space left") from OSError()

    with pytest.raises(InputError, match="no space left"):
        make_all("learn", things(tmp_path, d=1, e=1), full, tmp_path / "all.json")
    assert made == ["a", "c", "d"]  # the next would take hours, and fail as well


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
    for code, kept in (("old", False), ("old", True), ("new", False)):
        with checkpoints(tmp_path / "a.safetensors", {"code": code}) as folder:
            assert (folder / "checkpoint").exists() == kept
            (folder / "checkpoint").touch()


@pytest.fixture
def impatient(monkeypatch):
    """A lock that is taken is an error at once."""
    monkeypatch.setattr("bico.core.records.PATIENCE", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_folder_of_checkpoints_serves_one_process_at_a_time(tmp_path):
    with (
        checkpoints(tmp_path / "a.safetensors", {}),
        pytest.raises(InputError, match="another process is at work on it"),
        checkpoints(tmp_path / "a.safetensors", {}),
    ):
        pass


def test_checkpoints_stay_until_what_they_are_for_is_there_with_its_record(tmp_path, monkeypatch):
    def make(name: str) -> None:
        with checkpoints(tmp_path / name, {"depends": 1}) as folder:
            (folder / "checkpoint").touch()
            (tmp_path / name).write_text(name)

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bico.core.records.remember", stopped)
        make_all("learn", things(tmp_path, a=1), make, tmp_path / "manifest.json")
    assert (tmp_path / "a.ckpt" / "checkpoint").exists()
    make_all("learn", things(tmp_path, a=1), make, tmp_path / "manifest.json")
    assert not [*tmp_path.glob("*.ckpt")] and not [*tmp_path.glob(".*.ckpt.lock")]


@pytest.mark.parametrize("damage", ["", "{", "[]", "\ufffd", "null"])
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path, caplog, damage):
    path = tmp_path / "a.safetensors"
    with checkpoints(path, {"code": "old"}) as folder:
        (folder / "checkpoint").touch()
    (folder / "begun_from.json").write_text(damage)
    with checkpoints(path, {"code": "old"}) as folder:
        assert not (folder / "checkpoint").exists()
    made = []
    for _ in range(3):
        make_all(
            "learn", things(tmp_path, a=1), lambda name: made.append((tmp_path / name).write_text(name)), tmp_path / "m"
        )
        (tmp_path / "a.made_from.json").write_text(damage)
    assert len(made) == 3 and caplog.text.count("damaged") == 3


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


def made_once(folder: Path) -> Path:
    make_all("learn", things(folder, a=1), lambda name: (folder / name).write_text("one"), folder / "manifest.json")
    return folder / "a"


def test_a_damaged_file_is_made_again_by_the_step_that_makes_it(tmp_path, caplog):
    path = made_once(tmp_path)
    path.write_text("onf")
    made_once(tmp_path)
    assert path.read_text() == "one" and f"{path}: damaged" in caplog.text


def test_a_step_that_reads_a_damaged_file_stops_and_the_next_run_makes_it_again(tmp_path):
    path = made_once(tmp_path)
    assert digest_of(path) == file_digest(path) and intact(path) == path
    path.write_text("onf")
    with pytest.raises(InputError, match=f"{path}: damaged: .*run again"):
        intact(path)
    assert path.exists() and not (tmp_path / "manifest.json").exists()  # by which Snakemake runs that step again


def test_a_damaged_file_that_is_its_own_manifest_stays(tmp_path):
    path = tmp_path / "truth.mp4"
    path.write_text("one")
    remember(path, {})
    path.write_text("o")
    with pytest.raises(InputError, match=r"damaged: .*: delete it, and the next run makes it again"):
        intact(path)
    assert path.exists()  # it may be a copy that a user has edited


def test_a_file_whose_record_cannot_be_read_is_not_taken_for_whole(tmp_path):
    path = made_once(tmp_path)
    beside(path).write_text("")
    with pytest.raises(InputError, match=f"{beside(path)}: damaged: .*--forcerun"):
        intact(path)
    made_once(tmp_path)
    assert intact(path) == path


def test_a_thing_that_moves_to_another_part_is_made_again_by_that_part(tmp_path):
    path = made_once(tmp_path)
    write = lambda name: (tmp_path / name).write_text("one")  # noqa: E731
    make_all("learn", things(tmp_path, a=1), write, tmp_path / "part1.json")
    path.write_text("onf")
    with pytest.raises(InputError, match="made again"):
        intact(path)
    assert (tmp_path / "manifest.json").exists() and not (tmp_path / "part1.json").exists()


def test_a_file_of_ones_own_has_no_record_and_is_read_as_it_is(tmp_path):
    path = tmp_path / "cat.jpg"
    path.write_text("one")
    assert intact(path) == path and digest_of(path) == file_digest(path)


def test_what_there_is_stays_until_its_successor_is_whole(tmp_path):
    path = made_once(tmp_path)

    def full(name: str) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        make_all("learn", things(tmp_path, a=2), full, tmp_path / "manifest.json")
    assert path.read_text() == "one"
    make_all("learn", things(tmp_path, a=1), full, tmp_path / "manifest.json")  # the old settings are back


@pytest.mark.usefixtures("impatient")
def test_two_processes_do_not_make_the_same_things(tmp_path):
    with alone(tmp_path / "manifest.json"), pytest.raises(InputError, match=r"at work on it \(lock .manifest.json"):
        made_once(tmp_path)


def test_what_killed_processes_left_half_written_is_removed(tmp_path):
    (tmp_path / ".a.1234.unfinished").write_text("on")
    made_once(tmp_path)
    assert not [*tmp_path.glob(".*.unfinished")]


def test_verify_names_what_does_not_match_and_mends_on_demand(tmp_path, capsys):
    whole, damaged, gone, unreadable = (tmp_path / name for name in ("a", "b", "c", "d"))
    for path in (whole, damaged, gone, unreadable):
        path.write_text("one")
        remember(path, {}, tmp_path / f"{path.name}.json")
        (tmp_path / f"{path.name}.json").touch()
    assert main(["verify", str(tmp_path)]) == 0
    damaged.write_text("onf")
    gone.unlink()
    beside(unreadable).write_text("")
    assert main(["verify", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert f"{damaged}: damaged\n" in text and f"{gone}: not there\n" in text and "4 files compared, 3 do not" in text
    assert f"{beside(unreadable)}: the record cannot be read: " in text and str(whole) not in text
    assert main(["verify", str(tmp_path), "--mend"]) == 1
    assert [path.name for path in sorted(tmp_path.glob("?.json"))] == ["a.json", "d.json"]


def test_the_manifest_tells_what_is_in_the_files(tmp_path):
    make_all("learn", things(tmp_path, a=1), lambda name: (tmp_path / name).write_text("one"), tmp_path / "m")
    assert json.loads((tmp_path / "m").read_text()) == {"a": file_digest(tmp_path / "a")}
