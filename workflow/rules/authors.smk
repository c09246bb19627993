# The authors' project page at one commit: media for sources, and the clips that they published, scored as ours are.

from bico.sources import authors

PAGE = CONFIG.authors_page


rule authors:
    output:
        index=f"{PAGE}/index.html",
        benchmark=f"{PAGE}/benchmark.yaml",
        media=[f"{PAGE}/{medium}" for medium in authors.MEDIA],
    log:
        f"{R}/logs/authors.log",
    benchmark:
        f"{R}/benchmarks/authors.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=CONFIG_FILE,
        commit=authors.COMMIT,
    shell:
        "python -m bico.cli authors --config {params.config} 2>&1 | tee {log}"


rule published:
    input:
        index=rules.authors.output.index,
        media=rules.authors.output.media,
        weights=fetched("clip", "dino"),
    output:
        csv=report(
            f"{R}/published.csv",
            caption="../report/published.rst",
            category="Tables",
            labels={"table": "published clips", "format": "data"},
        ),
    log:
        f"{R}/logs/published.log",
    benchmark:
        f"{R}/benchmarks/published.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.sources.authors", "bico.scoring.scores"),
        clip=model("clip"),
        dino=model("dino"),
        settings=leaves(CONFIG.scoring.pooling, CONFIG.scoring.dino_crop, CONFIG.media),
    shell:
        "python -m bico.cli published --config {params.config} 2>&1 | tee {log}"
