"""BiCo on a benchmark: from media to the main table.

uv run snakemake --cores all results/table1.csv                              the Toybox, by default
uv run snakemake --cores all --configfile config/examples/own_media.yaml     your own photos and clips
uv run snakemake --cores all --configfile config/paper.yaml                  the paper's benchmark, at full size
uv run snakemake --cores all --config split=tuning                           the tuning set
uv run snakemake --cores all everything                                      all tables and figures
uv run snakemake --cores all results/figures/table2.png                      ablations of BiCo, as a table and a figure
uv run snakemake --cores all results/binding.csv                             what was learned from each source alone
uv run snakemake --cores all results/controls.csv                            can this benchmark measure BiCo's ingredients?
uv run snakemake --cores all results/scorers.csv                             what each score measures
uv run snakemake --cores all results/rating/pages                            pages on which people rate the clips
uv run snakemake --report results/report.html -- everything                  one page of all that `everything` made
"""

from snakemake.utils import min_version

min_version("9.19")

# A config that is given on the command line replaces the default one; the two are not merged.
if not workflow.configfiles:

    configfile: "config/toybox.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    all,
    authors,  # these two need a network, which the nodes of a cluster may not have
    weights,
    coverage,
    table,
    plot,
    training_plot,
    controls,
    curve,
    downloads,
    everything,
    binding_table,
    figures,
    gallery,
    rating,


rule all:
    input:
        table=AT.table("table1"),
        figures=expand(AT.figure("cases/{case}"), case=CONFIG.cases),
        gallery=AT.gallery_page,
        entry=AT.entry,
        plot=AT.figure("table1"),
        coverage=AT.table("coverage"),


include: "workflow/rules/weights.smk"
include: "workflow/rules/authors.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/concepts.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/learn.smk"
include: "workflow/rules/compose.smk"
include: "workflow/rules/binding.smk"
include: "workflow/rules/applications.smk"
include: "workflow/rules/absorption.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/controls.smk"
include: "workflow/rules/scorers.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/plots.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/rating.smk"


# Everything that needs a network: models of full size, and the authors' page where sources come from it.
rule downloads:
    input:
        fetched(*WEIGHTS),
        {*media_of(CONFIG.sources)} & {*rules.authors.output.media},


# All tables and figures that the config has: `all`, ablations, curves, trainings, parts of the concept, binding,
# scorers, applications, absorption. The controls are not among them. Once they are made, the next run adds their results
# to tables 2 and 3.
rule everything:
    input:
        rules.all.input,
        expand(
            f"{CONFIG.results}/{{file}}",
            file=[f"{table}.csv" for table in TABLES]
            + [f"figures/{table}.png" for table in TABLES]
            + [f"figures/curves/{curve}.png" for curve in CONFIG.curves]
            + [
                f"figures/training/{row}.png"
                for row in MAIN
                if learned_items(CONFIG, row)
            ]
            + (["binding.csv"] if TOYBOX and CONFIG.models.probe else [])
            + (["concept_parts.csv", "scorers.csv"] if CONFIG.has_truth else [])
            + (["applications.csv"] if CONFIG.applications else [])
            + (["figures/absorption.png"] if TOYBOX and COMPARED else []),
        ),
