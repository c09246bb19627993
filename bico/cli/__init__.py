"""The command line: one command per step of the benchmark. What Snakemake calls is what a person types.

`main.py` lists all commands. A module holds the commands of one heading of `bico --help`, and of them the arguments
alone. A command imports what it runs when it is called, so that a wrong argument is told at once.
"""
