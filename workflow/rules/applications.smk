# Decompositions and edits: clips made with the binder of one source only. Toybox only.


APPLIED = sorted({entry.source for entry in CONFIG.applications.values()})


rule applications:
    input:
        learned=[learned(row) for row in applying_rows(CONFIG)],
        media=media_of(APPLIED),
        weights=fetched("wan"),
    output:
        csv=report(
            AT.table("applications"),
            caption="../report/applications.rst",
            category="Applications",
        ),
        figures=report(
            expand(AT.figure("applications/{name}"), name=CONFIG.applications),
            caption="../report/application.rst",
            category="Applications",
        ),
        pdf=expand(AT.figure("applications/{name}", "pdf"), name=CONFIG.applications),
    log:
        AT.log("applications"),
    benchmark:
        AT.benchmark("applications")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("applications"),
    shell:
        "python -m bico.cli applications --config {params.config:q} > {log:q} 2>&1"
