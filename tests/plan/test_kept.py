"""What an estimate takes for granted: trainings and clips whose records say what they would say now."""

from pathlib import Path

import toy

from bico.config.schema import Config
from bico.core.files import write_json
from bico.core.records import beside
from bico.plan import dependencies
from bico.plan.kept import due_clips, due_trainings
from bico.plan.trainings import learner

LEARNED = [("big_fish", 0), ("bouncing_car", 0), ("old_robot", 0), ("red_cat", 0), ("spinning_cat", 0)]


def make(config: Config) -> None:
    """Writes an artifact of every source and a clip of every case, with records of another precision."""
    learned = dependencies.learn(config, "bico", 0, "torch.bfloat16")
    for item, seed in LEARNED:
        _write(config.paths.artifact("bico", item, seed), {**learned.shared(config), **learned.own(f"{item} {seed}")})
    for row in ("bico", "base"):
        clips = dependencies.generate(config, row, "torch.bfloat16")
        for case in config.cases:
            _write(config.paths.clip(row, case, 0), {**clips.shared(config), **clips.own(f"{case} 0")})


def _write(path: Path, values: dependencies.Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"of an earlier run")
    write_json(beside(path), {**values, "inputs": {"encoded": "0"}, "sha256": "0", "manifest": "0.json"})


def test_what_has_the_record_of_now_is_not_due(tmp_path):
    config = toy.config(tmp_path, seeds=[0])
    assert due_trainings(config, "bico", 0) == LEARNED and len(due_clips(config, "bico")) == 3
    make(config)
    assert due_trainings(config, "bico", 0) == [] and due_clips(config, "bico") == due_clips(config, "base") == []


def test_a_training_is_due_when_a_setting_changes_and_so_are_the_clips_made_with_it(tmp_path):
    make(toy.config(tmp_path, seeds=[0]))
    changed = toy.config(tmp_path, seeds=[0], methods={"base": {}, "bico": {"learning_rate": 0.5}})
    assert due_trainings(changed, "bico", 0) == LEARNED
    assert len(due_clips(changed, "bico")) == 3 and due_clips(changed, "base") == []


def test_one_source_that_is_missing_makes_only_its_cases_due(tmp_path):
    config = toy.config(tmp_path, seeds=[0])
    make(config)
    config.paths.artifact("bico", "bouncing_car", 0).unlink()
    assert due_trainings(config, "bico", 0) == [("bouncing_car", 0)]
    assert [job.case_id for job in due_clips(config, "bico")] == ["cat_bounces", "fish_bounces"]


def test_a_row_above_another_with_the_same_training_does_not_take_its_artifacts(tmp_path):
    rows = {
        "bico_strong": {"method": "bico", "strength": 1.3},
        "bico": {},
        "bico_weak": {"method": "bico", "strength": 0.5},
    }
    config = toy.config(tmp_path, seeds=[0], methods=rows)
    assert {learner(config, row) for row in rows} == {"bico"}
    del rows["bico"]
    assert learner(toy.config(tmp_path, seeds=[0], methods=rows), "bico_weak") == "bico_strong"
