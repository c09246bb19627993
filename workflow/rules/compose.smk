# The clips of every method. Only the manifest is a declared output, so clips that are up to date survive a rerun.


rule generate:
    input:
        learned=lambda w: learned(w.method),
        media=media_of(BOUND),
        weights=lambda w: (
            fetched("wan") if CONFIG.methods[w.method].OPENS_BACKBONE else []
        ),
    output:
        manifest=AT.all_clips("{method}"),
    log:
        AT.log("generate/{method}"),
    benchmark:
        AT.benchmark("generate/{method}")
    priority: 1  # scores fill the gaps between longer jobs
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("generate", w.method, CONFIG.dtype),
    shell:
        "python -m bico.cli generate --config {params.config:q} {wildcards.method:q} > {log:q} 2>&1"
