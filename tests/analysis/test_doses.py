"""Scores of exact renderings with a known fault: each is of the clip with its own fault and dose."""

import pytest
import toy

from bico.analysis.doses import measure_doses
from bico.scoring.motion import dynamic_degree
from bico.toybox.faults import DOSES, EXACT, FAULTS, clip_of


def test_every_line_of_the_doses_is_of_the_clip_with_its_own_fault_and_dose(tmp_path):
    config = toy.config(tmp_path, scoring={"scores": {"dynamic_degree": None}})
    toy.write_media(config)
    table = measure_doses(config, "cpu").set_index(["case", "fault", "dose"])["dynamic_degree"]
    for case in config.cases:
        exact, found = clip_of(config, case), table[case]
        assert found[EXACT, 0.0] == pytest.approx(100 * dynamic_degree(exact.frames(), config.media.fps))
        for dose in DOSES:
            changed = FAULTS["frozen"].change(exact, dose)
            assert found["frozen", dose] == pytest.approx(100 * dynamic_degree(changed, config.media.fps))
        assert found["frozen", 1.0] < found["frozen", DOSES[0]] < found[EXACT, 0.0]
