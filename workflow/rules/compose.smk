# Every method's clips. The manifest is the declared output: clips that are up to date survive a rerun.


rule generate:
    input:
        learned=lambda w: learned(w.method),
        binders=lambda w: given(w.method, BOUND),
        media=[media_of(source) for source in BOUND],
        weights=fetched("wan"),
    output:
        manifest=f"{R}/clips/{{method}}.json",
    log:
        f"{R}/logs/generate/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/generate/{{method}}.tsv"
    priority: 1  # scores fill the gaps between longer jobs
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=lambda w: code_digest("bico.pipeline.generate", code_of(w.method)),
        wan=model("wan"),
        settings=lambda w: leaves(
            CONFIG.methods[w.method].effective(),
            CONFIG.sampling,
            CONFIG.media,
            CONFIG.text_slots,
            CONFIG.dtype,
            CONFIG.seeds,
            {case: [entry.prompt, entry.bind] for case, entry in CONFIG.cases.items()},
        ),
    shell:
        "python -m bico.cli generate --config {params.config} {wildcards.method} 2>&1 | tee {log}"
