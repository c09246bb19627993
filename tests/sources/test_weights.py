"""Models of full size come from their hub as the lock pins them, whole and checked, or not at all."""

import errno
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from conftest import ROOT
from dagtools import jobs, pretend_results, snakemake
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from bico.cli.main import main
from bico.config.reading import load
from bico.core.errors import InputError
from bico.pipeline.preflight import preflight
from bico.report.tables import paper_table
from bico.sources import weights

OLD, NEW = "a" * 40, "b" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"import os",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path) -> SimpleNamespace:
    """A hub of one repository, and a lock that pins it and one more. `error` is raised by whoever asks."""
    hub = SimpleNamespace(files=dict(FILES), asked=[], error=None)

    def answer(revision: str | None) -> None:
        hub.asked.append(revision)
        if hub.error:
            raise hub.error

    def snapshot_download(repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        answer(revision)
        for name in filter_repo_objects(hub.files, allow_patterns=allow_patterns):
            local_dir.mkdir(parents=True, exist_ok=True)
            if not (local_dir / name).exists():
                (local_dir / name).write_bytes(hub.files[name])

    def model_info(self: object, repository: str, *, revision: str | None, files_metadata: bool) -> SimpleNamespace:
        answer(revision)
        large = {name: SimpleNamespace(sha256=sha256(data)) for name, data in hub.files.items() if len(data) > 2}
        files = [SimpleNamespace(rfilename=name, lfs=large.get(name), size=2 * 10**9) for name in hub.files]
        return SimpleNamespace(sha=revision or NEW, siblings=files)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(weights, "LOCK", tmp_path / "weights.lock")
    pinned = {"revision": OLD, "files": {"model.safetensors": sha256(b"weights")}}
    others = {"some/other": {"revision": None}, "some/third": {"revision": OLD}}
    lock = {"repositories": {"some/model": pinned} | others}
    weights.LOCK.write_text(yaml.safe_dump(lock))
    return hub


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"


def in_store(config: dict, store: Path, **models: str) -> dict:
    config["models"] |= {name: str(store / repository) for name, repository in models.items()}
    return config | {"weights_store": str(store)}


# --- fetching -------------------------------------------------------------------------------------------------------


def test_a_pinned_model_is_fetched_at_its_revision_without_pickles_and_code(hub, store):
    hub.files["merges.txt"] = b"a b"  # of a tokenizer
    weights.fetch(store, "some/model")
    assert hub.asked == [OLD]
    fetched = sorted(path.name for path in (store / "some/model").iterdir())
    assert fetched == ["config.json", "merges.txt", "model.safetensors"]
    noted = json.loads((store / "some/model.json").read_text())
    assert noted == {
        "repository": "some/model", "revision": OLD, "gigabytes": 0.0,
        "files": {"model.safetensors": sha256(b"weights")},
    }  # fmt: skip


def test_weights_that_the_lock_does_not_name_are_neither_fetched_nor_pinned(hub, store):
    """laion's CLIP stands in its repository in two formats, 4 GB each."""
    hub.files["open_clip_model.safetensors"] = b"the same weights"
    weights.fetch(store, "some/model")
    assert not (store / "some/model/open_clip_model.safetensors").exists()
    weights.pin_all()
    pins = weights.read_lock()
    assert pins["some/model"].files.keys() == {"model.safetensors"}
    assert pins["some/other"].files.keys() == {"model.safetensors", "open_clip_model.safetensors"}


def test_a_model_that_is_not_pinned_is_the_newest_and_checked_against_the_hub(hub, store):
    weights.fetch(store, "some/other")
    assert hub.asked == [None, NEW]
    noted = json.loads((store / "some/other.json").read_text())
    assert noted["revision"] == NEW and noted["files"] == {"model.safetensors": sha256(b"weights")}


def test_a_model_that_is_pinned_without_checksums_is_checked_against_the_hub(hub, store):
    weights.fetch(store, "some/third")
    assert hub.asked == [OLD, OLD]
    noted = json.loads((store / "some/third.json").read_text())
    assert noted["revision"] == OLD and noted["files"] == {"model.safetensors": sha256(b"weights")}


def test_a_wrong_file_is_named_removed_and_fetched_anew(hub, store):
    hub.files["model.safetensors"] = b"weightz"
    with pytest.raises(InputError, match=r"some/model/model.safetensors: wrong checksum: .*run again$"):
        weights.fetch(store, "some/model")
    assert not (store / "some/model.json").exists()
    hub.files["model.safetensors"] = b"weights"
    weights.fetch(store, "some/model")
    assert (store / "some/model/model.safetensors").read_bytes() == b"weights"


def test_a_file_that_does_not_arrive_is_named(hub, store):
    del hub.files["model.safetensors"]
    with pytest.raises(InputError, match=r"model.safetensors: a file of some/model did not arrive"):
        weights.fetch(store, "some/model")


def refused(error: type[Exception]) -> Exception:
    return error("refused", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(GatedRepoError), "https://huggingface.co/some/model: the repository is gated: accept its terms"),
        (refused(RepositoryNotFoundError), "some/model: private, or not there: expected a repository that you may"),
        (refused(RevisionNotFoundError), "some/model: its pinned revision is gone"),
        (OSError(errno.ENOSPC, "No space left on device"), "store/some/model: the disk is full: free space"),
        (RuntimeError("IO error: No space left on device (os error 28)"), "the disk is full"),
        (
            HTTPError("Name or service not known\nand more"),
            "cannot be fetched (Name or service not known): expected a n",
        ),
        (LocalEntryNotFoundError("offline"), "cannot be fetched (offline): expected a network connection"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(hub, store, small, tmp_path, capsys, error, expected):
    hub.error = error
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(in_store(small, store, clip="some/model")))
    assert main(["weights", "--config", str(config), "some/model"]) == 2
    *before, message = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and expected in message
    assert before == [f"some/model: fetching into {store}/some/model"]
    assert not (store / "some/model.json").exists()


def test_pinning_writes_what_the_hub_has(hub):
    assert main(["pin-weights"]) == 0
    text = weights.LOCK.read_text()
    assert text.startswith(weights.HEADER)
    for pin in weights.read_lock().values():
        assert pin.revision == NEW and pin.gigabytes == 4 and pin.files == {"model.safetensors": sha256(b"weights")}
    hub.error = HTTPError("no network")
    assert main(["pin-weights"]) == 2
    assert weights.LOCK.read_text() == text


# --- before anything runs -------------------------------------------------------------------------------------------


def test_models_that_are_still_to_be_fetched_pass_and_typos_do_not(hub, store, small):
    config = load(in_store(small, store, wan="some/model", clip="some/other"))
    preflight(config)
    assert weights.due(config) == {"wan": "some/model", "clip": "some/other"}
    with pytest.raises(
        InputError, match=r"models.clip is in weights_store, but .* has no 'some/modle': expected one of"
    ):
        preflight(load(in_store(small, store, clip="some/modle")))


def test_fetched_models_are_checked_like_any(hub, store, small):
    config = load(in_store(small, store, clip="some/model"))
    weights.fetch(store, "some/model")
    assert weights.due(config) == {}
    with pytest.raises(InputError, match=r"some/model: models.clip has no open_clip_config.json"):
        preflight(config)


def test_a_broken_lock_is_named(hub, small, store):
    weights.LOCK.write_text("repositories: {some/model: {revision: main}}")
    with pytest.raises(InputError, match=r"weights.lock: repositories.some/model.revision: expected"):
        preflight(load(in_store(small, store, clip="some/model")))


# --- the paper's benchmark ------------------------------------------------------------------------------------------


@pytest.fixture
def paper(monkeypatch) -> dict:
    monkeypatch.chdir(ROOT)
    return yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())


