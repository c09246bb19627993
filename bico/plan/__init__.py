"""What a config asks for, before anything runs: trainings, clips, and all that each result depends on.

Both the rules and the steps go by it. Nothing here opens a model or reads a result.
"""
