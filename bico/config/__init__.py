"""What a benchmark is: the typed schema of its YAML file.

No torch, no model, no file but YAML. What a config makes happen stands where it happens.
"""
