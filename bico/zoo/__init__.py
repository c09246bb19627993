"""Training of the Toybox's shipped models: small models of the real classes, from scratch, on rendered scenes.

What belongs here: all that a training needs (scenes, losses, the loop, the optimiser), the installation of trained
models, and their card. What does not: anything that the benchmark runs. The benchmark opens these models as folders, so
nothing outside this package imports it. `python -m bico.zoo` is its entry, and `workflow/zoo.smk` calls that.
"""
