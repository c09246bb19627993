# What each score measures, tested on exact renderings with one fault and on the clips of table 1. On demand.


rule doses:
    input:
        media=media_of(BOUND),
        weights=fetched(*dependencies.scoring_models(CONFIG, CONFIG.scoring.all)),
        concepts=key_words(CONFIG.scoring.all),
        calibration=rules.calibrate.output.calibration,
    output:
        doses=AT.doses,
    log:
        AT.log("doses"),
    benchmark:
        AT.benchmark("doses")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("doses"),
    shell:
        "python -m bico.cli doses --config {params.config:q} > {log:q} 2>&1"


# Without exact renderings and ratings there is nothing to compare scores with.
if CONFIG.has_truth or any(AT.rating_answers.glob("*.csv")):

    rule scorers:
        input:
            doses=rules.doses.output.doses if CONFIG.has_truth else [],
            scores=expand(rules.score.output.scores, method=MAIN),
            manifests=expand(rules.generate.output.manifest, method=MAIN),
        output:
            csv=report(
                AT.table("scorers"),
                caption="../report/scorers.rst",
                category="Scores",
            ),
            agreement=AT.agreement,
            markdown=report(
                AT.table("scorers", "md"),
                caption="../report/scorers.rst",
                category="Scores",
            ),
            figure=(
                report(
                    AT.figure("scorers"),
                    caption="../report/scorers.rst",
                    category="Scores",
                )
                if CONFIG.has_truth
                else []
            ),
            pdf=AT.figure("scorers", "pdf") if CONFIG.has_truth else [],
        log:
            AT.log("scorers"),
        benchmark:
            AT.benchmark("scorers")
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            config=str(AT.config),
            depends=lambda w: depends("scorers"),
        shell:
            "python -m bico.cli scorers --config {params.config:q} > {log:q} 2>&1"
