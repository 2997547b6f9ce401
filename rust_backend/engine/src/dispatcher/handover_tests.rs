//! The meeting place, without any thread.

use super::super::parker::Bell;
use super::*;
use crate::clock::VirtualClock;
use crate::id::JobId;
use crate::model::ClaimedJob;

const LEASE_MS: i64 = 10_000;

struct Setup {
    handover: Handover,
    clock: VirtualClock,
}

impl Setup {
    fn new() -> Self {
        let clock = VirtualClock::new(0);
        Self {
            handover: Handover::new(Arc::new(clock.clone())),
            clock,
        }
    }

    fn slot(&self) -> usize {
        self.handover.add_slot(Pool::Functions, Arc::default())
    }

    fn job(token: i64) -> ClaimedJob {
        ClaimedJob {
            lease: Lease {
                id: JobId::new(0, token, 0),
                token,
            },
            task: "task".to_owned(),
            queue: if token % 2 == 0 { "even" } else { "odd" }.to_owned(),
            payload: Arc::from(&b""[..]),
            serializer: "msgpack".to_owned(),
            metadata: None,
            priority: 0,
            attempt: 0,
            max_retries: 0,
            timeout_ms: 0,
            expires_in_ms: None,
            fire: None,
            suspect: false,
            inputs: Vec::new(),
        }
    }

    fn run(&self, job: ClaimedJob) -> Arc<RunHandle> {
        Arc::new(RunHandle::new(
            job,
            Pool::Functions,
            self.handover.now(),
            LEASE_MS,
        ))
    }

    fn deliver(&self, tokens: impl IntoIterator<Item = i64>) {
        self.handover
            .deliver(tokens.into_iter().map(|token| self.run(Self::job(token))));
    }

    /// The token that the slot gets, if it gets a run.
    fn next(&self, slot: usize) -> Option<i64> {
        let report = Some(Report::Snoozed { delay_ms: 0 });
        match self.handover.next(slot, report) {
            Taken::Run(run) => Some(run.lease().token),
            Taken::Empty | Taken::Stopped => None,
        }
    }

    fn stopped(&self, slot: usize) -> bool {
        matches!(self.handover.next(slot, None), Taken::Stopped)
    }
}

fn hints() -> SleepHints {
    SleepHints {
        wake_at: i64::MAX,
        group: 64,
        first: false,
        quiet: false,
        pools: of_threads(None, None),
    }
}

/// One thread in service.
fn of_threads(low_water: Option<usize>, calls: Option<u64>) -> PerPool<PoolHints> {
    let mut pools = PerPool::<PoolHints>::default();
    pools[Pool::Functions] = PoolHints {
        low_water,
        calls,
        present: 1,
    };
    pools
}

#[test]
fn jobs_start_in_order_and_reports_come_back() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1, 2]);
    assert_eq!(
        [setup.next(slot), setup.next(slot), setup.next(slot)],
        [Some(1), Some(2), None]
    );
    let collected = setup.handover.collect();
    assert_eq!(collected.finished.len(), 2);
    assert!(
        collected.started.is_empty(),
        "both starts are told by their reports"
    );
    assert!(setup.handover.collect().finished.is_empty());
}

#[test]
fn a_start_is_collected_once() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1]);
    setup.clock.advance(7);
    setup.next(slot);
    let started = setup.handover.collect().started;
    assert_eq!(
        started,
        [Started {
            lease: Setup::job(1).lease,
            slot,
            at: setup.handover.now()
        }]
    );
    assert!(setup.handover.collect().started.is_empty());
}

#[test]
fn expired_and_lapsed_jobs_do_not_start() {
    let setup = Setup::new();
    let slot = setup.slot();
    let expiring = ClaimedJob {
        expires_in_ms: Some(50),
        ..Setup::job(1)
    };
    setup
        .handover
        .deliver([setup.run(expiring), setup.run(Setup::job(2))]);
    setup.clock.advance(50);
    assert_eq!(setup.next(slot), Some(2));
    setup.deliver([3]);
    setup.clock.advance(LEASE_MS);
    assert_eq!(setup.next(slot), None);
    let refused: Vec<_> = setup
        .handover
        .collect()
        .refused
        .iter()
        .map(|(_, why)| *why)
        .collect();
    assert_eq!(refused, [Refusal::Expired, Refusal::Lapsed]);
}

