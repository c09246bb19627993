"""BiCo on a benchmark: from media to the main table.

uv run snakemake --cores all results/table1.csv                              the Toybox, by default
uv run snakemake --cores all --configfile config/examples/own_media.yaml     your own photos and clips
uv run snakemake --cores all --config split=tuning                           the tuning set
uv run snakemake --cores all results/plots/table2.png                        ablations of BiCo, as a table and drawn
uv run snakemake --cores all results/binding.csv                             what was learned of each source alone
uv run snakemake --cores all zoo                                             train the Toybox's models anew
uv run snakemake --report results/report.html                                everything on one page
"""

from snakemake.utils import min_version

min_version("9.19")

# A config that is given on the command line stands alone, it is not merged into the default one.
if not workflow.configfiles:

    configfile: "config/toybox.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    all,
    table,
    plot,
    training_plot,
    binding_table,
    figures,
    gallery,
    zoo,


rule all:
    input:
        table=f"{R}/table1.csv",
        figures=expand(f"{R}/figures/{{case}}.png", case=CONFIG.cases),
        gallery=f"{R}/gallery",
        plot=f"{R}/plots/table1.png",


include: "workflow/rules/data.smk"
include: "workflow/rules/concepts.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/learn.smk"
include: "workflow/rules/compose.smk"
include: "workflow/rules/binding.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/plots.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/zoo.smk"
