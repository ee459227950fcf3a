"""The commands that benchmarks/README.md lists can be given."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__, density, kmeans, projection, sampling

README = Path(__file__).parents[2] / "benchmarks" / "README.md"


def commands() -> list[str]:
    """Arguments of each, shell variables replaced."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL))
    values = dict(re.findall(r'^(\w+)="(.*)"$', blocks, re.MULTILINE))
    lines = re.findall(r"^python -m benchmarks (.*?)(?:  +#.*)?$", blocks, re.MULTILINE)
    return [re.sub(r"\$(\w+)", lambda name: values[name[1]], line) for line in lines]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the benchmarks are asked to measure, instead of measuring it."""
    asked: list[Any] = []
    for benchmark in (density, kmeans, projection, sampling):
        monkeypatch.setattr(benchmark, "run", asked.append)
    monkeypatch.setattr(__main__, "from_file", lambda path, ks: [])
    return asked


@pytest.mark.parametrize("command", commands())
def test_a_command_is_understood(command: str, asked: list[Any]) -> None:
    options = vars(__main__.parser().parse_args(shlex.split(command)))
    run = options.pop("run")
    if run.__module__ == __main__.__name__:
        run(**options)
        assert len(asked) == 1
    else:
        inspect.signature(run).bind(**options)


def test_there_are_commands() -> None:
    assert len(commands()) > 20
