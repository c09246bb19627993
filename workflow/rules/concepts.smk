# What is in a source, and the captions that say so. Sources that are up to date survive a rerun: see bico/core/records.py.


rule concepts:
    input:
        media=[media_of(source) for source in CONFIG.sources],
        weights=fetched("vlm"),
    output:
        manifest=f"{R}/concepts.json",
    log:
        f"{R}/logs/concepts.log",
    benchmark:
        f"{R}/benchmarks/concepts.tsv"
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.sources.concepts", "bico.media.files"),
        vlm=model("vlm"),
        settings=leaves(
            CONFIG.concepts,
            CONFIG.media,
            {
                source: [entry.kind, entry.concepts]
                for source, entry in CONFIG.sources.items()
            },
        ),
    shell:
        "python -m bico.cli concepts --config {params.config} 2>&1 | tee {log}"
