# What was learned from each source, measured separately: does it bind, and does it leak? Toybox only.

MEASURED = [
    row for row, settings in CONFIG.methods.items() if settings.LEARNS_PER == "source"
]


rule unbound:
    input:
        media=media_of(TOYBOX),
        weights=fetched("wan"),
    output:
        values=AT.unbound,
        truth=AT.binding("truth"),
    log:
        AT.log("binding/unbound"),
    benchmark:
        AT.benchmark("binding/unbound")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("unbound"),
    shell:
        "python -m bico.cli unbound --config {params.config:q} > {log:q} 2>&1"


rule binding:
    input:
        unbound=rules.unbound.output.values,
        learned=lambda w: learned(w.method),
        media=media_of(TOYBOX),
    output:
        table=AT.binding("{method}"),
    log:
        AT.log("binding/{method}"),
    benchmark:
        AT.benchmark("binding/{method}")
    wildcard_constraints:
        method=any_of(MEASURED),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("binding", w.method),
    shell:
        "python -m bico.cli binding --config {params.config:q} {wildcards.method:q} > {log:q} 2>&1"


rule binding_table:
    input:
        truth=rules.unbound.output.truth,
        tables=expand(
            rules.binding.output.table,
            method=[row for row in MAIN if row in MEASURED],
        ),
    output:
        csv=report(
            AT.table("binding"),
            caption="../report/binding.rst",
            category="Binding",
        ),
    log:
        AT.log("binding"),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("binding_table"),
    shell:
        "python -m bico.cli binding-table --config {params.config:q} > {log:q} 2>&1"
