"""Results that stay on the workers, and partitions made of pieces of others."""

from __future__ import annotations

from typing import Any

import pytest

from distclust.backends.local import LocalBackend
from distclust.engine.shards import Each, Session, Shards
from distclust.errors import TaskFailed
from tests.engine.helpers import Numbers
from tests.faults.scripted import Fault, ScriptedBackend


def tens(resident: int, factor: int) -> int:
    return 10 * resident * factor


def plus(resident: int, *others: int) -> tuple[int, ...]:
    return (resident, *others)


def share(resident: int, target: int, offset: int) -> int:
    return 100 * resident + target + offset


def bundle(index: int, *pieces: int) -> dict[str, Any]:
    return {"index": index, "pieces": pieces}


def content(resident: Any) -> Any:
    return resident


def fail(resident: int) -> None:
    raise ValueError(f"no {resident}")


def shards(script: Any = None) -> Shards:
    """Partitions 0, 1 and 2."""
    backend = ScriptedBackend(LocalBackend(workers=2), script)
    return Session(backend).shard(Numbers(), 3)


def test_each_partition_sees_the_results_of_all() -> None:
    on = shards()
    everything = on.remote(tens, 2)
    assert on.gather(plus, *everything) == [(i, 0, 20, 40) for i in range(3)]


def test_each_partition_sees_its_own_result() -> None:
    on = shards()
    own = on.remote(tens, on.session.broadcast(3))
    assert on.gather(plus, Each(own)) == [(i, 30 * i) for i in range(3)]
    again = on.remote(plus, Each(own))
    assert on.gather(plus, Each(again)) == [(i, (i, 30 * i)) for i in range(3)]


def test_a_result_is_computed_once_and_again_only_if_it_was_let_go() -> None:
    on = shards()
    own = on.remote(tens, 1)
    backend: Any = on.session.backend
    for _ in range(2):
        on.gather(plus, Each(own))
    assert len(backend.calls) == 3 + 6
    own[1].forget()
    assert on.gather(plus, Each(own)) == [(i, 10 * i) for i in range(3)]
    assert len(backend.calls) == 3 + 6 + 3 + 1


def test_an_error_surfaces_from_the_call_that_needed_the_result() -> None:
    on = shards()
    with pytest.raises(TaskFailed, match="ValueError: no "):
        on.gather(plus, *on.remote(fail))


def test_partitions_made_of_pieces() -> None:
    regrouped = shards().regroup(2, share, bundle, 5)
    assert regrouped.gather(content) == [
        {"index": j, "pieces": (5 + j, 105 + j, 205 + j)} for j in range(2)
    ]


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("attempt", range(1, 7))
@pytest.mark.parametrize("partition", range(5))
def test_whatever_is_lost_is_made_again(partition: int, attempt: int, fault: Fault) -> None:
    """Partitions 0 to 2 are given, 3 and 4 are made of their pieces."""
    on = shards({(partition, attempt): fault})
    regrouped = on.regroup(2, share, bundle, 5)
    remote = regrouped.remote(content)
    again = regrouped.remote(plus, *remote)
    expected = [{"index": j, "pieces": (5 + j, 105 + j, 205 + j)} for j in range(2)]
    assert regrouped.gather(plus, Each(again)) == [(e, (e, *expected)) for e in expected]
    assert regrouped.gather(plus, *remote) == [(e, *expected) for e in expected]
