"""The methods, each in a folder or in one file.

    settings.py    `Settings`: what a config can set, and facts about the method; without torch
    learn.py       `learn`: from encoded sources to an artifact; absent where nothing is learned
    compose.py     `compose`: from a prompt and artifacts to clips

`shared.protocol` defines these functions. `bico.config`, `plan`, `training`, `scoring`, `report` and `pipeline` import
none of the methods and find their parts by name (an import contract in pyproject.toml).
"""
