# Key words and captions of the sources. Those that are up to date survive a rerun: see bico/core/records.py.


rule concepts:
    input:
        media=media_of(CONFIG.sources),
        weights=fetched("vlm"),
    output:
        manifest=AT.all_concepts,
    log:
        AT.log("concepts"),
    benchmark:
        AT.benchmark("concepts")
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("concepts"),
    shell:
        "python -m bico.cli concepts --config {params.config:q} > {log:q} 2>&1"


# How many words of each bound phrase these captions contain.


rule coverage:
    input:
        manifest=rules.concepts.output.manifest,
    output:
        csv=report(
            AT.table("coverage"),
            caption="../report/coverage.rst",
            category="Tables",
            labels={"table": "captions of bound phrases", "format": "data"},
        ),
    log:
        AT.log("coverage"),
    benchmark:
        AT.benchmark("coverage")
    priority: 2  # its notices come before learning
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("coverage"),
    shell:
        "python -m bico.cli coverage --config {params.config:q} > {log:q} 2>&1"
