from __future__ import annotations

import contextlib
import importlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pytest

from distclust.data import (
    Block,
    OutputDir,
    labels_dataset,
    open_manifest,
    read_manifest,
    settle,
    verify,
    write_labels,
)
from distclust.data.store import LocalStore
from distclust.errors import ConfigError, CorruptFile, DataError, OutputExists

Stage = Callable[..., tuple[OutputDir, list[Any]]]


class Crash(BaseException):
    """A process that dies: nothing after it runs, not even `abort`."""


class Constant:
    def __init__(self, label: int) -> None:
        self.label = label

    def __call__(self, block: Block) -> dict[str, npt.NDArray[Any]]:
        return {"label": np.full(block.n_rows, self.label, np.int32)}


@pytest.fixture
def stage(dataset: Path) -> Stage:
    """Do all of a run but to publish it: every row gets `label`, so does the model."""
    manifest = open_manifest(dataset, columns=["x"], id_columns=["key"])

    def stage(path: Any, label: int, **options: Any) -> tuple[OutputDir, list[Any]]:
        output = OutputDir(path, **options)
        output.prepare()
        files = [
            write_labels(file, manifest.selection, Constant(label), output.attempts_dir)
            for file in manifest.files
        ]
        write_labels(manifest.files[0], manifest.selection, Constant(-1), output.attempts_dir)
        model = output.stage_path("model")
        model.mkdir()
        (model / "model.json").write_text(str(label))
        output.stage_path("run.json").write_text(str(label))
        return output, files

    return stage


def label_of(path: Any) -> int:
    """The label of a result, checked to be one result and whole."""
    verify(path)
    labels = labels_dataset(path).to_table()
    assert labels["key"].to_pylist() == [f"row{i}" for i in range(60)]
    (label,) = set(labels["label"].to_pylist())
    if "://" not in str(path):
        assert Path(path, "run.json").read_text() == str(label)
        assert Path(path, "model", "model.json").read_text() == str(label)
    return int(label)


def names_in(path: Path) -> list[str]:
    return sorted(item.relative_to(path).as_posix() for item in path.rglob("*"))


def labels_in(path: Path) -> list[str]:
    return [f"labels/{item.name}" for item in sorted((path / "labels").iterdir())]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "out"


