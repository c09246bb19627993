# Bars and curves from existing results. Drawing them again computes no result again.


rule plot:
    input:
        table=rules.table.output.csv,
        scores=lambda w: expand(rules.score.output.scores, method=CONFIG.table(w.table)),
    output:
        png=report(
            AT.figure("{table}"),
            caption="../report/plot.rst",
            category="Tables",
            labels={"table": "{table}", "format": "plot"},
        ),
        pdf=AT.figure("{table}", "pdf"),
    log:
        AT.log("plot/{table}"),
    benchmark:
        AT.benchmark("plot/{table}")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("plot", w.table),
    shell:
        "python -m bico.cli plot --config {params.config:q} {wildcards.table:q} > {log:q} 2>&1"


rule training_plot:
    input:
        learned=lambda w: learned(w.method),
    output:
        png=report(
            AT.figure("training/{method}"),
            caption="../report/training_plot.rst",
            category="Training",
            labels=lambda w: {"method": CONFIG.label(w.method)},
        ),
        pdf=AT.figure("training/{method}", "pdf"),
    log:
        AT.log("training_plot/{method}"),
    benchmark:
        AT.benchmark("training_plot/{method}")
    wildcard_constraints:
        method=any_of([row for row in CONFIG.methods if learned_items(CONFIG, row)]),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("training_plot", w.method),
    shell:
        "python -m bico.cli training-plot --config {params.config:q} {wildcards.method:q} > {log:q} 2>&1"


rule curve:
    input:
        scores=lambda w: expand(
            rules.score.output.scores, method=CONFIG.curves[w.curve].rows
        ),
    output:
        png=report(
            AT.figure("curves/{curve}"),
            caption="../report/curve.rst",
            category="Curves",
            labels={"setting": "{curve}"},
        ),
        pdf=AT.figure("curves/{curve}", "pdf"),
    log:
        AT.log("curve/{curve}"),
    benchmark:
        AT.benchmark("curve/{curve}")
    wildcard_constraints:
        curve=any_of(CONFIG.curves),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("curve", w.curve),
    shell:
        "python -m bico.cli curve --config {params.config:q} {wildcards.curve:q} > {log:q} 2>&1"
