"""A first real number in one evening: what config/pilot.yaml changes of config/paper.yaml."""

import pytest
import yaml
from conftest import ROOT

from bico.config.reading import load
from bico.profiling.costs import costs_of
from bico.profiling.estimate import RuleJob
from bico.profiling.work import Work

PAPER, PILOT = (yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("paper.yaml", "pilot.yaml"))
SHORTER = {
    "textual_inversion": {"steps": 1500},
    "bico": {"clip_stages": {"global_steps": 800, "all_steps": 800}},
}


def test_what_the_pilot_does_is_what_the_paper_does_but_for_what_it_says() -> None:
    changed = {"name", "results", "models", "seeds", "sources", "cases", "methods", "tables", "controls"}
    assert {key for key in PAPER | PILOT if PAPER.get(key) != PILOT.get(key)} == changed
    assert PAPER["models"].items() - PILOT["models"].items() == {("appearance", PAPER["models"]["appearance"])}
    for part in ("sources", "cases"):
        assert PILOT[part].items() <= PAPER[part].items()
    assert PILOT["methods"] == {row: PAPER["methods"][row] | SHORTER.get(row, {}) for row in PILOT["methods"]}
    assert [*PILOT["methods"]] == ["base", "textual_inversion", "db_lora", "bico"]


def test_the_pilot_has_cases_of_three_kinds_and_no_source_without_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load(PILOT)
    kinds = [sorted(config.sources[source].kind for source in case.bind) for case in config.cases.values()]
    assert kinds == [["image", "video"], ["image", "image", "video"], ["image", "video"]]
    assert "Starry Night" in config.cases["pixelart_eagle"].prompt  # a style
    assert {source for case in config.cases.values() for source in case.bind} == {*config.sources}


def test_the_pilot_takes_an_evening_of_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load(PILOT)
    work = Work(config, costs_of("h100"))
    jobs = [RuleJob("concepts", {}), RuleJob("encode", {})]
    for row, settings in config.methods.items():
        jobs += [RuleJob("generate", {"method": row}), RuleJob("score", {"method": row})]
        if settings.LEARNS_PER != "nothing":
            jobs.append(RuleJob("learn", {"method": row, "part": "0"}))
    assert 5 < sum(work.of(job)["gpu_hours"] for job in jobs) < 10
