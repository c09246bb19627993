# For each case its sources, the truth and every method's clip, side by side.


rule figures:
    input:
        manifests=expand(rules.generate.output.manifest, method=CONFIG.table("table1")),
        media=[media_of(source) for source in BOUND],
        truth=rules.truth.output.clips,
    output:
        figures=report(
            expand(f"{R}/figures/cases/{{case}}.png", case=CONFIG.cases),
            caption="../report/figure.rst",
            category="Compositions",
        ),
    log:
        f"{R}/logs/figures.log",
    benchmark:
        f"{R}/benchmarks/figures.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.figures"),
        settings=leaves(
            list(CONFIG.table("table1")),
            dict(CONFIG.cases),
            CONFIG.media,
            CONFIG.seeds[0],
        ),
    shell:
        "python -m bico.cli figures --config {params.config} 2>&1 | tee {log}"


# The same and all seeds to play, on a page of its own.


rule gallery:
    input:
        manifests=expand(rules.generate.output.manifest, method=CONFIG.table("table1")),
        scores=expand(rules.score.output.scores, method=CONFIG.table("table1")),
        media=[media_of(source) for source in BOUND],
        truth=rules.truth.output.clips,
    output:
        folder=directory(f"{R}/gallery"),
        page=report(
            f"{R}/gallery.html",
            caption="../report/gallery.rst",
            category="Gallery",
        ),
    log:
        f"{R}/logs/gallery.log",
    benchmark:
        f"{R}/benchmarks/gallery.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.report.gallery"),
        page=[
            file_digest(Path("bico/report", name))
            for name in ("gallery.html", "page.js")
        ],
        settings=leaves(
            CONFIG.name,
            list(CONFIG.table("table1")),
            dict(CONFIG.cases),
            CONFIG.media,
            CONFIG.seeds,
        ),
    shell:
        "python -m bico.cli gallery --config {params.config} 2>&1 | tee {log}"
