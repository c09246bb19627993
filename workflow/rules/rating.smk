# Pages on which people rate the clips of table 1 without their methods, one page a rater. On demand. The key beside them is
# no declared output: one that answers may still come back to is never removed. What comes back is an input of `table`.


rule rating:
    input:
        manifests=expand(rules.generate.output.manifest, method=CONFIG.table("table1")),
        media=[media_of(source) for source in BOUND],
    output:
        pages=directory(f"{R}/rating/pages"),
    log:
        f"{R}/logs/rating.log",
    benchmark:
        f"{R}/benchmarks/rating.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.rating"),
        page=[
            file_digest(Path("bico/report", name))
            for name in ("rating.html", "page.js")
        ],
        settings=leaves(
            CONFIG.rating,
            CONFIG.media,
            CONFIG.seeds,
            list(CONFIG.table("table1")),
            {case: [entry.prompt, entry.bind] for case, entry in CONFIG.cases.items()},
        ),
    shell:
        "python -m bico.cli rating --config {params.config} 2>&1 | tee {log}"
