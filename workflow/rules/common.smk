# The checked configuration. Rules and code share the paths of results (`bico/config/layout.py`) and what they depend on
# (`bico/plan/dependencies.py`).

import shutil
import sys
from functools import cache, partial
from pathlib import Path

from bico.config.reading import load, read_yaml
from bico.config.schema import Tables
from bico.config.scores import need_key_words
from bico.core.errors import InputError
from bico.core.records import write_and_hold
from bico.pipeline.preflight import check_folders, check_own_config, preflight
from bico.plan import dependencies
from bico.plan.absorption import compared_rows
from bico.plan.trainings import (
    applying_rows,
    learned_items,
    learner,
    trainings,
)
from bico.profiling.expected import RuleJob, expected_seconds
from bico.report.ending import ending, with_targets
from bico.sources.weights import manifest, read_lock, repositories


def open_config():
    """The benchmark to run, after every check that needs no model in memory. Bad input stops here with one line."""
    try:
        # Snakemake's own reader does not notice repeated keys.
        for file in workflow.configfiles:
            read_yaml(Path(file))
        benchmark = load(
            config, name=", ".join(map(str, workflow.configfiles))
        ).chosen()
        check_folders(benchmark)
        for file in workflow.configfiles:
            check_own_config(benchmark, Path(file))
        preflight(benchmark)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    return benchmark


@cache  # many jobs ask for the same
def depends(step, *arguments):
    """Everything besides its inputs on which the output of a step depends, as one JSON scalar."""
    return getattr(dependencies, step)(CONFIG, *arguments).params(CONFIG)


def fetched(*names):
    """Manifests of those of these models that are downloaded. They identify the files."""
    return [
        str(manifest(CONFIG.weights_store, WEIGHTS[name]))
        for name in names
        if name in WEIGHTS
    ]


def media_of(sources):
    """Files of sources that rules make. Users' own files are params (`depends`), not inputs, because Snakemake always
    fails a job with an input whose date is in the future."""
    paths = [path for source in sources for path in CONFIG.media_paths(source)]
    return [str(path) for path in paths if path not in dependencies.own_files(CONFIG)]


def key_words(scores):
    """The manifest of the sources' concepts, if one of these scores reads them."""
    return str(AT.all_concepts) if need_key_words(scores) else []


def learners():
    """Rows under whose names artifacts are learned. Other rows with the same training share them."""
    return [
        row
        for row in CONFIG.methods
        if learned_items(CONFIG, row) and learner(CONFIG, row) == row
    ]


def learned(row):
    """Manifests of the artifacts that a row needs before it can compose. A row with few trainings has fewer parts."""
    parts = range(min(CONFIG.parts, len(trainings(CONFIG, row))))
    return [str(AT.all_learned(learner(CONFIG, row), part)) for part in parts]


def any_of(names):
    """A wildcard constraint that allows only these names; without names it matches nothing."""
    return "|".join(names) or "(?!)"


CONFIG = open_config()
AT = CONFIG.paths
WEIGHTS = repositories(CONFIG)
TOYBOX = [source for source, entry in CONFIG.sources.items() if entry.scene]
TRUTHS = CONFIG.truths
TABLES = [table for table in Tables.model_fields if CONFIG.table(table)]
MAIN = list(CONFIG.table("table1"))
BOUND = CONFIG.bound()


# This is not done earlier: a dry run, or a run that finds the results locked, must not change what running jobs read.
# Snakemake locks only the files of a run, so a run of other files may be at work in the same folder.
onstart:
    try:
        write_and_hold(AT.config, CONFIG.to_yaml())
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    # For snakemake_logger_plugin_bico, which shows the progress of the run.
    due = list(workflow.dag.needrun_jobs())
    expected = expected_seconds(
        CONFIG, [RuleJob(job.rule.name, job.wildcards_dict) for job in due]
    )
    seconds = dict(zip([job.jobid for job in due], expected))
    logger.info(
        f"Starting {len(due)} jobs.",
        extra={"seconds": seconds, "cores": workflow.cores or workflow.nodes or 1},
    )


onsuccess:
    tables = [
        job.wildcards.table for job in workflow.dag.jobs if job.rule.name == "table"
    ]
    command = partial(with_targets, sys.argv[1:], workflow.dag_settings.targets)
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    try:
        text = ending(CONFIG, sorted(tables), width=width, command=command)
    except (
        InputError
    ) as error:  # a table that somebody edited does not make the run fail
        text = f"error: {error}"
    logger.info(f"\n{text}", extra={"shown": True})


wildcard_constraints:
    source=any_of(CONFIG.sources),
    case=any_of(CONFIG.cases),
    method=any_of(CONFIG.methods),
    table=any_of(TABLES),
