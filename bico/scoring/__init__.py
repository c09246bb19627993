"""From clips to numbers, a file for each score.

What is made of the numbers stands in `bico.report`.
"""
