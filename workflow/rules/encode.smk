# Sources and captions as latents and prompt embeddings, and frames as CLIP sees them: all that training reads.


rule encode:
    input:
        media=lambda w: media_of(w.source),
        concepts=rules.concepts.output.concepts,
    output:
        encoded=f"{R}/encoded/{{source}}.safetensors",
    log:
        f"{R}/logs/encode/{{source}}.log",
    benchmark:
        f"{R}/benchmarks/encode/{{source}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.encode", "bico.media"),
        wan=model("wan"),
        settings=leaves(CONFIG.media, CONFIG.text_slots, CONFIG.dtype),
    shell:
        "python -m bico.cli encode --config {params.config} {wildcards.source} 2>&1 | tee {log}"


rule appearance:
    input:
        media=lambda w: media_of(w.source),
    output:
        appearance=f"{R}/appearance/{{source}}.safetensors",
    log:
        f"{R}/logs/appearance/{{source}}.log",
    benchmark:
        f"{R}/benchmarks/appearance/{{source}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.clip", "bico.media"),
        clip=model("clip"),
        settings=leaves(CONFIG.media),
    shell:
        "python -m bico.cli appearance --config {params.config} {wildcards.source} 2>&1 | tee {log}"
