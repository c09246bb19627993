"""The trainer that all learned methods share: noise levels, loss, loop, checkpoints, metrics, artifacts.

What is learned, and from what, stands with each method in `bico.methods`.
"""
