"""The base of everything else: errors, atomic files, records beside results, digests, the GPU of a process.

Nothing here knows a model, a source or a benchmark.
"""
