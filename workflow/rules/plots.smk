# Bars and curves, from what is there: drawing anew computes nothing anew.


rule plot:
    input:
        table=rules.table.output.csv,
    output:
        png=report(
            f"{R}/figures/{{table}}.png",
            caption="../report/plot.rst",
            category="Tables",
            labels={"table": "{table}", "format": "plot"},
        ),
        pdf=f"{R}/figures/{{table}}.pdf",
    log:
        f"{R}/logs/plot/{{table}}.log",
    benchmark:
        f"{R}/benchmarks/plot/{{table}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.plots"),
    shell:
        "python -m bico.cli plot --config {params.config} {wildcards.table} 2>&1 | tee {log}"


rule training_plot:
    input:
        learned=lambda w: learned(w.method),
    output:
        png=report(
            f"{R}/figures/training/{{method}}.png",
            caption="../report/training_plot.rst",
            category="Training",
            labels={"method": "{method}"},
        ),
        pdf=f"{R}/figures/training/{{method}}.pdf",
    log:
        f"{R}/logs/training_plot/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/training_plot/{{method}}.tsv"
    wildcard_constraints:
        method=any_of([row for row in CONFIG.methods if CONFIG.learned(row)]),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.plots"),
    shell:
        "python -m bico.cli training-plot --config {params.config} {wildcards.method} 2>&1 | tee {log}"


rule curve:
    input:
        scores=lambda w: expand(
            rules.score.output.scores, method=CONFIG.curves[w.curve].rows
        ),
    output:
        png=report(
            f"{R}/figures/curves/{{curve}}.png",
            caption="../report/curve.rst",
            category="Curves",
            labels={"setting": "{curve}"},
        ),
        pdf=f"{R}/figures/curves/{{curve}}.pdf",
    log:
        f"{R}/logs/curve/{{curve}}.log",
    benchmark:
        f"{R}/benchmarks/curve/{{curve}}.tsv"
    wildcard_constraints:
        curve=any_of(CONFIG.curves),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.plots"),
        settings=lambda w: leaves(
            CONFIG.curves[w.curve], CONFIG.scoring, CONFIG.seeds, CONFIG.learning_seeds
        ),
    shell:
        "python -m bico.cli curve --config {params.config} {wildcards.curve} 2>&1 | tee {log}"
