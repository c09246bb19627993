# The checked configuration, and what the rules' params are made of. Results depend on the config only through params that
# hold the leaves they need, and on code only through digests of the modules they use: see `bico/core/fingerprints.py`.

import json
import sys
from functools import cache
from pathlib import Path

from bico.report.answers import answers_folder
from bico.pipeline.preflight import preflight
from bico.config.schema import Tables, load, read_yaml
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.fingerprints import code_digest, file_digest, folder_digest
from bico.sources.weights import manifest, read_lock, repositories


def open_config():
    """The benchmark to run, after every check that needs no model in memory; bad input ends here, in one line."""
    try:
        # Snakemake's own reader does not see keys that stand there twice.
        for file in workflow.configfiles:
            read_yaml(Path(file))
        benchmark = load(
            config, name=", ".join(map(str, workflow.configfiles))
        ).chosen()
        if not any(
            argument.startswith("zoo") for argument in sys.argv
        ):  # `snakemake zoo` mends what this refuses
            preflight(benchmark)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    return benchmark


def leaves(*parts):
    """Parts of the config as one JSON scalar, the same for equal parts."""
    return json.dumps(
        parts, sort_keys=True, default=lambda part: part.model_dump(mode="json")
    )


def model(name):
    """Digest of a model folder; null where the benchmark has no such model, or fetches it: see `fetched`."""
    folder = getattr(CONFIG.models, name)
    return folder_digest(folder) if folder and name not in WEIGHTS else None


def fetched(*names):
    """What says that these models are there and which they are, of those that are fetched."""
    return [
        str(manifest(CONFIG.weights_store, WEIGHTS[name]))
        for name in names
        if name in WEIGHTS
    ]


def media_of(source):
    return str(CONFIG.media_path(source))


def times_of_files():
    """Sizes and times of files that are one's own. Of a file that is replaced Snakemake sees by itself only that it is
    newer, and a copy may be older."""
    files = [
        file
        for entry in CONFIG.sources.values()
        for file in (entry.file, entry.binder)
        if file and not file.is_relative_to(CONFIG.authors_page)
    ]
    return leaves(
        {
            str(file): [file.stat().st_size, file.stat().st_mtime_ns]
            for file in files
            if file.exists()
        }
    )


def learners():
    """Rows in whose name something is learned."""
    return [
        row
        for row in CONFIG.methods
        if CONFIG.learned(row) and CONFIG.learner(row) == row
    ]


def code_of(row):
    return f"bico.methods.{CONFIG.methods[row].method}"


def learned(row):
    """Manifests of what a row has to learn before it can compose."""
    parts = range(CONFIG.parts) if CONFIG.learned(row) else []
    folder = f"{R}/learned/{CONFIG.learner(row)}"
    return [f"{folder}/part{part}.json" for part in parts]


def given(row, sources):
    """Binders that sources bring along, instead of what the row would learn of them."""
    return [str(file) for source in sources if (file := CONFIG.binder(row, source))]


@cache  # the parts of a row share it
def learning_of(row):
    """All settings on which what a row learns depends."""
    return leaves(
        CONFIG.methods[row].learning(),
        CONFIG.sampling.shift,
        CONFIG.learning_seeds,
        CONFIG.text_slots,
        CONFIG.dtype,
        CONFIG.compile,
        CONFIG.parts,
        CONFIG.learned(row),
    )


def any_of(names):
    """A wildcard constraint that allows just these names; nothing, if there are none."""
    return "|".join(names) or "(?!)"


CONFIG = open_config()
R = str(CONFIG.results)
CONFIG_FILE = f"{R}/config.yaml"  # what the commands read
WEIGHTS = repositories(CONFIG)
TOYBOX = [source for source, entry in CONFIG.sources.items() if entry.scene]
TRUTHS = CONFIG.truths
TABLES = [table for table in Tables.model_fields if CONFIG.table(table)]
OWN_FILES = times_of_files()
BOUND = CONFIG.bound()


# Not before: a dry run, or one that finds the results locked, must not change what running jobs read.
onstart:
    write_text(Path(CONFIG_FILE), CONFIG.to_yaml())


wildcard_constraints:
    source=any_of(CONFIG.sources),
    case=any_of(CONFIG.cases),
    method=any_of(CONFIG.methods),
    table=any_of(TABLES),
