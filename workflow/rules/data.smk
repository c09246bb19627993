# Toybox: sources and truth, rendered to files like anybody's media. Own media are used where they are.


rule render:
    output:
        media=f"{R}/media/{{source}}.{{suffix}}",
    log:
        f"{R}/logs/render/{{source}}.{{suffix}}.log",
    benchmark:
        f"{R}/benchmarks/render/{{source}}.{{suffix}}.tsv"
    wildcard_constraints:
        source=any_of(TOYBOX),
        suffix="png|mp4",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.toybox.scenes"),
        settings=lambda w: leaves(
            CONFIG.sources[w.source].kind, CONFIG.sources[w.source].scene, CONFIG.media
        ),
    shell:
        "python -m bico.cli render --config {params.config} {wildcards.source} 2>&1 | tee {log}"


rule truth:
    output:
        clips=expand(f"{R}/truth/{{case}}.mp4", case=TRUTHS),
        scenes=expand(f"{R}/truth/{{case}}.json", case=TRUTHS),
    log:
        f"{R}/logs/truth.log",
    benchmark:
        f"{R}/benchmarks/truth.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.toybox.scenes"),
        settings=leaves(
            {source: CONFIG.sources[source].scene for source in TOYBOX},
            {
                case: [CONFIG.cases[case].prompt, CONFIG.cases[case].truth]
                for case in TRUTHS
            },
            CONFIG.media,
        ),
    shell:
        "python -m bico.cli truth --config {params.config} 2>&1 | tee {log}"
