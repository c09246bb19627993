"""What was learned, looked at closely: binding and leaks, applications, the absorption token, the concept in parts.

Beside the benchmark's tables; all of it needs the Toybox's truth.
"""
