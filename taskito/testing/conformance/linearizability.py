"""Was this history of claims and settlements possible one at a time?

A store that is used from many threads and processes is right if there is an order of all calls,
each at one instant between its start and its return, in which every answer is the right one
(linearizability: Herlihy and Wing, "Linearizability: a correctness condition for concurrent
objects", 1990). To search for such an order is exponential in general. For a queue whose values
are all different it is not: a history is wrong exactly if it has one of a few *patterns*, which
can be looked for directly (Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability
proofs", CONCUR 2013; Bouajjani, Emmi, Enea and Hamza, "On reducing linearizability to state
reachability", ICALP 2015). Job ids and lease tokens are never reused, so histories of a job store
are of that kind.

The patterns, for jobs that are due at once and leases that do not end by time:

1. *Out of thin air*: a claim of a job that nobody enqueued, or that ended before the enqueue began.
2. *Twice*: one token in two claims; two accepted settlements under one token.
3. *Life*: what happens to one job has only one order, since tokens grow: enqueue, claim,
   settlement, claim, settlement. That order is possible exactly if no call of it returned before
   an earlier one in it had begun. A claim behind a settlement that ended the job, or before the
   lease under the smaller token was settled, is the same pattern.
4. *Refused*: a settlement was refused although nobody else had begun to settle this lease before
   it returned.
5. *Order*: a job was claimed while another one, which comes first by priority or was enqueued
   before it, waited during the whole call.
6. *Empty*: a claim got less than it wanted although at every instant of the call some job was
   waiting.

Patterns 1 to 4 decide about each job exactly; 5 and 6 say that a claim sees all waiting jobs. A job
is taken to wait from the *return* of the call that made it ready to the *start* of the call that
took it, so no right history is ever refused.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Claimed", "Enqueue", "Exchange", "Settled", "violations"]


@dataclass(frozen=True, slots=True)
class Enqueue:
    """One accepted batch: the ids of its jobs in order, all of one priority."""

    begin: int
    end: int
    ids: tuple[str, ...]
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """One settlement in an exchange: whether it was accepted, and whether it ends the job.

    Otherwise the job is given back and ready again.
    """

    id: str
    token: int
    accepted: bool
    final: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """One claim in an exchange."""

    id: str
    token: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: first its settlements, then its claims of up to ``want`` jobs."""

    begin: int
    end: int
    settled: tuple[Settled, ...] = ()
    claimed: tuple[Claimed, ...] = ()
    want: int = 0


@dataclass(frozen=True, slots=True)
class _Wait:
    """A time during which a job certainly waited; ``end`` is None if nobody took it."""

    id: str
    begin: int
    end: int | None

    def covers(self, begin: int, end: int) -> bool:
        return self.begin < begin and (self.end is None or end < self.end)


def violations(enqueues: Sequence[Enqueue], exchanges: Sequence[Exchange]) -> list[str]:
    """Return a sentence for every pattern that shows the history to be impossible; [] if it is not.

    Args:
        enqueues: All batches that were accepted.
        exchanges: All exchanges of all workers. Calls without an answer must not have happened.

    Example:
        >>> made = [Enqueue(0, 1, ("a",))]
        >>> one = Exchange(2, 3, claimed=(Claimed("a", 1),), want=1)
        >>> violations(made, [one])
        []
        >>> violations(made, [one, Exchange(4, 5, claimed=(Claimed("a", 2),), want=1)])
        ['job a was claimed with token 2 while the lease 1 was not settled']
    """
    history = _History(enqueues, exchanges)
    return [
        *history.thin_air(),
        *history.twice(),
        *history.lives(),
        *history.refusals(),
        *history.order(),
        *history.empties(),
    ]


