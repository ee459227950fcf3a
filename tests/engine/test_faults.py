"""Lost workers, silent workers and failing functions: repeated, fenced, or raised once."""

from __future__ import annotations

from typing import Any

import pytest

from distclust.engine.events import CallRetried, LateReply, StageProgress
from distclust.engine.shards import FAN_IN
from distclust.errors import ClusterTimeout, DataError, TaskFailed, WorkerLost
from tests.engine.helpers import (
    Clock,
    Gate,
    Heard,
    Script,
    Timed,
    Watched,
    as_set,
    joined,
    number,
    shards_of,
    times,
)
from tests.faults.scripted import Fault, Held

LOSSES = [Fault.LOSE_BEFORE, Fault.LOSE_AFTER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("distclust.engine.loop.time", clock)
    return clock


@pytest.mark.parametrize("fault", LOSSES)
@pytest.mark.parametrize("n", [1, 3, FAN_IN, FAN_IN + 1, 3 * FAN_IN])
@pytest.mark.parametrize("verb", ["gather", "reduce"])
def test_a_lost_call_is_repeated_on_a_new_placement(verb: str, n: int, fault: Fault) -> None:
    heard = Heard()
    with Watched({(n - 1, 1): fault}) as backend:
        shards = shards_of(backend, n, heard)
        if verb == "gather":
            assert shards.gather(number) == list(range(n))
        else:
            assert shards.reduce(as_set, joined) == list(range(n))
        assert sorted(backend.places) == sorted([*range(n), n - 1])
        assert sorted(backend.calls) == sorted([*((i, 1) for i in range(n)), (n - 1, 2)])
    (retried,) = heard.of(CallRetried)
    assert (retried.partition, retried.attempt) == (n - 1, 2)
    assert str(fault) in retried.reason


@pytest.mark.parametrize("fault", LOSSES)
def test_every_partition_lost_at_once(fault: Fault) -> None:
    n = 2 * FAN_IN + 2
    with Watched({(i, 1): fault for i in range(n)}) as backend:
        assert shards_of(backend, n).reduce(as_set, joined) == list(range(n))
        assert len(backend.calls) == 2 * n


def test_the_new_placement_is_kept_for_later_steps() -> None:
    with Watched({(1, 1): Fault.LOSE_BEFORE}) as backend:
        shards = shards_of(backend, 3)
        for _ in range(3):
            assert shards.gather(number) == [0, 1, 2]
        assert sorted(backend.places) == [0, 1, 1, 2]


@pytest.mark.parametrize("n", [2, FAN_IN + 4])
def test_repeated_loss_ends_with_the_error(n: int) -> None:
    heard = Heard()
    script: Script = {(1, attempt): Fault.LOSE_BEFORE for attempt in (1, 2, 3)}
    with Watched(script) as backend:
        with pytest.raises(WorkerLost, match=r"Fault\.LOSE_BEFORE"):
            shards_of(backend, n, heard, max_attempts=3).reduce(as_set, joined)
        assert [step for step in backend.calls if step[0] == 1] == [(1, 1), (1, 2), (1, 3)]
    assert [event.attempt for event in heard.of(CallRetried)] == [2, 3]


def test_a_loss_within_the_patience_is_survived() -> None:
    script: Script = {(0, attempt): Fault.LOSE_AFTER for attempt in (1, 2)}
    with Watched(script) as backend:
        assert shards_of(backend, 2, max_attempts=3).gather(number) == [0, 1]


def test_attempts_count_anew_for_each_step() -> None:
    script: Script = {(0, call): Fault.LOSE_BEFORE for call in (1, 3, 5)}
    with Watched(script) as backend:
        shards = shards_of(backend, 2, max_attempts=2)
        for _ in range(3):
            assert shards.gather(number) == [0, 1]


def test_a_call_that_ran_twice_is_merged_once() -> None:
    n = FAN_IN + 3
    with Watched({(i, 1): Fault.DUPLICATE for i in range(n)}) as backend:
        assert shards_of(backend, n).reduce(as_set, joined) == list(range(n))


@pytest.mark.parametrize("fault", LOSSES)
def test_broadcasts_are_renewed_after_a_loss(fault: Fault) -> None:
    with Watched({(2, 1): fault}) as backend:
        shards = shards_of(backend, 3)
        factor = shards.session.broadcast(7)
        assert shards.gather(times, factor) == [0, 7, 14]
        assert len(backend.puts) == 2
        repeated = backend.sent[backend.calls.index((2, 2))]
        assert repeated is backend.puts[1]


# A leaf that is lost while it is being merged on a worker -------------------------------


class LostMerges(Watched):
    """The first `count` worker-side merges are lost, and their first leaf with them."""

    def __init__(self, count: int, *, leaf: bool) -> None:
        super().__init__()
        self.count, self.leaf = count, leaf

    def combine(self, fn: Any, futures: Any) -> Any:
        combined = super().combine(fn, futures)
        if self.combined <= self.count:
            combined.fault = Fault.LOSE_AFTER
            if self.leaf:
                futures[0].fault = Fault.LOSE_AFTER
        return combined


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("n", [FAN_IN + 1, 3 * FAN_IN, 3 * FAN_IN + 5])
@pytest.mark.parametrize("leaf", [False, True], ids=["merge", "merge and leaf"])
def test_a_merge_lost_on_a_worker_is_made_good(n: int, count: int, leaf: bool) -> None:
    heard = Heard()
    with LostMerges(count, leaf=leaf) as backend:
        assert shards_of(backend, n, heard).reduce(as_set, joined) == list(range(n))
    lost = min(count, n // FAN_IN) if leaf else 0
    assert len(heard.of(CallRetried)) == lost


# Errors of functions ----------------------------------------------------------------------


class Bad:
    """Refuses some partitions."""

    def __init__(self, *partitions: int, error: type[Exception] = DataError) -> None:
        self.partitions, self.error = partitions, error

    def __call__(self, resident: int) -> list[int]:
        if resident in self.partitions:
            raise self.error(f"part-{resident}.parquet: NaN")
        return [resident]


@pytest.mark.parametrize("n", [4, 3 * FAN_IN])
def test_an_error_of_ours_is_raised_as_itself_and_not_retried(n: int) -> None:
    heard = Heard()
    with Watched() as backend:
        with pytest.raises(DataError, match=r"part-3\.parquet: NaN"):
            shards_of(backend, n, heard).reduce(Bad(3), joined)
        assert (3, 2) not in backend.calls
    assert not heard.of(CallRetried)


def test_a_foreign_error_is_a_failed_task() -> None:
    with Watched() as backend, pytest.raises(TaskFailed, match=r"KeyError.*part-0\.parquet"):
        shards_of(backend, 1).gather(Bad(0, error=KeyError))


def test_errors_of_several_partitions_are_one_message() -> None:
    """All four calls are in flight when the first of them fails."""
    with Watched() as backend, pytest.raises(DataError) as caught:
        shards_of(backend, 4).gather(Bad(0, 1, 2, 3))
    assert str(caught.value) == "part-0.parquet: NaN"
    assert caught.value.__notes__ == ["4 partitions failed: [0, 1, 2, 3]"]


def test_calls_in_flight_are_finished_before_an_error_is_raised() -> None:
    with Watched() as backend:
        with pytest.raises(DataError):
            shards_of(backend, 40).gather(Bad(0, 1))
        assert not backend.in_flight
        assert len(backend.calls) < 40


class ThenOpens(Watched):
    """Opens a gate when a call is found to have failed."""

    def __init__(self, gate: Gate, script: Script) -> None:
        super().__init__(script)
        self.gate = gate

    def fetch(self, future: Any) -> Any:
        try:
            return super().fetch(future)
        except TaskFailed:
            self.gate.open.set()
            raise


def test_a_worker_lost_meanwhile_does_not_hide_the_error() -> None:
    """Partition 1 fails for good; partition 0 is lost while it is waited for."""
    gate = Gate(0)

    def fn(resident: int) -> list[int]:
        return Bad(1)(gate(resident))

    with (
        ThenOpens(gate, {(0, 1): Fault.LOSE_AFTER}) as backend,
        pytest.raises(DataError, match=r"part-1\.parquet: NaN"),
    ):
        shards_of(backend, 2).gather(fn)


def test_the_shards_work_after_an_error() -> None:
    with Watched() as backend:
        shards = shards_of(backend, 12)
        with pytest.raises(DataError):
            shards.reduce(Bad(3), joined)
        assert shards.reduce(as_set, joined) == list(range(12))


# Silent workers -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, FAN_IN + 1])
def test_a_silent_call_is_repeated_elsewhere(clock: Clock, n: int) -> None:
    heard = Heard()
    with Timed(clock, {(1, 1): Held()}) as backend:
        shards = shards_of(backend, n, heard, call_timeout=30.0)
        assert shards.reduce(as_set, joined) == list(range(n))
        assert backend.calls.count((1, 2)) == 1
    assert clock.now == 30.0
    (retried,) = heard.of(CallRetried)
    assert (retried.partition, retried.attempt) == (1, 2)
    assert retried.reason == "no reply within 30 s"


@pytest.mark.parametrize("n", [2, FAN_IN + 1])
def test_a_late_reply_is_counted_and_dropped(clock: Clock, n: int) -> None:
    """The first attempt answers once the second is under way, and before it is done."""
    first, second = Held(), Held()

    def react(event: Any) -> None:
        if isinstance(event, CallRetried):
            first.release()
        if isinstance(event, LateReply):
            second.release()

    heard = Heard(react)
    with Timed(clock, {(0, 1): first, (0, 2): second}) as backend:
        shards = shards_of(backend, n, heard, call_timeout=30.0)
        assert shards.reduce(as_set, joined) == list(range(n))
    assert heard.of(LateReply) == [LateReply(partition=0, attempt=1)]
    done = [event.done for event in heard.of(StageProgress)]
    assert done == sorted(set(done))


def test_silence_without_end_is_an_error(clock: Clock) -> None:
    script: Script = {(0, attempt): Held() for attempt in (1, 2, 3)}
    with Timed(clock, script) as backend:
        shards = shards_of(backend, 1, max_attempts=3, call_timeout=10.0)
        with pytest.raises(ClusterTimeout, match="no reply within 10 s"):
            shards.gather(number)
    assert clock.now == 30.0


def test_replies_that_came_while_the_driver_was_busy_are_not_late(clock: Clock) -> None:
    """The consumer of `map` may take its time: the workers had answered long before."""
    heard, gate = Heard(), Gate(1)
    with Timed(clock) as backend:
        found = []
        for index, _ in shards_of(backend, 2, heard, call_timeout=10.0).map(gate):
            found.append(index)
            gate.open.set()
            if len(found) == 1:
                while backend.inner.wait([f.inner for f in backend.in_flight], None)[1]:
                    pass
                clock.now += 60.0
        assert sorted(found) == [0, 1]
        assert len(backend.calls) == 2
    assert not heard.of(CallRetried)
