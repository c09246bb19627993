# Models of full size, downloaded from their hub into a store that many runs may share: see config/weights.lock. An
# interrupted download keeps its files; the manifest is written last. Snakemake does not compare a param that is computed
# from `output`: another config must not make downloaded files stale.


rule weights:
    output:
        manifest=f"{CONFIG.weights_store}/{{repository}}.json",
    log:
        AT.log("weights/{repository}"),
    benchmark:
        AT.benchmark("weights/{repository}")
    wildcard_constraints:
        repository=any_of(WEIGHTS.values()),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=lambda w, output: str(AT.config),
        # The size is only for messages.
        pin=lambda w: read_lock()[w.repository].model_dump_json(exclude={"gigabytes"}),
    shell:
        "python -m bico.cli weights --config {params.config:q} {wildcards.repository:q} > {log:q} 2>&1"
