# Pages on which people rate the clips of table 1 without knowing their methods, one page per rater. On demand. The keys
# beside the pages are not declared outputs, so Snakemake never removes one for which answers may still come. The
# answers are a param of `table`.


rule rating:
    input:
        manifests=expand(rules.generate.output.manifest, method=MAIN),
        media=media_of(BOUND),
    output:
        pages=directory(AT.rating_pages),
    log:
        AT.log("rating"),
    benchmark:
        AT.benchmark("rating")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=str(AT.config),
        depends=lambda w: depends("rating"),
    shell:
        "python -m bico.cli rating --config {params.config:q} > {log:q} 2>&1"
