"""The typed schema of a benchmark's YAML file.

This package imports no torch, opens no model and reads only YAML. What a setting does is written where it is used.
"""
