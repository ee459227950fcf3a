"""What the package promises as a whole: names, a light import, small modules, safe words."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import distclust
import distclust.preprocessing
import distclust.random_projection
from distclust import errors

ROOT = Path(__file__).parent.parent
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".sh", ".cfg", ".txt", ""}
# Not pandas: scikit-learn imports it where it is installed.
HEAVY = ("ray", "dask", "distributed", "dask_ml", "plotly", "bokeh", "typer", "polars", "hdbscan")
SKIPPED = {".git", ".venv", "venv", "build", "dist", "data", "out", "__pycache__"}


def sources() -> list[Path]:
    return [path for folder in ("distclust", "benchmarks", "jobs") for path in python_files(folder)]


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    """Files of the repository, as far as they can be told without git."""
    top = [path for path in ROOT.iterdir() if path.name not in SKIPPED]
    files = [path for path in top if path.is_file()]
    for folder in top:
        if folder.is_dir() and not folder.name.endswith(("_cache", ".egg-info")):
            files += [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return [path for path in files if path.is_file() and path.suffix in TEXT]


def run_python(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_exported_names_are_pinned() -> None:
    assert distclust.__all__ == [
        "HDBSCAN",
        "BisectingKMeans",
        "ClusterError",
        "ConfigError",
        "DataError",
        "DistclustError",
        "KMeans",
        "MiniBatchKMeans",
        "ModelError",
        "SampleThenAssign",
        "TaskFailed",
        "WorkerLost",
        "__version__",
        "connect",
        "load",
        "open_manifest",
        "save",
    ]


def test_every_exported_name_is_there_and_documented() -> None:
    for name in set(distclust.__all__) - {"__version__"}:
        assert getattr(distclust, name).__doc__


def test_every_error_is_one_of_ours_and_tells_an_exit_code() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.DistclustError)
        assert error.exit_code in {1, 2, 3, 4}


def checked_by_scikit_learn() -> set[str]:
    """Names in what scikit-learn's checks are given, and in the lists that are named there."""
    given_to = {"parametrize_with_checks"}, {"check_estimator"}
    found: set[str] = set()
    for path in python_files("tests"):
        tree = ast.parse(path.read_text())
        lists = {
            name: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for name in names_in(*node.targets)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and names_in(node.func) in given_to:
                here = names_in(*node.args)
                found |= here | names_in(*(lists[name] for name in here & lists.keys()))
    return found


def names_in(*trees: ast.AST) -> set[str]:
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_public_estimator_is_checked_by_scikit_learn() -> None:
    modules = distclust, distclust.preprocessing, distclust.random_projection
    estimators = {
        name
        for module in modules
        for name in module.__all__
        if isinstance(kind := getattr(module, name), type) and issubclass(kind, BaseEstimator)
    }
    assert {"KMeans", "HDBSCAN", "SampleThenAssign", "PCA", "SimpleImputer"} <= estimators
    assert estimators - checked_by_scikit_learn() == set()


def test_import_is_light() -> None:
    code = "import distclust, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run_python("-c", code)))
    assert loaded.isdisjoint({*HEAVY, "distclust.cli", "distclust.runner"})


def test_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", distclust.__version__)
    assert f"## {distclust.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_package_is_typed() -> None:
    assert (ROOT / "distclust" / "py.typed").is_file()


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_short_and_says_what_it_owns(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_nothing_tells_to_install_a_package_that_is_not_ours() -> None:
    """The name ``distclust`` alone is not our distribution on a package index."""
    wrong = re.compile(r"(pip3?|uv|pipx)\b[^&;|]{0,60}?[ \"'=]distclust(?![-\w./])")
    told = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if "install" in line and wrong.search(line)
    ]
    assert told == []


def test_readme_has_commands_for_ci() -> None:
    blocks = re.findall(
        r"^<!-- ci -->\n```\w*\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert blocks
    assert "pytest" in blocks[-1]


@pytest.mark.slow
def test_benchmark_runs(tmp_path: Path) -> None:
    result = tmp_path / "results.jsonl"
    flags = ["--cases", "A", "--scale", "0.002", "--repeats", "1", "--json", str(result)]
    run_python("-m", "benchmarks", "kmeans", "--peers", "sklearn", "--ours", "local", *flags)
    peer, ours = (json.loads(line) for line in result.read_text().splitlines())
    assert (peer["contender"], ours["contender"]) == ("sklearn", "distclust local")
    assert peer["error"] is ours["error"] is None
    assert ours["inertia"] == pytest.approx(peer["inertia"], rel=1e-4)
    assert {"cpu", "cores", "date", "versions"} <= ours.keys()
