# Tables, from the scores of their rows and people's ratings of their clips.

# Once the controls exist, the legends quote them, and they are kept up to date with the tables.
CONTROLS = (
    [AT.table("controls")] if CONTROLLED and AT.table("controls").exists() else []
)


rule table:
    input:
        scores=lambda w: expand(rules.score.output.scores, method=CONFIG.table(w.table)),
        manifests=lambda w: expand(
            rules.generate.output.manifest, method=CONFIG.table(w.table)
        ),
        controls=lambda w: CONTROLS if w.table != "table1" else [],
        truth=list(rules.calibrate.output) if CONFIG.has_truth else [],
    output:
        csv=report(
            AT.table("{table}"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "data"},
        ),
        markdown=report(
            AT.table("{table}", "md"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "text"},
        ),
        latex=AT.table("{table}", "tex"),
    log:
        AT.log("{table}"),
    benchmark:
        AT.benchmark("{table}")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("table", w.table),
    shell:
        "python -m bico.cli table --config {params.config:q} {wildcards.table:q} > {log:q} 2>&1"