def test_a_commit_leaves_the_result_and_nothing_else(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    manifest = output.publish(files, {"input_digest": "abc"})
    run = output.run[:8]
    labels = [f"labels/0000{i}-part-{i}-{run}.parquet" for i in range(3)]
    expected = ["labels", *labels, "manifest.json", "model", "model/model.json", "run.json"]
    assert names_in(out) == expected
    assert read_manifest(out) == manifest
    assert manifest["input_digest"] == "abc"
    assert [file["rows"] for file in manifest["files"]] == [10, 20, 30]
    assert label_of(out) == 1
    output.abort()
    assert label_of(out) == 1


def test_a_finished_result_is_not_overwritten_unasked(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    output.publish(files)
    before = names_in(out)
    with pytest.raises(OutputExists, match=r"results/out: holds a finished result; set overwrite"):
        OutputDir(out).prepare()
    assert names_in(out) == before


def test_overwriting_deletes_exactly_what_it_replaces(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    output.stage_path("report.html").write_text("old")
    output.publish(files)
    (out / "labels" / "mine.parquet").write_text("not ours")
    (out / "notes.txt").write_text("not ours")
    output, files = stage(out, 2, overwrite=True)
    manifest = output.publish(files)
    assert label_of(out) == 2
    assert labels_in(out) == [*(file["path"] for file in manifest["files"]), "labels/mine.parquet"]
    assert (out / "notes.txt").exists()
    assert not (out / "report.html").exists()


def test_abort_leaves_no_trace(stage: Stage, out: Path) -> None:
    output, _ = stage(out, 1)
    output.abort()
    output.abort()
    assert not out.parent.exists()


def test_abort_keeps_what_was_there(stage: Stage, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    output, _ = stage(out, 1)
    output.abort()
    assert names_in(out) == ["notes.txt"]


def test_of_two_jobs_the_second_to_commit_loses(stage: Stage, out: Path) -> None:
    first, first_files = stage(out, 1)
    second, second_files = stage(out, 2)
    second.publish(second_files)
    with pytest.raises(OutputExists):
        first.publish(first_files)
    assert label_of(out) == 2
    assert not (out / "_staging").exists()
    assert labels_in(out) == [file["path"] for file in read_manifest(out)["files"]]


@pytest.mark.parametrize("locks", [True, False])
def test_racing_jobs_have_exactly_one_winner(
    stage: Stage, out: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file system has no locks: then the hard link decides."""
    if not locks:
        monkeypatch.setattr(LocalStore, "lock", lambda _: contextlib.nullcontext(False))
    jobs = [stage(out, label) for label in range(4)]
    start = threading.Barrier(len(jobs))
    outcomes: list[str] = []

    def publish(output: OutputDir, files: list[Any]) -> None:
        start.wait()
        try:
            output.publish(files)
        except OutputExists:
            outcomes.append("lost")
        else:
            outcomes.append("won")

    threads = [threading.Thread(target=publish, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost", "lost", "lost", "won"]
    label_of(out)
    assert labels_in(out) == [file["path"] for file in read_manifest(out)["files"]]
    assert not (out / "_staging").exists()


@pytest.mark.parametrize("name", ["model", "run.json"])
def test_files_of_others_in_the_way_are_not_overwritten(stage: Stage, out: Path, name: str) -> None:
    out.mkdir(parents=True)
    mine = out / name if name == "run.json" else out / name / "mine.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    output, files = stage(out, 1)
    with pytest.raises(OutputExists, match=f"out/{name}: exists and is not part of"):
        output.publish(files)
    assert mine.read_text() == "mine"
    assert not (out / "labels").exists()
    output, files = stage(out, 1, overwrite=True)
    output.publish(files)
    assert label_of(out) == 1


# ------------------------------------------------------------------ crashes

STEPS = ("os.rename", "os.replace", "os.link", "os.fsync", "shutil.rmtree", "os.unlink")


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """Die in front of the n-th step that changes the disk."""

    def arm(n: int) -> list[str]:
        seen: list[str] = []

        def dying(step: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                seen.append(step)
                if len(seen) > n:
                    raise Crash
                return real(*args, **kwargs)

            return wrapped

        for step in STEPS:
            module, name = step.split(".")
            owner = importlib.import_module(module)
            monkeypatch.setattr(owner, name, dying(step, getattr(owner, name)))
        monkeypatch.setattr(OutputDir, "abort", lambda _: None)
        return seen

    yield arm
    monkeypatch.undo()


def publish_until_crash(output: OutputDir, files: list[Any]) -> bool:
    try:
        output.publish(files)
    except Crash:
        return False
    return True


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_crash_at_any_step_leaves_one_whole_result(
    stage: Stage,
    tmp_path: Path,
    overwrite: bool,
    crash: Callable[[int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After any crash there is the old result or the new one, and the next run cleans up."""
    outcomes = set()
    for n in range(100):
        out = tmp_path / f"out{n}"
        if overwrite:
            first, first_files = stage(out, 1)
            first.publish(first_files)
        output, files = stage(out, 2, overwrite=overwrite)
        with monkeypatch.context() as patch:
            patch.setattr(OutputDir, "abort", OutputDir.abort)
            crash(n)
            done = publish_until_crash(output, files)
            monkeypatch.undo()
        if (out / "manifest.json").exists():
            labels = set(labels_dataset(out).to_table()["label"].to_pylist())
            settle(out)
            assert labels == {label_of(out)}
            outcomes.add(label_of(out))
        else:
            assert not overwrite
            outcomes.add(0)
        retry, retry_files = stage(out, 3, overwrite=True)
        retry.publish(retry_files)
        assert label_of(out) == 3
        assert labels_in(out) == [file["path"] for file in read_manifest(out)["files"]]
        if done:
            break
    assert done
    assert outcomes == ({1, 2} if overwrite else {0, 2})


@pytest.mark.parametrize("content", ["", '["labels/0'])
def test_a_journal_cut_off_by_a_crash_is_cleared(stage: Stage, out: Path, content: str) -> None:
    dead, _ = stage(out, 1)
    (out / "_staging" / dead.run / "placed.json").write_text(content)
    output, files = stage(out, 2)
    output.publish(files)
    assert label_of(out) == 2
    assert not (out / "_staging").exists()


def test_an_error_before_the_commit_deletes_the_run(
    stage: Stage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, files = stage(out, 1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "manifest.json")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left on device"):
        output.publish(files)
    assert not out.exists()


def test_a_file_system_without_hard_links(
    stage: Stage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    output, files = stage(out, 1)
    output.publish(files)
    assert label_of(out) == 1


# ------------------------------------------------------------------ reading


def test_verify_names_a_file_that_changed_or_is_gone(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    path = out / output.publish(files)["files"][1]["path"]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"00001-part-1-.*: its bytes differ"):
        verify(out)
    path.unlink()
    with pytest.raises(CorruptFile, match=r"00001-part-1-.*: is missing"):
        verify(out)


def test_readers_trust_the_manifest_not_a_listing(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    output.publish(files)
    (out / "labels" / "00000-stray.parquet").write_bytes(b"not parquet")
    assert label_of(out) == 1


def test_no_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no finished result \(no manifest.json\)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", [{"path": "../x.parquet"}]),
        ("files", [{"path": "labels/../../x.parquet"}]),
        ("entries", [{"path": "model/../../x"}]),
        ("entries", [{"path": "/etc/passwd"}]),
        ("replaces", ["../x"]),
        ("replaces", ["labels"]),
        ("run", "../../somewhere"),
        ("run", None),
        ("files", None),
        ("schema_version", 99),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_refused(
    stage: Stage, out: Path, key: str, value: Any
) -> None:
    output, files = stage(out, 1)
    manifest = output.publish(files)
    (out / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    before = names_in(out)
    with pytest.raises(DataError, match=r"out/manifest.json: "):
        OutputDir(out, overwrite=True).prepare()
    assert names_in(out) == before


@pytest.mark.parametrize("name", ["labels", "manifest.json", "../x", "_staging", ".lock", "a/b"])
def test_reserved_entry_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="output entry"):
        OutputDir(tmp_path).stage_path(name)


def test_a_resumed_run_finds_its_staging_directory(stage: Stage, out: Path) -> None:
    _, files = stage(out, 1, run="resumable-run")
    again = OutputDir(out, run="resumable-run")
    again.prepare()
    again.stage_path("model")
    again.stage_path("run.json")
    again.publish(files)
    assert label_of(out) == 1
    with pytest.raises(OutputExists, match="run resumable-run is finished already"):
        OutputDir(out, overwrite=True, run="resumable-run").prepare()
    assert label_of(out) == 1


def test_two_attempts_at_one_file_are_not_published(stage: Stage, out: Path) -> None:
    output, files = stage(out, 1)
    with pytest.raises(ValueError, match="more than one attempt"):
        output.publish([files[0], files[0]])
    assert not out.exists()


def test_an_object_store(stage: Stage) -> None:
    files = fsspec.filesystem("memory")
    url = "memory://commit/out"
    output, written = stage(url, 1)
    output.publish(written)
    assert label_of(url) == 1
    assert files.cat("/commit/out/model/model.json") == b"1"
    with pytest.raises(OutputExists):
        OutputDir(url).prepare()
    output, written = stage(url, 2, overwrite=True)
    output.publish(written)
    assert label_of(url) == 2
    assert files.cat("/commit/out/run.json") == b"2"
    assert len(files.find("/commit/out")) == 6
    output, _ = stage(url, 3, overwrite=True)
    output.abort()
    assert label_of(url) == 2
    assert len(files.find("/commit/out")) == 6
