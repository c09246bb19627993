# One artifact per method and source, or per method and case, in as many jobs a row as the config says; rows that learn
# the same share them. What is up to date survives a rerun (bico/core/records.py), and a run that breaks goes on from
# checkpoints beside the artifact.


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
        manifest=f"{R}/learned/{{method}}/part{{part}}.json",
    log:
        f"{R}/logs/learn/{{method}}/{{part}}.log",
    benchmark:
        f"{R}/benchmarks/learn/{{method}}/{{part}}.tsv"
    wildcard_constraints:
        method=any_of(learners()),
        part=r"\d+",
    priority: 2  # what takes longest begins first
    conda:
        "../../envs/environment.yaml"
    threads: 1  # two jobs of one thread each learn faster than one of two
    resources:
        mem_mb=3000,
    params:
        config=CONFIG_FILE,
        code=lambda w: code_digest(code_of(w.method)),
        wan=model("wan"),
        settings=lambda w: learning_of(w.method),
    shell:
        "python -m bico.cli learn --config {params.config} {wildcards.method} {wildcards.part} 2>&1 | tee {log}"
