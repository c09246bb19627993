"""Training of the Toybox's shipped models: small models of the real classes, from scratch, on rendered scenes.

This package has everything for these trainings (scenes, losses, the loop, the optimiser), the installation of trained
models, and their card. It has nothing that the benchmark runs. The benchmark opens the models as folders, so nothing
outside this package imports it. `python -m bico.zoo` is its entry point, which `workflow/zoo.smk` calls.
"""
