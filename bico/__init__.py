"""BiCo and its baselines, as a benchmark."""

__version__ = "0.1.0"
