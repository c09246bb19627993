# Scores in, the main table out.


rule table1:
    input:
        scores=expand(rules.score.output.scores, method=CONFIG.methods),
        calibration=rules.calibrate.output.calibration if CONFIG.models.probe else [],
    output:
        csv=report(
            f"{R}/table1.csv",
            caption="../report/table1.rst",
            category="Table 1",
            labels={"format": "data"},
        ),
        markdown=report(
            f"{R}/table1.md",
            caption="../report/table1.rst",
            category="Table 1",
            labels={"format": "text"},
        ),
    log:
        f"{R}/logs/table1.log",
    benchmark:
        f"{R}/benchmarks/table1.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.tables"),
        settings=leaves(
            CONFIG.name,
            CONFIG.scoring,
            CONFIG.seeds,
            {row: s.method for row, s in CONFIG.methods.items()},
        ),
    shell:
        "python -m bico.cli table1 --config {params.config} 2>&1 | tee {log}"