#[test]
fn the_slot_that_went_idle_last_is_woken_first() {
    let setup = Setup::new();
    let slots: Vec<_> = (0..3).map(|_| setup.slot()).collect();
    for slot in &slots {
        assert_eq!(setup.next(*slot), None);
    }
    let idle = || setup.handover.lock().pools[Pool::Functions].idle.clone();
    assert_eq!(idle(), slots);
    setup.deliver([1]);
    assert_eq!(idle(), slots[..2]);
    // One that wakes by itself keeps its place.
    assert_eq!(setup.next(slots[0]), Some(1));
    assert_eq!(idle(), slots[1..2]);
}

#[test]
fn a_recall_takes_back_what_has_not_started_and_marks_the_rest() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver(1..=6);
    setup.next(slot);
    let tokens =
        |runs: &[Arc<RunHandle>]| -> Vec<_> { runs.iter().map(|run| run.lease().token).collect() };
    let even = setup
        .handover
        .recall(&Recall::Queues(vec!["even".to_owned()]));
    assert_eq!(tokens(&even.unstarted), [2, 4, 6]);
    let both = Recall::Cancelled(vec![Setup::job(1).lease, Setup::job(3).lease]);
    let recalled = setup.handover.recall(&both);
    assert_eq!(tokens(&recalled.unstarted), [3]);
    assert!(recalled.running[0].1.cancel_requested() && !recalled.running[0].1.abandoned());
    let lost = setup
        .handover
        .recall(&Recall::Lost(vec![Setup::job(1).lease]));
    assert!(lost.running[0].1.abandoned());
    assert!(
        setup
            .handover
            .recall(&Recall::Interrupted)
            .running
            .is_empty()
    );
    assert_eq!(
        tokens(&setup.handover.recall(&Recall::Unstarted).unstarted),
        [5]
    );
}

#[test]
fn a_slot_whose_run_timed_out_is_retired_until_it_comes_back() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1, 2]);
    setup.next(slot);
    let late = Recall::TimedOut(vec![(slot, Setup::job(9).lease)]);
    assert!(
        setup.handover.recall(&late).running.is_empty(),
        "another run is in the slot"
    );
    let timeout = Recall::TimedOut(vec![(slot, Setup::job(1).lease)]);
    assert_eq!(setup.handover.recall(&timeout).running.len(), 1);
    let levels = setup.handover.levels()[Pool::Functions];
    assert_eq!((levels.present, levels.running), (0, 0));
    assert!(setup.stopped(slot));
    let collected = setup.handover.collect();
    assert_eq!(
        (collected.finished.len(), collected.returned),
        (1, vec![slot])
    );
    setup.handover.drop_slot(slot);
    assert!(setup.handover.collect().returned.is_empty());
    assert_eq!(setup.slot(), slot, "the index is used again");
}

#[test]
fn a_dropped_slot_reports_its_run_as_unreported() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1]);
    setup.next(slot);
    setup.handover.drop_slot(slot);
    let collected = setup.handover.collect();
    assert!(collected.finished[0].report.is_none());
    let levels = collected.levels[Pool::Functions];
    assert_eq!((levels.present, levels.running), (0, 0));
}

#[test]
fn a_slot_that_reports_without_taking_is_out_of_service_until_it_asks() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1, 2]);
    setup.next(slot);
    assert!(setup.handover.pause(slot, None));
    let collected = setup.handover.collect();
    assert_eq!(collected.finished.len(), 1);
    let levels = collected.levels[Pool::Functions];
    assert_eq!((levels.present, levels.running), (0, 0));
    assert_eq!(setup.next(slot), Some(2));
    assert_eq!(setup.handover.levels()[Pool::Functions].present, 1);
}

#[test]
fn a_retired_slot_that_reports_without_taking_comes_back_when_it_asks() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1]);
    setup.next(slot);
    let timeout = Recall::TimedOut(vec![(slot, Setup::job(1).lease)]);
    setup.handover.recall(&timeout);
    assert!(!setup.handover.pause(slot, None), "it would get nothing");
    assert!(setup.handover.collect().returned.is_empty());
    assert!(setup.stopped(slot));
    assert_eq!(setup.handover.collect().returned, [slot]);
}

