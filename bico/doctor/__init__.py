"""`bico doctor`: checks that the models work on this machine, not only that they open.

Each part tests a model on its training task, with a few of the config's own sources. Where possible it compares a
source with other sources, so that the same limits apply to models of any size. Models with random weights fail every
part that depends on weights.
"""
