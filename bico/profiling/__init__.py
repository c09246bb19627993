"""How long it takes: the estimate of a run, and speed and memory at full size."""