#[test]
fn nothing_starts_after_the_close() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.deliver([1]);
    setup.handover.close();
    assert!(setup.stopped(slot));
}

#[test]
fn the_dispatcher_sleeps_through_a_backlog() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.next(slot);
    setup.deliver(1..=100);
    assert!(setup.handover.fall_asleep(hints()));
    let asleep = || setup.handover.lock().asleep.is_some();
    for _ in 0..64 {
        setup.next(slot);
        assert!(asleep());
    }
    setup.next(slot);
    assert!(!asleep(), "64 reports wait");
}

#[test]
fn what_wakes_the_dispatcher_keeps_it_awake() {
    let setup = Setup::new();
    let slot = setup.slot();
    assert!(setup.handover.fall_asleep(SleepHints {
        pools: PerPool::default(),
        ..hints()
    }));
    setup.next(slot);
    assert!(
        setup.handover.lock().asleep.is_none(),
        "a slot has come into service"
    );
    setup.deliver(1..=10);
    setup.next(slot);
    assert!(setup.handover.fall_asleep(SleepHints {
        pools: of_threads(Some(8), None),
        ..hints()
    }));
    assert!(!setup.handover.fall_asleep(SleepHints {
        pools: of_threads(Some(9), None),
        ..hints()
    }));
    let calls = Some(setup.handover.levels()[Pool::Functions].calls);
    let pools = of_threads(None, calls);
    assert!(setup.handover.fall_asleep(SleepHints { pools, ..hints() }));
    setup.next(slot);
    assert!(setup.handover.lock().asleep.is_none(), "an executor lives");
    assert!(!setup.handover.fall_asleep(SleepHints {
        first: true,
        ..hints()
    }));
    assert!(setup.handover.fall_asleep(SleepHints {
        first: true,
        quiet: true,
        ..hints()
    }));
}

#[test]
fn a_timeout_before_the_end_of_the_sleep_wakes_the_dispatcher() {
    let setup = Setup::new();
    let slot = setup.slot();
    setup.next(slot);
    let limited = |token| ClaimedJob {
        timeout_ms: 100,
        ..Setup::job(token)
    };
    setup.handover.deliver([
        setup.run(limited(1)),
        setup.run(limited(2)),
        setup.run(limited(3)),
    ]);
    let until = |left| SleepHints {
        wake_at: setup.handover.now() + left,
        ..hints()
    };
    assert!(setup.handover.fall_asleep(until(100)));
    setup.next(slot);
    assert!(setup.handover.lock().asleep.is_some());
    assert!(
        !setup.handover.fall_asleep(until(101)),
        "it started before the sleep began"
    );
    setup.handover.collect();
    assert!(setup.handover.fall_asleep(until(101)));
    setup.next(slot);
    assert!(
        setup.handover.lock().asleep.is_none(),
        "it starts during the sleep"
    );
}

#[test]
fn each_pool_gets_its_own_jobs_and_its_own_bell() {
    let setup = Setup::new();
    let thread = setup.slot();
    let bell = Arc::new(Bell::new().unwrap());
    let parker = || Arc::new(Parker::Loop(Arc::clone(&bell)));
    let places: Vec<_> = (0..2)
        .map(|_| setup.handover.add_slot(Pool::Coroutines, parker()))
        .collect();
    assert!(places.iter().all(|place| setup.next(*place).is_none()));
    assert_eq!(setup.next(thread), None);
    let run = |token, pool| Arc::new(RunHandle::new(Setup::job(token), pool, 0, LEASE_MS));
    setup.handover.deliver([
        run(1, Pool::Coroutines),
        run(2, Pool::Functions),
        run(3, Pool::Coroutines),
    ]);
    assert!(bell.is_rung());
    bell.clear();
    assert_eq!(setup.next(thread), Some(2));
    assert_eq!(setup.next(thread), None);
    assert_eq!(
        [setup.next(places[0]), setup.next(places[1])],
        [Some(1), Some(3)]
    );
    // The loop asks until it gets nothing: then one place at least waits for the bell.
    assert_eq!(setup.next(places[0]), None);
    setup.handover.deliver([run(4, Pool::Coroutines)]);
    assert!(bell.is_rung());
    let withdrawn = setup.handover.recall(&Recall::Pool(Pool::Coroutines));
    assert_eq!(withdrawn.unstarted.len(), 1);
}
