"""The trainer that all learned methods share: noise levels, loss, loop, checkpoints, metrics, artifacts.

Each method in `bico.methods` defines what is learned and from which data.
"""
