"""The plan of a config: which trainings and clips it needs, and on what each result depends.

Both the rules and the steps use it. Nothing here opens a model or reads a result.
"""
