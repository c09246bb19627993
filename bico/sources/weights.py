"""Models of full size: fetched from the Hugging Face hub into a store that many runs may share.

`config/weights.lock` pins each repository to a revision and to checksums of its large files. A model whose folder is
<weights_store>/<repository>, such as data/weights/Wan-AI/Wan2.1-T2V-1.3B-Diffusers, is fetched by a rule; any other
folder is the user's own. A repository without a revision is taken as it stands on the day of the fetch; where there are
no checksums, those of the hub count.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import yaml
from pydantic import Field

from bico.config.schema import Config
from bico.config.section import Section, checked
from bico.core.errors import InputError
from bico.core.files import write_json, write_text
from bico.core.fingerprints import file_digest
from bico.core.progress import progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

LOCK = Path("config/weights.lock")
HEADER = """\
# Models of full size: repositories of the Hugging Face hub, each at one revision, with the size of the download and the
# SHA-256 of its large files (the revision determines the small ones). `bico pin-weights` writes this file anew from the
# hub's present state. Downloads are checked against it. Where there are no checksums here, a download uses the hub's
# own for that revision (null = the newest), and records them in <weights_store>/<repository>.json.
"""
# No pickle and no code: weights are safetensors, everything else is text.
TEXTS, WEIGHTS = ("*.json", "*.txt"), ("*.safetensors",)


class Pin(Section):
    """What is fetched of a repository."""

    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(description="commit; null = the newest")
    gigabytes: float = Field(default=0.0, ge=0, description="of all that is fetched; 0 = not known yet")
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        default={}, description="file -> its SHA-256: the weights that are fetched; none = all that the hub has"
    )


class Lock(Section):
    """`config/weights.lock`."""

    repositories: dict[str, Pin]


def read_lock() -> dict[str, Pin]:
    """Repository -> what of it is fetched. InputError if the file does not fit."""
    return checked(Lock, yaml.safe_load(LOCK.read_text(encoding="utf-8")), name=str(LOCK)).repositories


def repositories(config: Config) -> dict[str, str]:
    """Model ("wan", ...) -> repository, for every model that lies in the store.

    Raises:
        InputError: the lock has no such repository.
    """
    folders = {name: folder for name, folder in config.models if folder and folder.is_relative_to(config.weights_store)}
    found = {name: folder.relative_to(config.weights_store).as_posix() for name, folder in folders.items()}
    if not found:
        return {}
    known = read_lock()
    for name, repository in found.items():
        if repository not in known:
            raise InputError(
                f"{folders[name]}: models.{name} is in weights_store, but {LOCK} has no '{repository}': expected one "
                f"of {', '.join(known)}; add it there, or put a model of your own elsewhere"
            )
    return found


def due(config: Config) -> dict[str, str]:
    """Like `repositories`, of those that are still to be fetched."""
    return {
        name: repository
        for name, repository in repositories(config).items()
        if not manifest(config.weights_store, repository).is_file()
    }


def manifest(store: Path, repository: str) -> Path:
    """Says which revision of a repository is in the store; there once all of its files are, and are right."""
    return store / f"{repository}.json"


def fetch(store: Path, repository: str) -> None:
    """Downloads a repository into `store`, checks it, and writes its manifest. What is there already stays.

    Raises:
        InputError: the repository is private, gated or unknown; there is no network, or no space; a file is wrong.
    """
    from huggingface_hub import snapshot_download

    pin, folder = read_lock()[repository], store / repository
    manifest(store, repository).unlink(missing_ok=True)
    with _plainly(repository, folder):
        if not (pin.revision and pin.files):
            pin = on_hub(repository, pin.revision)
        size = f"{pin.gigabytes} GB " if pin.gigabytes else ""
        print(f"{repository}: fetching {size}into {folder}", file=sys.stderr)
        snapshot_download(repository, revision=pin.revision, local_dir=folder, allow_patterns=[*TEXTS, *pin.files])
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes, of use to an unfinished download alone
    for name in progress(f"checksums of {repository}", pin.files):
        _check(folder / name, pin.files[name], repository)
    write_json(manifest(store, repository), {"repository": repository} | pin.model_dump())


def on_hub(repository: str, revision: str | None = None, weights: Iterable[str] = WEIGHTS) -> Pin:
    """A repository as the hub has it, at a revision or as it stands now: its texts, and these weights."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    siblings = cast("Iterable[RepoSibling]", info.siblings)
    files = list(filter_repo_objects(siblings, allow_patterns=[*TEXTS, *weights], key=lambda file: file.rfilename))
    gigabytes = round(sum(cast(int, file.size) for file in files) / 1e9, 1)
    return Pin(
        revision=info.sha, gigabytes=gigabytes, files={file.rfilename: file.lfs.sha256 for file in files if file.lfs}
    )


def pin_all() -> None:
    """Writes the lock anew: every repository as it stands on the hub now, of its weights those that the lock names.

    Raises InputError as `fetch` does.
    """
    pins = {}
    for repository, pin in read_lock().items():
        with _plainly(repository, LOCK):
            pins[repository] = on_hub(repository, weights=pin.files or WEIGHTS)
    lock = Lock(repositories=pins).model_dump()
    write_text(LOCK, HEADER + yaml.safe_dump(lock, sort_keys=False, width=200))


def _check(path: Path, expected: str, repository: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: a file of {repository} did not arrive: expected it, run again")
    if file_digest(path) != expected:
        path.unlink()  # else the next fetch would keep it
        raise InputError(
            f"{path}: wrong checksum: expected SHA-256 {expected[:12]}... (from {LOCK}, or else the hub); the file is "
            "removed, run again"
        )


@contextmanager
def _plainly(repository: str, where: Path) -> Iterator[None]:
    """Turns what goes wrong between here and the hub into an InputError of one line."""
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"https://huggingface.co/{repository}"
    try:
        yield
    except GatedRepoError:
        raise InputError(f"{page}: the repository is gated: accept its terms there, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{page}: private, or not there: expected a repository that you may read; run `hf auth login` or correct "
            f"{LOCK}"
        ) from None
    except RevisionNotFoundError:
        raise InputError(
            f"{page}: its pinned revision is gone: expected that of {LOCK}; run `bico pin-weights`"
        ) from None
    except (OSError, RuntimeError, HTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "No space left" in reason:
            raise InputError(f"{where}: the disk is full: free space, or name another 'weights_store'") from None
        raise InputError(
            f"{page}: cannot be fetched ({reason}): expected a network connection; what came is kept, run again"
        ) from None
