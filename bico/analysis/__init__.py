"""What was learned, looked at closely: binding and leaks, applications, absorption, the concept in parts, controls.

Beside the benchmark's tables; most of it needs the Toybox's truth.
"""
