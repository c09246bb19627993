# Scores of a table's rows and what people say of their clips in, the table out.

ANSWERS = sorted(map(str, answers_folder(CONFIG).glob("*.csv")))


rule table:
    input:
        scores=lambda w: expand(rules.score.output.scores, method=CONFIG.table(w.table)),
        manifests=lambda w: expand(
            rules.generate.output.manifest, method=CONFIG.table(w.table)
        ),
        answers=ANSWERS,
        truth=list(rules.calibrate.output) if CONFIG.models.probe else [],
    output:
        csv=report(
            f"{R}/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "data"},
        ),
        markdown=report(
            f"{R}/{{table}}.md",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "text"},
        ),
    log:
        f"{R}/logs/{{table}}.log",
    benchmark:
        f"{R}/benchmarks/{{table}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.tables"),
        paper=lambda w: file_digest(Path(f"bico/report/paper_{w.table}.csv")),
        settings=lambda w: leaves(
            CONFIG.name,
            CONFIG.scoring,
            CONFIG.seeds,
            CONFIG.learning_seeds,
            list(CONFIG.table(w.table).items()),
        ),
    shell:
        "python -m bico.cli table --config {params.config} {wildcards.table} 2>&1 | tee {log}"
