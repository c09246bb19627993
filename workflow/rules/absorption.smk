# What the absorption token takes up: cross-attention maps of the sources, with it and without. Toybox only.

COMPARED = [row for row, number in CONFIG.table("table2").items() if number in (5, 7)]


rule absorption:
    input:
        learned=[learned(row) for row in COMPARED],
        encoded=rules.encode.output.manifest,
        media=[media_of(source) for source in TOYBOX],
    output:
        csv=report(
            f"{R}/absorption.csv",
            caption="../report/absorption.rst",
            category="Absorption token",
        ),
        png=report(
            f"{R}/figures/absorption.png",
            caption="../report/absorption.rst",
            category="Absorption token",
        ),
        pdf=f"{R}/figures/absorption.pdf",
    log:
        f"{R}/logs/absorption.log",
    benchmark:
        f"{R}/benchmarks/absorption.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        config=CONFIG_FILE,
        code=code_digest("bico.analysis.absorption"),
        wan=model("wan"),
        settings=leaves(
            {row: CONFIG.methods[row].effective() for row in COMPARED},
            CONFIG.media,
            CONFIG.text_slots,
            CONFIG.dtype,
            {source: CONFIG.sources[source].scene for source in TOYBOX},
        ),
    shell:
        "python -m bico.cli absorption --config {params.config} 2>&1 | tee {log}"
