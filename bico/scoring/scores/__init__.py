"""Scores of clips that need no exact rendering, a file for each. `bico.scoring.protocol` says what is in a file."""
