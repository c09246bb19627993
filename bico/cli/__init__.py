"""The command line: one command per step of the benchmark. Snakemake calls the same commands as a person.

`main.py` lists all commands. A module holds the commands of one heading of `bico --help`, which only parse arguments. A
command imports the code that it runs when it is called, so that a wrong argument is reported at once.
"""
