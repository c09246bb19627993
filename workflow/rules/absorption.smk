# Cross-attention maps of the sources with and without the absorption token: what does it attend to? Toybox only.

COMPARED = compared_rows(CONFIG) or ()


rule absorption:
    input:
        learned=[learned(row) for row in COMPARED],
        encoded=rules.encode.output.manifest,
        media=media_of(TOYBOX),
    output:
        csv=report(
            AT.table("absorption"),
            caption="../report/absorption.rst",
            category="Absorption token",
        ),
        png=report(
            AT.figure("absorption"),
            caption="../report/absorption.rst",
            category="Absorption token",
        ),
        pdf=AT.figure("absorption", "pdf"),
    log:
        AT.log("absorption"),
    benchmark:
        AT.benchmark("absorption")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("absorption", *COMPARED),
    shell:
        "python -m bico.cli absorption --config {params.config:q} > {log:q} 2>&1"