class _History:
    def __init__(self, enqueues: Sequence[Enqueue], exchanges: Sequence[Exchange]) -> None:
        self.exchanges = exchanges
        self.made = {job_id: call for call in enqueues for job_id in call.ids}
        self.place = {job_id: index for call in enqueues for index, job_id in enumerate(call.ids)}
        self.claims: dict[str, list[tuple[int, Exchange]]] = defaultdict(list)
        self.settled: dict[tuple[str, int], list[tuple[Settled, Exchange]]] = defaultdict(list)
        for call in exchanges:
            for claimed in call.claimed:
                self.claims[claimed.id].append((claimed.token, call))
            for report in call.settled:
                self.settled[report.id, report.token].append((report, call))
        for claims in self.claims.values():
            claims.sort(key=lambda claim: claim[0])

    def thin_air(self) -> Iterable[str]:
        for job_id, claims in self.claims.items():
            if job_id not in self.made:
                yield f"job {job_id} was claimed and never enqueued"
            elif min(call.end for _, call in claims) < self.made[job_id].begin:
                yield f"job {job_id} was claimed before it was enqueued"

    def twice(self) -> Iterable[str]:
        for job_id, claims in self.claims.items():
            tokens = [token for token, _ in claims]
            for token in sorted({token for token in tokens if tokens.count(token) > 1}):
                yield f"job {job_id} was claimed twice with token {token}"
        for (job_id, token), reports in self.settled.items():
            if sum(report.accepted for report, _ in reports) > 1:
                yield f"two settlements of job {job_id} under token {token} were accepted"

    def lives(self) -> Iterable[str]:
        for job_id, claims in self.claims.items():
            if job_id in self.made:
                yield from self._life(job_id, claims)

    def _life(self, job_id: str, claims: list[tuple[int, Exchange]]) -> Iterable[str]:
        latest = self.made[job_id].begin
        open_lease: int | None = None
        over = False
        for token, call in claims:
            if over:
                yield f"job {job_id} was claimed with token {token} after its end"
            if open_lease is not None:
                yield (
                    f"job {job_id} was claimed with token {token} while the lease {open_lease} "
                    "was not settled"
                )
            if call.end < latest:
                yield f"the claim of job {job_id} with token {token} came too early"
            latest = max(latest, call.begin)
            open_lease = token
            for report, settling in self.settled.get((job_id, token), ()):
                if not report.accepted:
                    continue
                if settling.end < latest:
                    yield f"job {job_id} was settled under token {token} before its claim"
                latest = max(latest, settling.begin)
                open_lease, over = None, report.final

    def refusals(self) -> Iterable[str]:
        for (job_id, token), reports in self.settled.items():
            accepted = [call for report, call in reports if report.accepted]
            for report, call in reports:
                if not report.accepted and not any(other.begin <= call.end for other in accepted):
                    yield (
                        f"the settlement of job {job_id} under token {token} was refused although "
                        "nobody else had settled it"
                    )

    def order(self) -> Iterable[str]:
        waits = self._waits()
        for call in self.exchanges:
            if not call.claimed:
                continue
            own = {claimed.id for claimed in call.claimed}
            waiting = [wait.id for wait in waits if wait.covers(call.begin, call.end)]
            for claimed in call.claimed:
                for job_id in waiting:
                    if job_id not in own and self._comes_first(job_id, claimed.id):
                        yield f"job {claimed.id} was claimed although job {job_id} was waiting"
            ids = [claimed.id for claimed in call.claimed]
            for first, second in itertools.pairwise(ids):
                if self._comes_first(second, first):
                    yield f"job {second} was claimed together with {first}, but behind it"

    def empties(self) -> Iterable[str]:
        waits = sorted(self._waits(), key=lambda wait: wait.begin)
        for call in self.exchanges:
            if len(call.claimed) < call.want and self._always_waiting(call, waits):
                yield (
                    f"a claim got {len(call.claimed)} of {call.want} jobs, although some job was "
                    "waiting at every instant"
                )

    def _always_waiting(self, call: Exchange, waits: list[_Wait]) -> bool:
        """Return whether the waits of jobs that it did not claim cover the whole call."""
        own = {claimed.id for claimed in call.claimed}
        reached: float = call.begin
        for wait in waits:
            if wait.id in own:
                continue
            if wait.begin >= reached and wait.begin >= call.begin:
                break
            reached = max(reached, float("inf") if wait.end is None else wait.end)
            if reached > call.end:
                return True
        return False

    def _waits(self) -> list[_Wait]:
        """Return when each job certainly waited."""
        found: list[_Wait] = []
        for job_id, made in self.made.items():
            since: int | None = made.end
            for token, call in self.claims.get(job_id, ()):
                if since is not None:
                    found.append(_Wait(job_id, since, call.begin))
                since = None
                for report, settling in self.settled.get((job_id, token), ()):
                    if report.accepted and not report.final:
                        since = settling.end
            if since is not None:
                found.append(_Wait(job_id, since, None))
        return found

    def _comes_first(self, left: str, right: str) -> bool:
        if left not in self.made or right not in self.made:
            return False
        one, other = self.made[left], self.made[right]
        if one.priority != other.priority:
            return one.priority > other.priority
        if one is other:
            return self.place[left] < self.place[right]
        return one.end < other.begin
