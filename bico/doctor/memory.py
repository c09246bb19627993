"""Whether the GPU has the memory that the config's jobs need."""

from __future__ import annotations

import torch

from bico.config.schema import Config
from bico.doctor.finding import Finding
from bico.models.wan.components import short_of_memory
from bico.plan.trainings import learned_items
from bico.profiling.memory import CUDA, GIB, Memory


def examine_memory(config: Config) -> Finding:
    """The largest job against the GPU of this process."""
    device = torch.device("cuda")
    memory, there = Memory(config, roomy=not short_of_memory(device)), torch.cuda.get_device_properties(device)
    jobs = [("concepts", None), ("encode", None), *(("generate", row) for row in config.methods)]
    jobs += [("learn", row) for row in config.methods if learned_items(config, row)]
    needed = {" ".join(filter(None, job)): memory.of(*job) + CUDA for job in jobs}
    largest, room = max(needed, key=lambda job: needed[job]), there.total_memory / GIB
    return Finding(
        "GPU memory",
        f"{there.name} has {room:.1f} GiB",
        f"{needed[largest]:.1f} GiB or more, for `{largest}`",
        room >= needed[largest],
        "`bico estimate`, which lists the memory of each rule; a smaller 'media' needs less",
    )
