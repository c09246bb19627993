"""Whether the models work on this machine, not only whether they open: `bico doctor`.

Each part holds a model against what it was trained for, with a few of the config's own sources. Where it can, it
compares a source with other sources, so that the same limits hold for models of any size. With random weights every
part fails that weights decide.
"""
