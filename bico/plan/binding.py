"""Number of prompts of the leak test (`bico.analysis.binding`)."""

CONTEXTS = 4
"""Number of prompts in which each role is tested."""
