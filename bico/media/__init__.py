"""Reads and writes images and clips.

This package knows nothing about sources and about what clips show.
"""
