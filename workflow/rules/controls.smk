# Positive controls: is the effect of each ingredient of BiCo visible where it must have one? On demand.

CONTROLLED = CONFIG.controls.rows()
# Rows that are compared by their scores. The others are compared by the measurements of the rules below.
COMPARED_BY_SCORES = [
    row
    for ingredient, rows in CONTROLLED.items()
    if ingredient not in ("diversification", "absorption")
    for row in rows
]


rule control_diversification:
    input:
        learned=[learned(row) for row in CONTROLLED.get("diversification", [])],
        concepts=rules.concepts.output.manifest,
        encoded=rules.encode.output.manifest,
        weights=fetched("wan"),
    output:
        gains=AT.control("diversification"),
    log:
        AT.log("controls/diversification"),
    benchmark:
        AT.benchmark("controls/diversification")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("control_diversification"),
    shell:
        "python -m bico.cli control-diversification --config {params.config:q} > {log:q} 2>&1"


rule control_counterparts:
    input:
        concepts=rules.concepts.output.manifest,
        weights=fetched("wan"),
    output:
        manifest=AT.counterparts.all_learned("{method}", 0),
    log:
        AT.log("controls/learn/{method}"),
    benchmark:
        AT.benchmark("controls/learn/{method}")
    wildcard_constraints:
        method=any_of(CONTROLLED.get("absorption", [])),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("control_counterparts"),
    shell:
        "python -m bico.cli control-counterparts --config {params.config:q} > {log:q} 2>&1"


rule control_absorption:
    input:
        learned=[learned(row) for row in CONTROLLED.get("absorption", [])],
        counterparts=expand(
            rules.control_counterparts.output.manifest,
            method=CONTROLLED.get("absorption", []),
        ),
        media=media_of(TOYBOX),
        weights=fetched("wan"),
    output:
        clips=AT.control("absorption"),
    log:
        AT.log("controls/absorption"),
    benchmark:
        AT.benchmark("controls/absorption")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("control_absorption"),
    shell:
        "python -m bico.cli control-absorption --config {params.config:q} > {log:q} 2>&1"


rule controls:
    input:
        scores=expand(rules.score.output.scores, method=COMPARED_BY_SCORES),
        diversification=(
            rules.control_diversification.output.gains
            if "diversification" in CONTROLLED
            else []
        ),
        absorption=(
            rules.control_absorption.output.clips if "absorption" in CONTROLLED else []
        ),
    output:
        csv=report(
            AT.table("controls"),
            caption="../report/controls.rst",
            category="Controls",
        ),
    log:
        AT.log("controls"),
    benchmark:
        AT.benchmark("controls")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("controls"),
    shell:
        "python -m bico.cli controls --config {params.config:q} > {log:q} 2>&1"
