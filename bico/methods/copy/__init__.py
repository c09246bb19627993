"""Control: the frames of a source in place of a composition, which show how a score rewards copying."""
