"""The rows of the table: a folder a method, or one file.

    settings.py    `Settings`: what a config can set, and what the method answers before it runs; no torch
    learn.py       `learn`: from encoded sources to an artifact; absent where nothing is learned
    compose.py     `compose`: from a prompt and artifacts to clips

`shared.protocol` says what these have to be. Nothing outside a method's folder asks for its class or its name.
"""
