"""The Toybox's shipped models, trained from scratch in build/zoo and then installed in data/toybox/zoo.

uv run snakemake --cores all -s workflow/zoo.smk

It reads no config and needs no model. A training that was interrupted resumes from its checkpoint.
"""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")

BUILT = "build/zoo"
MODELS = {
    "vae": "wan/vae/config.json",
    "wan": "wan/model_index.json",
    "vlm": "vlm/config.json",
    "vqa": "vqa/config.json",
    "clip": "clip/open_clip_config.json",
    "dino": "dino/config.json",
    "probe": "probe/config.json",
}


localrules:
    install,


rule install:
    input:
        models=expand(f"{BUILT}/{{entry}}", entry=MODELS.values()),
    log:
        f"{BUILT}/logs/install.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=3000,
    params:
        built=BUILT,
        zoo="data/toybox/zoo",
    shell:
        "(python -m bico.zoo install --workdir {params.built} {params.zoo}"
        " && python -m bico.zoo card {params.zoo}) 2>&1 | tee {log}"


rule vae:
    output:
        entry=f"{BUILT}/{MODELS['vae']}",
    log:
        f"{BUILT}/logs/vae.log",
    benchmark:
        f"{BUILT}/benchmarks/vae.tsv"
    conda:
        "../envs/environment.yaml"
    threads: lambda w: workflow.cores
    resources:
        mem_mb=6000,
    params:
        workdir=f"{BUILT}/work/vae",
    shell:
        "python -m bico.zoo vae --workdir {params.workdir} $(dirname {output.entry}) 2>&1 | tee {log}"


rule wan:
    input:
        vae=rules.vae.output.entry,
    output:
        entry=f"{BUILT}/{MODELS['wan']}",
    log:
        f"{BUILT}/logs/wan.log",
    benchmark:
        f"{BUILT}/benchmarks/wan.tsv"
    conda:
        "../envs/environment.yaml"
    threads: lambda w: workflow.cores
    resources:
        mem_mb=8000,
    params:
        workdir=f"{BUILT}/work/wan",
    shell:
        # On a CPU two processes share each batch. This is faster than two threads.
        "workers=$(python -c 'import torch; print(1 if torch.cuda.is_available() else 2)');"
        " python -m torch.distributed.run --standalone --nproc-per-node $workers -m bico.zoo wan"
        " --workdir {params.workdir} $(dirname {output.entry}) 2>&1 | tee {log}"


rule vqa:
    input:
        vlm=f"{BUILT}/{MODELS['vlm']}",
    output:
        entry=f"{BUILT}/{MODELS['vqa']}",
    log:
        f"{BUILT}/logs/vqa.log",
    benchmark:
        f"{BUILT}/benchmarks/vqa.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        workdir=f"{BUILT}/work/vqa",
    shell:
        "OMP_NUM_THREADS=1 python -m bico.zoo vqa --start $(dirname {input.vlm}) --workdir {params.workdir}"
        " $(dirname {output.entry}) 2>&1 | tee {log}"


rule model:
    output:
        entry=f"{BUILT}/{{model}}/{{entry}}",
    log:
        f"{BUILT}/logs/{{model}}/{{entry}}.log",
    benchmark:
        f"{BUILT}/benchmarks/{{model}}/{{entry}}.tsv"
    wildcard_constraints:
        model="vlm|clip|dino|probe",
        entry="[a-z_]+[.]json",
    conda:
        "../envs/environment.yaml"
    threads: 1  # so that several train side by side
    resources:
        mem_mb=6000,
    params:
        workdir=lambda w: f"{BUILT}/work/{w.model}",
    shell:
        "OMP_NUM_THREADS=1 python -m bico.zoo {wildcards.model} --workdir {params.workdir} $(dirname {output.entry})"
        " 2>&1 | tee {log}"
