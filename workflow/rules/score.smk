# Scores of clips. On the Toybox the exact renderings come first: they calibrate the probe, and are scored themselves.


rule calibrate:
    input:
        truth=rules.truth.output.clips,
        scenes=rules.truth.output.scenes,
        media=media_of(BOUND),
        weights=fetched(*dependencies.scoring_models(CONFIG, CONFIG.scoring.scores)),
        concepts=key_words(CONFIG.scoring.scores),
    output:
        calibration=AT.calibration,
        scores=AT.scores("truth"),
    log:
        AT.log("calibrate"),
    benchmark:
        AT.benchmark("calibrate")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("calibrate"),
    shell:
        "python -m bico.cli calibrate --config {params.config:q} > {log:q} 2>&1"


rule score:
    input:
        manifest=rules.generate.output.manifest,
        media=media_of(BOUND),
        weights=fetched(*dependencies.scoring_models(CONFIG, CONFIG.scoring.scores)),
        concepts=key_words(CONFIG.scoring.scores),
        calibration=rules.calibrate.output.calibration if CONFIG.has_truth else [],
    output:
        scores=AT.scores("{method}"),
        frames=AT.frame_scores("{method}"),
    log:
        AT.log("score/{method}"),
    benchmark:
        AT.benchmark("score/{method}")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("score", w.method),
    shell:
        "python -m bico.cli score --config {params.config:q} {wildcards.method:q} > {log:q} 2>&1"


rule concept_parts:
    input:
        manifests=expand(rules.generate.output.manifest, method=MAIN),
        truth=rules.truth.output.clips,
        scenes=rules.truth.output.scenes,
    output:
        csv=report(
            AT.table("concept_parts"),
            caption="../report/concept_parts.rst",
            category="Tables",
            labels={"table": "parts of the concept", "format": "data"},
        ),
    log:
        AT.log("concept_parts"),
    benchmark:
        AT.benchmark("concept_parts")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("concept_parts"),
    shell:
        "python -m bico.cli concept-parts --config {params.config:q} > {log:q} 2>&1"
