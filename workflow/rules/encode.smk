# Sources and captions as latents and prompt embeddings: all that training reads.


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
