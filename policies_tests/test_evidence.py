"""What the test processes tried adds up in the one that reports."""

from __future__ import annotations

from execnet.gateway_base import dumps, loads

from .evidence import Evidence, handed_over, rate_of_cells


def test_what_is_handed_over_adds_up() -> None:
    one = Evidence(cells=3, seconds=0.5, processes=1, survivors=["a fault"], postgres="18.1")
    one.mutants["matrix"] += 2
    one.by_cell["public.customers\towner"] += 3
    one.by_kind["policy dropped\tmatrix"] += 2
    one.gates["tables have row security"] += 0
    one.note_race("one token", invariant="one membership", trials=4)
    total = Evidence()
    for _ in range(2):
        total.add(loads(dumps(handed_over(one))))  # the way of xdist
    assert (total.cells, total.seconds, total.postgres) == (6, 1.0, "18.1")
    rate = rate_of_cells(total.cells, total.seconds, total.processes)
    assert rate == "12 cells per second, 6 in each of 2 processes"
    assert total.mutants == {"matrix": 4}
    assert total.by_cell == {"public.customers\towner": 6}
    assert total.by_kind == {"policy dropped\tmatrix": 4}
    assert set(total.gates) == {"tables have row security"}
    assert total.survivors == ["a fault", "a fault"]
    assert total.races == {"one token": {"invariant": "one membership", "trials": 4}}
