"""Scores of clips, one module for each score.

Tables and figures of the scores are in `bico.report`.
"""
