"""Analysis of what was learned: binding and leaks, applications, absorption, parts of the concept, controls.

It complements the benchmark's tables. Most of it needs the Toybox's exact renderings.
"""
