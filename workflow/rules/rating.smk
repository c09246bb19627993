# Pages on which people rate the clips of table 1 without their methods, one page a rater. On demand. The key beside them is
# no declared output: one that answers may still come back to is never removed. What comes back is a param of `table`.


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
