"""Clips that other code made from a bundle of the same cases."""
