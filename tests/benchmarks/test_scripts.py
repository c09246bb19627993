"""Scripts of benchmarks/: bad input is one line and exit code 2, before anything runs."""

import subprocess
import sys

import pytest
from conftest import ROOT

from bico.core.errors import InputError

sys.path.insert(0, str(ROOT / "benchmarks"))
import sweep


def test_bad_input_is_one_line(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "tune.py", "--config", "none.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    assert (
        done.stderr == "error: none.yaml: cannot read this config (No such file or directory): expected a YAML file\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["methods.nobody.strength", "1"], "the config has no 'nobody': expected one of base, "),
        (["methods.bico.strength", "1", "much"], "methods.bico.strength: "),
    ],
)
def test_a_sweep_checks_all_values_before_it_runs_one(arguments, expected, monkeypatch):
    def run(*_):
        raise AssertionError

    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments, "--config", str(ROOT / "config" / "toybox.yaml")])
    with pytest.raises(InputError, match=expected):
        sweep.main()
