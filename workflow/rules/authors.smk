# The authors' project page at one commit: media for sources, and their published clips, which are scored like ours. As in
# weights.smk, another config does not make the download stale.

from bico.sources import authors_page

PAGE = CONFIG.authors_page


rule authors:
    output:
        index=f"{PAGE}/index.html",
        benchmark=f"{PAGE}/benchmark.yaml",
        media=[f"{PAGE}/{medium}" for medium in authors_page.MEDIA],
    log:
        AT.log("authors"),
    benchmark:
        AT.benchmark("authors")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=lambda w, output: str(AT.config),
        commit=authors_page.COMMIT,
    shell:
        "python -m bico.cli authors --config {params.config:q} > {log:q} 2>&1"


rule published:
    input:
        index=rules.authors.output.index,
        media=rules.authors.output.media,
        weights=fetched(*dependencies.scoring_models(CONFIG, CONFIG.scoring.scores)),
    output:
        csv=report(
            AT.table("published"),
            caption="../report/published.rst",
            category="Tables",
            labels={"table": "published clips", "format": "data"},
        ),
    log:
        AT.log("published"),
    benchmark:
        AT.benchmark("published")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("published"),
    shell:
        "python -m bico.cli published --config {params.config:q} > {log:q} 2>&1"
