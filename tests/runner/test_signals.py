"""A job that is told to stop cleans up after itself and says so."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from distclust.runner.interrupt import Interrupted, interruptible
from tests.runner.helpers import invoke, start, tree

STOPPING = Path(__file__).parent / "stopping_job.py"
Job = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "signum", "code"),
    [
        ("fitted", signal.SIGTERM, 143),
        ("fitted", signal.SIGINT, 130),
        ("labelled", signal.SIGTERM, 143),
    ],
)
def test_a_stopped_job_leaves_nothing(
    tmp_path: Path, job: Job, point: str, signum: signal.Signals, code: int
) -> None:
    status = tmp_path / "status.json"
    written = job(output={"path": str(tmp_path / "deep/er/out"), "status": str(status)})
    process = start(STOPPING, point, "run", written, "--quiet", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    if point == "labelled":
        attempts = list((tmp_path / "deep/er/out").glob("_staging/*/attempts/*.parquet"))
        assert len(attempts) == 3
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == f"error: stopped by {signum.name}\n"
    assert tree(tmp_path) == {"status.json"}
    assert not (tmp_path / "deep").exists()
    assert json.loads(status.read_text()) == {
        "schema_version": 1,
        "state": "interrupted",
        "exit_code": code,
        "message": f"stopped by {signum.name}",
    }


@pytest.mark.slow
def test_a_stopped_job_leaves_the_old_output(tmp_path: Path, job: Job) -> None:
    written = job(output={"overwrite": True})
    assert invoke("run", written).code == 0
    before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
    process = start(STOPPING, "labelled", "run", written, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert before == {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_handlers_can_be_renewed() -> None:
    def connect_and_stop() -> None:
        with interruptible() as signals:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a cluster library would
            signals.install()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        connect_and_stop()


def test_one_signal_passes_while_held() -> None:
    with interruptible() as signals, signals.held():
        os.kill(os.getpid(), signal.SIGTERM)


def test_other_threads_are_left_alone() -> None:
    seen = []

    def enter() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
