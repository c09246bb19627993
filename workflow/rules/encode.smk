# Everything that training reads: latents of sources, prompt embeddings of captions, CLIP embeddings of frames.


rule encode:
    input:
        media=media_of(CONFIG.sources),
        concepts=rules.concepts.output.manifest,
        weights=fetched("wan"),
    output:
        manifest=AT.all_encoded,
    log:
        AT.log("encode"),
    benchmark:
        AT.benchmark("encode")
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("encode", CONFIG.dtype),
    shell:
        "python -m bico.cli encode --config {params.config:q} > {log:q} 2>&1"


rule appearance:
    input:
        media=media_of(CONFIG.sources),
        weights=fetched(dependencies.appearance_model(CONFIG)),
    output:
        manifest=AT.all_appearance,
    log:
        AT.log("appearance"),
    benchmark:
        AT.benchmark("appearance")
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("appearance"),
    shell:
        "python -m bico.cli appearance --config {params.config:q} > {log:q} 2>&1"
