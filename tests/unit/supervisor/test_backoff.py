from __future__ import annotations

from taskito.supervisor.backoff import Backoff


def test_each_death_in_a_row_doubles_the_wait_up_to_the_ceiling() -> None:
    backoff = Backoff(first=1, ceiling=10, healthy=60)
    assert [backoff.next_wait(0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_a_healthy_while_makes_the_next_wait_the_first_one() -> None:
    backoff = Backoff(first=1, ceiling=10, healthy=60)
    for _ in range(3):
        backoff.next_wait(59)
    assert [backoff.next_wait(60), backoff.next_wait(0)] == [1, 2]


def test_no_number_of_deaths_is_too_large() -> None:
    backoff = Backoff()
    assert {backoff.next_wait(0) for _ in range(5_000)} >= {0.1, 30.0}
