"""What everything else stands on: errors, whole files, records beside results, digests, the GPU of a process.

Nothing here knows a model, a source or a benchmark.
"""
