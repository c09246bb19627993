"""Control: a source's own frames in place of a composition; shows what a score rewards for copying."""
