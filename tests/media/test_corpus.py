"""Every odd file of the corpus gives the frames that one sees, or is refused in one line that says what is wrong."""

import logging

import numpy as np
import pytest
from corpus import ODD, SIZE, Odd

from bico.core.errors import InputError
from bico.media.inspecting import check_media
from bico.media.reading import read_media


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_odd_media_are_read_or_refused(odd: Odd, tmp_path, caplog):
    path = tmp_path / odd.name
    odd.write(path)
    if odd.line:
        with pytest.raises(InputError) as caught:
            check_media(path, odd.kind, **odd.given)
            read_media(path, **SIZE, **odd.given)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and odd.line in message and "\n" not in message
        return
    with caplog.at_level(logging.WARNING):
        check_media(path, odd.kind, **odd.given)
        found = read_media(path, **SIZE, **odd.given)
    assert odd.notice in caplog.text if odd.notice else not caplog.records
    assert found.shape == (9 if odd.kind == "video" else 1, 48, 48, 3)
    if odd.frames is not None:
        assert [round((float(frame.mean()) - 20) / 8) for frame in found] == list(odd.frames)
    elif odd.colours is not None:
        quarters = found.reshape(len(found), 2, 24, 2, 24, 3)[:, :, 6:18, :, 6:18].mean((2, 4))
        assert np.abs(quarters.reshape(len(found), 4, 3) - odd.colours).max() <= odd.near
