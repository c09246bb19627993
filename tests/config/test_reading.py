"""Whatever stands in a YAML file is read as it looks, or refused in one line."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bico.config.reading import read_yaml
from bico.core.errors import InputError

LIKE_NUMBERS = st.text("0123456789eExXob_:.+-~= TRUEtrueFALSEfalseYESyesNOnoNAnull", min_size=1, max_size=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "config.yaml"


@given(LIKE_NUMBERS)
@example("010")
@example("1:30")
@example("no")
def test_a_word_is_read_as_it_looks_or_refused(file, text):
    for line in (f"key: {text}", f"{text}: key"):
        file.write_text(line)
        try:
            values = read_yaml(file)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        (found,) = values.values() if line.startswith("key: ") else values
        looks = text.strip()
        if found is None:
            assert looks in ("", "~", "null", "Null", "NULL")
        elif isinstance(found, bool):
            assert looks.lower() == json.dumps(found)
        elif isinstance(found, int):
            assert looks.lstrip("+") in (str(found), f"-{found}")
        elif isinstance(found, float):
            assert math.isfinite(found) and found == float(looks)
        else:
            assert found == looks
