"""Clips that were made elsewhere, by anybody's code, from a bundle of the same cases."""
