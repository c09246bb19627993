# From clips to numbers. On the Toybox the rendered truth comes first: it calibrates the probe, and is scored itself.


rule calibrate:
    input:
        truth=rules.truth.output.clips,
        scenes=rules.truth.output.scenes,
        media=[media_of(source) for source in BOUND],
        weights=fetched("clip", "dino"),
    output:
        calibration=f"{R}/scores/calibration.json",
        scores=f"{R}/scores/truth.csv",
    log:
        f"{R}/logs/calibrate.log",
    benchmark:
        f"{R}/benchmarks/calibrate.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.scoring.scores"),
        clip=model("clip"),
        dino=model("dino"),
        probe=model("probe"),
        settings=leaves(
            CONFIG.scoring.pooling,
            CONFIG.scoring.dino_crop,
            CONFIG.media,
            CONFIG.seeds,
            {case: CONFIG.cases[case] for case in TRUTHS},
        ),
    shell:
        "python -m bico.cli calibrate --config {params.config} 2>&1 | tee {log}"


rule score:
    input:
        manifest=rules.generate.output.manifest,
        media=[media_of(source) for source in BOUND],
        weights=fetched("clip", "dino"),
        calibration=rules.calibrate.output.calibration if CONFIG.models.probe else [],
    output:
        scores=f"{R}/scores/{{method}}.csv",
        frames=f"{R}/scores/{{method}}.frames.json",
    log:
        f"{R}/logs/score/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/score/{{method}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG_FILE,
        files=OWN_FILES,
        code=code_digest("bico.scoring.scores"),
        clip=model("clip"),
        dino=model("dino"),
        probe=model("probe"),
        settings=leaves(
            CONFIG.scoring.pooling,
            CONFIG.scoring.dino_crop,
            CONFIG.media,
            dict(CONFIG.cases),
        ),
    shell:
        "python -m bico.cli score --config {params.config} {wildcards.method} 2>&1 | tee {log}"


rule parts:
    input:
        manifests=expand(rules.generate.output.manifest, method=CONFIG.table("table1")),
        truth=rules.truth.output.clips,
        scenes=rules.truth.output.scenes,
    output:
        csv=report(
            f"{R}/parts.csv",
            caption="../report/parts.rst",
            category="Tables",
            labels={"table": "parts of the concept", "format": "data"},
        ),
    log:
        f"{R}/logs/parts.log",
    benchmark:
        f"{R}/benchmarks/parts.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.analysis.concept_parts"),
        probe=model("probe"),
        settings=leaves(
            list(CONFIG.table("table1")),
            CONFIG.scoring,
            CONFIG.media,
            CONFIG.seeds,
            CONFIG.learning_seeds,
            {case: CONFIG.cases[case].truth for case in TRUTHS},
        ),
    shell:
        "python -m bico.cli parts --config {params.config} 2>&1 | tee {log}"
