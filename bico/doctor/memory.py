"""Checks that the GPU has the memory that the config's jobs need."""

from __future__ import annotations

from bico.config.schema import Config
from bico.doctor.finding import Finding
from bico.plan.trainings import learned_items
from bico.profiling.memory import CUDA, on_this_gpu


def examine_memory(config: Config) -> Finding:
    """Compares the memory of the largest job with that of this process's GPU."""
    memory, name, room = on_this_gpu(config)
    jobs = [("concepts", None), ("encode", None), *(("generate", row) for row in config.methods)]
    jobs += [("learn", row) for row in config.methods if learned_items(config, row)]
    needed = {" ".join(filter(None, job)): memory.of(*job) + CUDA for job in jobs}
    largest = max(needed, key=lambda job: needed[job])
    return Finding(
        "GPU memory",
        f"{name} has {room:.1f} GiB",
        f"{needed[largest]:.1f} GiB or more, for `{largest}`",
        room >= needed[largest],
        "`bico estimate`, which lists the memory of each rule; a smaller 'media' needs less",
    )
