"""How many prompts try what was learned of a source (`bico.analysis.binding`)."""

CONTEXTS = 4
"""Prompts in which each role is tried."""
