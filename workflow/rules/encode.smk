# Sources and captions as latents and prompt embeddings, and frames as CLIP sees them: all that training reads.


rule encode:
    input:
        media=[media_of(source) for source in CONFIG.sources],
        concepts=rules.concepts.output.manifest,
        weights=fetched("wan"),
    output:
        manifest=f"{R}/encoded.json",
    log:
        f"{R}/logs/encode.log",
    benchmark:
        f"{R}/benchmarks/encode.tsv"
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.sources.encoding", "bico.media.files"),
        wan=model("wan"),
        settings=leaves(CONFIG.media, CONFIG.text_slots, CONFIG.dtype),
    shell:
        "python -m bico.cli encode --config {params.config} 2>&1 | tee {log}"


rule appearance:
    input:
        media=[media_of(source) for source in CONFIG.sources],
        weights=fetched("clip"),
    output:
        manifest=f"{R}/appearance.json",
    log:
        f"{R}/logs/appearance.log",
    benchmark:
        f"{R}/benchmarks/appearance.tsv"
    priority: 2  # learning waits for it
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.models.clip", "bico.media.files"),
        clip=model("clip"),
        settings=leaves(CONFIG.media),
    shell:
        "python -m bico.cli appearance --config {params.config} 2>&1 | tee {log}"