def test_the_paper_needs_no_file_before_it_fetches_its_own(paper, tmp_path):
    for key in ("weights_store", "authors_page"):
        text = yaml.safe_dump(paper).replace(paper[key], str(tmp_path / key))
        paper = yaml.safe_load(text)
    config = load(paper)
    preflight(config)
    assert list(weights.due(config)) == ["wan", "vlm", "clip", "appearance", "dino"]


def test_the_paper_has_its_own_values_and_every_row_of_its_tables(paper, toybox):
    config = load(paper)
    for name in ("media", "concepts", "sampling", "scoring"):
        section = getattr(config, name)
        own = {"read": "first"} if name == "media" else {}  # frame by frame, as released
        assert section == type(section)(**own)
    ours, here_alone = {"bico_isolated"}, {"bico_as_released", "bico_plain_gate"}
    plain = {row: settings for row, settings in config.methods.items() if row == settings.method}
    assert [row for row, settings in plain.items() if settings != type(settings)()] == []
    variants = load(toybox)
    for row in {*config.methods} - {*plain} - ours - here_alone:
        changed = {key for key, value in config.methods[row] if value != getattr(config.methods["bico"], key)}
        assert changed == {
            key for key, value in variants.methods[row] if value != getattr(variants.methods["bico"], key)
        }
    for table in ("table1", "table2", "table3"):
        shared = {row: number for row, number in config.table(table).items() if row not in here_alone}
        assert shared == variants.table(table)
        assert {*filter(None, config.table(table).values())} == {*paper_table(table).index[1:]}


def test_every_key_of_the_paper_is_a_key_of_the_default_one(paper, toybox):
    assert set(paper) - set(toybox) == set()


def test_what_was_downloaded_for_one_config_serves_another(checkout, tmp_path):
    text = (ROOT / "config" / "paper.yaml").read_text().replace("data/weights", str(tmp_path / "weights"))
    text = text.replace("data/authors", str(tmp_path / "authors"))
    configs = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for file in configs:
        file.write_text(text.replace("results/paper", str(tmp_path / file.stem)))
    common = checkout / "workflow" / "rules" / "common.smk"  # the pretended models are no models
    common.write_text(common.read_text().replace("        preflight(benchmark)\n", ""))
    pretend_results(checkout, configs[0], "downloads")
    again = snakemake("-n", "--configfile", configs[1], "--", "downloads", folder=checkout)
    assert jobs(again.stdout) == {}


def test_the_papers_models_are_fetched_before_they_are_used(paper, tmp_path):
    text = (ROOT / "config" / "paper.yaml").read_text().replace("data/weights", str(tmp_path / "weights"))
    text = text.replace("data/authors", str(tmp_path / "authors")).replace("results/paper", str(tmp_path / "results"))
    config_file = tmp_path / "paper.yaml"
    config_file.write_text(text)
    tables = [tmp_path / "results" / name for name in ("table1.csv", "table2.csv", "table3.csv", "published.csv")]
    found = jobs(snakemake("-n", "--configfile", config_file, "--", *tables).stdout)
    assert jobs(snakemake("-n", "--configfile", config_file, "--", "downloads").stdout) == {
        "weights": 5, "authors": 1, "downloads": 1,
    }  # fmt: skip
    expected = {"weights": 5, "authors": 1, "concepts": 1, "encode": 1, "appearance": 1, "learn": 17, "generate": 19}
    assert found.items() >= (expected | {"score": 19, "table": 3, "published": 1}).items()
