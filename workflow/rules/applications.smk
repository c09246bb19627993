# Decompositions and edits: what the binder of one source does alone. Toybox only.


APPLIED = sorted({entry.source for entry in CONFIG.applications.values()})


rule applications:
    input:
        learned=[learned(row) for row in CONFIG.appliers()],
        binders=[given(row, APPLIED) for row in CONFIG.appliers()],
        media=[media_of(source) for source in APPLIED],
        weights=fetched("wan"),
    output:
        csv=report(
            f"{R}/applications.csv",
            caption="../report/applications.rst",
            category="Applications",
        ),
        figures=report(
            expand(f"{R}/figures/applications/{{name}}.png", name=CONFIG.applications),
            caption="../report/application.rst",
            category="Applications",
        ),
    log:
        f"{R}/logs/applications.log",
    benchmark:
        f"{R}/benchmarks/applications.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.analysis.applications"),
        wan=model("wan"),
        probe=model("probe"),
        settings=leaves(
            dict(CONFIG.applications),
            {row: CONFIG.methods[row].effective() for row in CONFIG.appliers()},
            CONFIG.sampling,
            CONFIG.media,
            CONFIG.text_slots,
            CONFIG.dtype,
            CONFIG.seeds,
            CONFIG.scoring,
            {source: CONFIG.sources[source].scene for source in TOYBOX},
        ),
    shell:
        "python -m bico.cli applications --config {params.config} 2>&1 | tee {log}"
