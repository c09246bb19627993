# What is in a source, and the captions that say so.


rule concepts:
    input:
        media=lambda w: media_of(w.source),
    output:
        concepts=f"{R}/concepts/{{source}}.json",
    log:
        f"{R}/logs/concepts/{{source}}.log",
    benchmark:
        f"{R}/benchmarks/concepts/{{source}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.concepts", "bico.media"),
        vlm=model("vlm"),
        settings=lambda w: leaves(
            CONFIG.concepts,
            CONFIG.media,
            CONFIG.sources[w.source].kind,
            CONFIG.sources[w.source].concepts,
        ),
    shell:
        "python -m bico.cli concepts --config {params.config} {wildcards.source} 2>&1 | tee {log}"
