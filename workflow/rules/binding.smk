# What was learned of each source, measured on its own: does it bind, and does it leak? Toybox only.

MEASURED = [
    row for row, settings in CONFIG.methods.items() if settings.LEARNS_PER == "source"
]


rule unbound:
    input:
        media=[media_of(source) for source in TOYBOX],
        weights=fetched("wan"),
    output:
        values=f"{R}/binding/unbound.json",
        truth=f"{R}/binding/truth.csv",
    log:
        f"{R}/logs/binding/unbound.log",
    benchmark:
        f"{R}/benchmarks/binding/unbound.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.analysis.binding", "bico.methods.base"),
        wan=model("wan"),
        probe=model("probe"),
        settings=leaves(
            CONFIG.sampling,
            CONFIG.media,
            CONFIG.text_slots,
            CONFIG.dtype,
            CONFIG.seeds,
            CONFIG.scoring,
            {source: CONFIG.sources[source].scene for source in TOYBOX},
        ),
    shell:
        "python -m bico.cli unbound --config {params.config} 2>&1 | tee {log}"


rule binding:
    input:
        unbound=rules.unbound.output.values,
        learned=lambda w: learned(w.method),
        media=[media_of(source) for source in TOYBOX],
    output:
        table=f"{R}/binding/{{method}}.csv",
    log:
        f"{R}/logs/binding/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/binding/{{method}}.tsv"
    wildcard_constraints:
        method=any_of(MEASURED),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=CONFIG_FILE,
        code=lambda w: code_digest("bico.analysis.binding", code_of(w.method)),
        wan=model("wan"),
        probe=model("probe"),
        settings=lambda w: leaves(
            CONFIG.methods[w.method].effective(),
            CONFIG.sampling,
            CONFIG.media,
            CONFIG.text_slots,
            CONFIG.dtype,
            CONFIG.seeds,
            CONFIG.scoring,
            {source: CONFIG.sources[source].scene for source in TOYBOX},
        ),
    shell:
        "python -m bico.cli binding --config {params.config} {wildcards.method} 2>&1 | tee {log}"


rule binding_table:
    input:
        truth=rules.unbound.output.truth,
        tables=expand(
            rules.binding.output.table,
            method=[row for row in CONFIG.table("table1") if row in MEASURED],
        ),
    output:
        csv=report(
            f"{R}/binding.csv",
            caption="../report/binding.rst",
            category="Binding",
        ),
    log:
        f"{R}/logs/binding.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.analysis.binding"),
        settings=leaves(list(CONFIG.table("table1")), CONFIG.scoring),
    shell:
        "python -m bico.cli binding-table --config {params.config} 2>&1 | tee {log}"
