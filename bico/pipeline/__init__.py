"""The checks before anything runs, and the steps that the rules of Snakemake call."""
