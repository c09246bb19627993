# The Toybox's small models, trained from scratch. They are shipped, so no other rule asks for these files; only
# `snakemake zoo` trains them, in build/zoo, and then installs them. A training that breaks goes on from its checkpoint.

BUILT = "build/zoo"
MODELS = {
    "vae": "wan/vae/config.json",
    "wan": "wan/model_index.json",
    "vlm": "vlm/config.json",
    "clip": "clip/open_clip_config.json",
    "dino": "dino/config.json",
    "probe": "probe/config.json",
}


rule zoo_vae:
    output:
        entry=f"{BUILT}/{MODELS['vae']}",
    log:
        f"{BUILT}/logs/vae.log",
    benchmark:
        f"{BUILT}/benchmarks/vae.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: lambda w: workflow.cores
    resources:
        mem_mb=6000,
    params:
        workdir=f"{BUILT}/work/vae",
    shell:
        "python -m bico.cli zoo vae --workdir {params.workdir} $(dirname {output.entry}) 2>&1 | tee {log}"


rule zoo_wan:
    input:
        vae=rules.zoo_vae.output.entry,
    output:
        entry=f"{BUILT}/{MODELS['wan']}",
    log:
        f"{BUILT}/logs/wan.log",
    benchmark:
        f"{BUILT}/benchmarks/wan.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: lambda w: workflow.cores
    resources:
        mem_mb=8000,
    params:
        workdir=f"{BUILT}/work/wan",
    shell:
        # On a CPU two processes share each batch: that is faster than two threads.
        "workers=$(python -c 'import torch; print(1 if torch.cuda.is_available() else 2)');"
        " python -m torch.distributed.run --standalone --nproc-per-node $workers -m bico.cli zoo wan"
        " --workdir {params.workdir} $(dirname {output.entry}) 2>&1 | tee {log}"


rule zoo_model:
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
        "../../envs/environment.yaml"
    threads: 1  # so that several train side by side
    resources:
        mem_mb=6000,
    params:
        workdir=lambda w: f"{BUILT}/work/{w.model}",
    shell:
        "OMP_NUM_THREADS=1 python -m bico.cli zoo {wildcards.model} --workdir {params.workdir} $(dirname {output.entry})"
        " 2>&1 | tee {log}"


rule zoo:
    input:
        models=expand(f"{BUILT}/{{entry}}", entry=MODELS.values()),
    log:
        f"{BUILT}/logs/install.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=3000,
    params:
        built=lambda w, input: Path(input.models[-1]).parents[1],
        zoo="data/toybox/zoo",
    shell:
        "(python -m bico.cli zoo install --workdir {params.built} {params.zoo}"
        " && python -m bico.cli zoo card {params.zoo}) 2>&1 | tee {log}"
