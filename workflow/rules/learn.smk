# One artifact per method and source, or per method and case; rows that learn the same share it. A run that breaks goes on
# from <artifact>.ckpt/.


rule learn:
    input:
        encoded=rules.encode.output.encoded,
        appearance=lambda w: appearances(w.method, [w.source]),
    output:
        artifact=f"{R}/learned/{{method}}/{{source}}.safetensors",
        metrics=f"{R}/learned/{{method}}/{{source}}.metrics.jsonl",
    log:
        f"{R}/logs/learn/{{method}}/{{source}}.log",
    benchmark:
        f"{R}/benchmarks/learn/{{method}}/{{source}}.tsv"
    wildcard_constraints:
        method=any_of(learners("source")),
    conda:
        "../../envs/environment.yaml"
    threads: 1  # two jobs of one thread each learn faster than one of two
    resources:
        mem_mb=3000,
    params:
        config=CONFIG_FILE,
        code=lambda w: code_digest(code_of(w.method)),
        wan=model("wan"),
        settings=lambda w: leaves(
            CONFIG.methods[w.method].learning(),
            CONFIG.sampling.shift,
            CONFIG.learning_seed,
            CONFIG.text_slots,
            CONFIG.dtype,
        ),
    shell:
        "python -m bico.cli learn --config {params.config} {wildcards.method} {wildcards.source} 2>&1 | tee {log}"


rule learn_case:
    input:
        encoded=lambda w: expand(
            rules.encode.output.encoded, source=CONFIG.cases[w.case].bind
        ),
        appearance=lambda w: appearances(w.method, CONFIG.cases[w.case].bind),
    output:
        artifact=f"{R}/learned/{{method}}/case-{{case}}.safetensors",
        metrics=f"{R}/learned/{{method}}/case-{{case}}.metrics.jsonl",
    log:
        f"{R}/logs/learn/{{method}}/case-{{case}}.log",
    benchmark:
        f"{R}/benchmarks/learn/{{method}}/case-{{case}}.tsv"
    wildcard_constraints:
        method=any_of(learners("case")),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=CONFIG_FILE,
        code=lambda w: code_digest(code_of(w.method)),
        wan=model("wan"),
        settings=lambda w: leaves(
            CONFIG.methods[w.method].learning(),
            CONFIG.cases[w.case].prompt,
            CONFIG.cases[w.case].bind,
            CONFIG.sampling.shift,
            CONFIG.learning_seed,
            CONFIG.text_slots,
            CONFIG.dtype,
        ),
    shell:
        "python -m bico.cli learn --config {params.config} {wildcards.method} case-{wildcards.case} 2>&1 | tee {log}"
