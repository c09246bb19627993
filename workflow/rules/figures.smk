# For each case its sources, its exact rendering and the clip of every method, side by side.


rule figures:
    input:
        manifests=expand(rules.generate.output.manifest, method=MAIN),
        media=media_of(BOUND),
        truth=rules.truth.output.clips,
    output:
        figures=report(
            expand(AT.figure("cases/{case}"), case=CONFIG.cases),
            caption="../report/figure.rst",
            category="Compositions",
        ),
        pdf=expand(AT.figure("cases/{case}", "pdf"), case=CONFIG.cases),
    log:
        AT.log("figures"),
    benchmark:
        AT.benchmark("figures")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("figures"),
    shell:
        "python -m bico.cli figures --config {params.config:q} > {log:q} 2>&1"


# The same with all seeds, as a page on which the clips play.


rule gallery:
    input:
        manifests=expand(rules.generate.output.manifest, method=MAIN),
        scores=expand(rules.score.output.scores, method=MAIN),
        media=media_of(BOUND),
        truth=rules.truth.output.clips,
    output:
        folder=directory(AT.gallery),
        page=report(
            AT.gallery_page,
            caption="../report/gallery.rst",
            category="Gallery",
        ),
    log:
        AT.log("gallery"),
    benchmark:
        AT.benchmark("gallery")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("gallery"),
    shell:
        "python -m bico.cli gallery --config {params.config:q} > {log:q} 2>&1"


# What a board takes: the main table, and a few clips.


rule entry:
    input:
        table=AT.table("table1"),
        manifests=expand(rules.generate.output.manifest, method=MAIN),
    output:
        manifest=AT.entry,
    log:
        AT.log("entry"),
    benchmark:
        AT.benchmark("entry")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("entry"),
    shell:
        "python -m bico.cli entry --config {params.config:q} > {log:q} 2>&1"
