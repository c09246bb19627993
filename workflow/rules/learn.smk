# One artifact per method and source, or per method and case. `parts` in the config is the number of jobs for a row;
# rows with the same training share them. What is up to date survives a rerun (bico/core/records.py). An interrupted
# training continues from its checkpoint beside the artifact.


rule learn:
    input:
        encoded=rules.encode.output.manifest,
        appearance=lambda w: (
            rules.appearance.output.manifest
            if CONFIG.methods[w.method].APPEARANCE
            else []
        ),
        weights=fetched("wan"),
    output:
        manifest=AT.all_learned("{method}", "{part}"),
    log:
        AT.log("learn/{method}/{part}"),
    benchmark:
        AT.benchmark("learn/{method}/{part}")
    wildcard_constraints:
        method=any_of(learners()),
        part=r"\d+",
    priority: 2  # the longest jobs begin first
    conda:
        "../../envs/environment.yaml"
    threads: 1  # two jobs of one thread each learn faster than one of two
    resources:
        mem_mb=3000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("learn", w.method, int(w.part), CONFIG.dtype),
    shell:
        "python -m bico.cli learn --config {params.config:q} {wildcards.method:q} {wildcards.part:q} > {log:q} 2>&1"
