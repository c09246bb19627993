"""Time and memory: the estimate of a run, and measurements at full size."""
