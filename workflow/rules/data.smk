# Toybox: sources and exact renderings, written to files like a user's media. Own media are used where they are.


rule render:
    output:
        media=AT.media("{source}", "{suffix}"),
    log:
        AT.log("render/{source}.{suffix}"),
    benchmark:
        AT.benchmark("render/{source}.{suffix}")
    wildcard_constraints:
        source=any_of(TOYBOX),
        suffix="png|mp4",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("render", w.source),
    shell:
        "python -m bico.cli render --config {params.config:q} {wildcards.source:q} > {log:q} 2>&1"


rule truth:
    output:
        clips=expand(AT.truth("{case}"), case=TRUTHS),
        scenes=expand(AT.truth_scene("{case}"), case=TRUTHS),
    log:
        AT.log("truth"),
    benchmark:
        AT.benchmark("truth")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=str(AT.config),
        depends=lambda w: depends("truth"),
    shell:
        "python -m bico.cli truth --config {params.config:q} > {log:q} 2>&1"
