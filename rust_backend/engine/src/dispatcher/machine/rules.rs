//! One test per rule of the machine.

use super::super::notice::NoticeKind;
use super::super::pool::Pool;
use super::pool::STALL_MS;
use super::simulation::{Fate, LEASE_MS, Template, World};
use super::{GROUP, GROUP_MS};
use crate::model::{ErrorKind, Lease, Outcome};

fn kinds(world: &World) -> Vec<&'static str> {
    world
        .notices
        .iter()
        .map(|notice| notice.kind.name())
        .collect()
}

/// How the settled runs ended, in the order of their claims.
fn fates(world: &World) -> Vec<&Fate> {
    world.fates.values().flatten().collect()
}

fn outcomes(world: &World) -> Vec<(i64, &Outcome)> {
    let settlements = world
        .requests
        .iter()
        .flat_map(|request| &request.settlements);
    settlements
        .map(|settlement| (settlement.lease.token, &settlement.outcome))
        .collect()
}

#[test]
fn upkeep_runs_at_the_start_then_in_every_interval() {
    let mut world = World::new(2);
    let began = world.now;
    world.run_for(3_500);
    let times: Vec<_> = world.maintained.iter().map(|at| at - began).collect();
    assert_eq!(times, [0, 1_000, 2_000, 3_000]);
}

#[test]
fn upkeep_runs_when_a_job_becomes_due_and_a_claim_follows() {
    let mut world = World::new(1);
    world.run_for(100);
    world.next_due_ms = Some(250);
    world.enqueue(1, &Template::default());
    world.run_for(10);
    world.next_due_ms = None;
    let (began, exchanges) = (world.now, world.requests.len());
    world.run_for(300);
    assert_eq!(world.maintained.iter().filter(|at| **at > began).count(), 1);
    assert!(world.requests.len() > exchanges);
}

#[test]
fn an_idle_worker_asks_for_what_its_slots_can_start_and_no_more() {
    let mut world = World::new(3);
    world.enqueue(
        50,
        &Template {
            run_ms: 60_000,
            ..Template::default()
        },
    );
    world.run_for(100);
    assert_eq!(world.delivered, 3);
    assert!(world.requests.iter().all(|request| request.want <= 3));
}

#[test]
fn an_outcome_is_sent_at_once_when_nothing_waits_behind_it() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 40,
            ..Template::default()
        },
    );
    world.run_for(39);
    assert!(outcomes(&world).is_empty());
    world.run_for(1);
    assert_eq!(fates(&world), [&Fate::Settled("success")]);
}

#[test]
fn outcomes_are_grouped_while_work_is_waiting() {
    let mut world = World::new(4);
    world.enqueue(
        20_000,
        &Template {
            run_ms: 1,
            ..Template::default()
        },
    );
    world.run_for(2_000);
    let groups: Vec<_> = world
        .requests
        .iter()
        .map(|request| request.settlements.len())
        .collect();
    let settled: usize = groups.iter().sum();
    let exchanges = groups.iter().filter(|size| **size > 0).count();
    assert!(settled > 7_000, "{settled}");
    // Four slots end four runs in a millisecond; a group waits for two.
    let least = usize::try_from(GROUP_MS).unwrap() * 3;
    assert!(
        settled / exchanges >= least,
        "{settled} in {exchanges} exchanges"
    );
    assert!(settled / exchanges <= GROUP);
}

#[test]
fn fast_work_is_fetched_ahead_and_slow_work_is_not() {
    let mut fast = World::new(4);
    fast.enqueue(
        20_000,
        &Template {
            run_ms: 1,
            ..Template::default()
        },
    );
    fast.run_for(1_000);
    assert!(fast.levels().buffered > 20, "{}", fast.levels().buffered);
    let mut slow = World::new(4);
    slow.enqueue(
        1_000,
        &Template {
            run_ms: 30,
            ..Template::default()
        },
    );
    for _ in 0..1_000 {
        slow.run_for(1);
        assert!(slow.levels().buffered == 0);
    }
}

#[test]
fn jobs_behind_a_long_one_go_back_to_the_store() {
    let mut world = World::new(1);
    world.enqueue(
        500,
        &Template {
            run_ms: 1,
            ..Template::default()
        },
    );
    world.run_for(200);
    let long = Template {
        run_ms: 60_000,
        ..Template::default()
    };
    let template = (world.enqueue(1, &long)[0], long);
    world.ready.pop_back();
    world.ready.push_front(template);
    world.run_for(100 + STALL_MS);
    assert_eq!(world.levels().buffered, 0);
    assert_eq!(world.levels().running, 1);
    assert!(fates(&world).contains(&&Fate::Settled("release")));
    // And they stay there.
    let delivered = world.delivered;
    world.run_for(5_000);
    assert_eq!(world.delivered, delivered);
}

#[test]
fn a_worker_whose_executors_show_no_life_claims_nothing_until_they_do() {
    let mut world = World::new(2);
    world.frozen = true;
    world.enqueue(2, &Template::default());
    world.run_for(STALL_MS + 10);
    assert_eq!((world.levels().buffered, world.ready.len()), (0, 2));
    let delivered = world.delivered;
    world.run_for(5_000);
    assert_eq!(world.delivered, delivered);
    world.frozen = false;
    world.run_for(1_500);
    assert_eq!(
        fates(&world)
            .iter()
            .filter(|fate| ***fate == Fate::Settled("success"))
            .count(),
        2
    );
}

#[test]
fn leases_are_renewed_after_a_third_of_their_time() {
    let mut world = World::new(2);
    world.enqueue(
        2,
        &Template {
            run_ms: 20_000,
            ..Template::default()
        },
    );
    world.run_for(19_000);
    assert!(
        world
            .live
            .values()
            .all(|end| *end - world.now >= LEASE_MS / 2)
    );
    let renewals: usize = world
        .requests
        .iter()
        .map(|request| request.renewals.len())
        .sum();
    assert!((36..=48).contains(&renewals), "{renewals}");
}

#[test]
fn a_start_is_reported_within_a_second() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 20_000,
            ..Template::default()
        },
    );
    world.run_for(2_100);
    let starts: Vec<_> = world
        .requests
        .iter()
        .flat_map(|request| &request.starts)
        .collect();
    assert_eq!(starts.len(), 1);
    assert!(starts[0].ago_ms <= 1_000);
}

#[test]
fn a_timeout_counts_from_the_start_and_the_late_report_is_dropped() {
    let mut world = World::new(2);
    let template = Template {
        run_ms: 1_000,
        timeout_ms: 300,
        ..Template::default()
    };
    world.enqueue(1, &template);
    world.run_for(299);
    assert!(outcomes(&world).is_empty());
    world.run_for(1);
    assert_eq!(fates(&world), [&Fate::Settled("retry")]);
    let settlement = &world
        .requests
        .iter()
        .find(|sent| !sent.settlements.is_empty())
        .unwrap();
    assert_eq!(settlement.settlements[0].started_ago_ms, Some(300));
    let notice = world.notices.last().unwrap();
    assert_eq!((notice.kind, notice.slot), (NoticeKind::Timeout, Some(0)));
    world.run_for(1_000);
    assert_eq!(kinds(&world), ["timeout", "stale"]);
    assert_eq!(outcomes(&world).len(), 1);
}

#[test]
fn a_run_that_ends_just_in_time_is_not_abandoned() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 300,
            timeout_ms: 300,
            ..Template::default()
        },
    );
    world.run_for(1_000);
    assert_eq!(fates(&world), [&Fate::Settled("success")]);
    assert!(world.notices.is_empty());
}

#[test]
fn failures_are_retried_while_attempts_are_left() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            fails: true,
            ..Template::default()
        },
    );
    world.run_for(50);
    let sent = outcomes(&world);
    let Outcome::Retry { delay_ms, .. } = sent[0].1 else {
        panic!("{sent:?}")
    };
    assert!((1_000..=1_500).contains(delay_ms), "{delay_ms}");
}

#[test]
fn a_crash_runs_again_at_once_since_the_store_counts_crashes_apart() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            crashes: true,
            max_retries: 0,
            ..Template::default()
        },
    );
    world.run_for(50);
    let sent = outcomes(&world);
    let Outcome::Retry { kind, delay_ms, .. } = sent[0].1 else {
        panic!("{sent:?}")
    };
    assert_eq!((*kind, *delay_ms), (ErrorKind::Crash, 0));
}

#[test]
fn a_cancelled_job_does_not_start_and_a_running_one_is_asked_to_stop() {
    let mut world = World::new(1);
    world.enqueue(
        200,
        &Template {
            run_ms: 1,
            ..Template::default()
        },
    );
    world.run_for(50);
    world.frozen = true;
    let id = world.enqueue(1, &Template::default())[0];
    let template = world.ready.pop_back().unwrap();
    world.ready.push_front(template);
    world.run_for(60);
    world.cancel.push(id);
    world.handle(super::Event::Changed);
    world.run_for(100);
    let unstarted = world
        .fates
        .iter()
        .find(|((job, _), _)| *job == id)
        .unwrap()
        .1;
    assert_eq!(unstarted, &[Fate::Settled("cancelled")]);

    let mut world = World::new(1);
    let id = world.enqueue(
        1,
        &Template {
            run_ms: 1_000,
            ..Template::default()
        },
    )[0];
    world.run_for(10);
    world.cancel.push(id);
    world.handle(super::Event::Changed);
    world.run_for(100);
    let lease = Lease { id, token: 1 };
    assert!(
        world
            .machine
            .leases
            .get(lease)
            .unwrap()
            .run
            .cancel_requested()
    );
}

#[test]
fn a_job_that_expired_in_the_buffer_is_cancelled_instead_of_run() {
    let mut world = World::new(1);
    world.frozen = true;
    world.enqueue(
        1,
        &Template {
            expires_in_ms: Some(20),
            ..Template::default()
        },
    );
    world.run_for(30);
    world.frozen = false;
    world.run_for(30);
    let sent = outcomes(&world);
    let Outcome::Cancelled { reason } = sent[0].1 else {
        panic!("{sent:?}")
    };
    assert_eq!(reason, "expired");
}

#[test]
fn unstarted_jobs_of_a_paused_queue_are_given_back() {
    let mut world = World::new(2);
    world.frozen = true;
    let paused = Template {
        queue: "paused",
        ..Template::default()
    };
    world.enqueue(1, &paused);
    world.enqueue(1, &Template::default());
    world.run_for(5);
    world.paused.push("paused".to_owned());
    world.handle(super::Event::Changed);
    world.run_for(60);
    assert_eq!(fates(&world), [&Fate::Settled("release")]);
    assert_eq!(world.levels().buffered, 1);
}

#[test]
fn a_lost_lease_is_told_and_its_report_refused() {
    let mut world = World::new(1);
    let id = world.enqueue(
        1,
        &Template {
            run_ms: 5_000,
            ..Template::default()
        },
    )[0];
    world.run_for(10);
    world.steal(Lease { id, token: 1 });
    world.run_for(2_000);
    assert_eq!(kinds(&world), ["lost"]);
    assert_eq!(world.notices[0].slot, Some(0));
    world.run_for(4_000);
    assert_eq!(kinds(&world), ["lost", "stale"]);
    assert!(outcomes(&world).is_empty());
}

#[test]
fn a_refused_settlement_is_told() {
    let mut world = World::new(1);
    let id = world.enqueue(
        1,
        &Template {
            run_ms: 100,
            ..Template::default()
        },
    )[0];
    world.run_for(10);
    world.steal(Lease { id, token: 1 });
    world.run_for(200);
    assert_eq!(kinds(&world), ["stale"]);
    assert_eq!(world.notices[0].job_id, Some(id));
    assert_eq!(world.machine.counters().stale, 1);
}

#[test]
fn an_unknown_task_is_told_once() {
    let mut world = World::new(1);
    world.unknown_tasks = vec!["a.b".to_owned()];
    world.run_for(5_000);
    assert_eq!(kinds(&world), ["unknown_task"]);
    assert_eq!(world.notices[0].task.as_deref(), Some("a.b"));
}

#[test]
fn the_store_is_told_how_many_executors_wait() {
    let mut world = World::new(3);
    let long = Template {
        run_ms: 1_000,
        ..Template::default()
    };
    world.enqueue(2, &long);
    world.run_for(5);
    let first = world.requests.iter().find(|request| request.want > 0);
    assert_eq!(first.unwrap().idle, Some(3));
    world.enqueue(1, &long);
    let last = world.requests.len();
    world.run_for(5);
    assert_eq!(world.requests[last].idle, Some(1), "two of three are busy");
}

#[test]
fn jobs_in_the_buffer_come_before_what_is_claimed_next() {
    let mut world = World::new(2);
    world.enqueue(400, &Template::default());
    world.run_for(60);
    for request in &world.requests {
        assert!(request.idle <= Some(2), "{request:?}");
    }
    // While the buffer is not empty, whoever becomes free takes from there.
    assert!(
        world
            .requests
            .iter()
            .any(|request| request.want > 0 && request.idle == Some(0))
    );
}

#[test]
fn starts_are_reported_soon_while_somebody_may_wait_for_a_pause() {
    let mut world = World::new(2);
    let long = Template {
        run_ms: 10_000,
        ..Template::default()
    };
    world.paused.push("other".to_owned());
    world.handle(super::Event::Changed);
    world.run_for(60);
    world.enqueue(1, &long);
    world.run_for(super::CONTROL_MS + 5);
    assert!(
        world
            .requests
            .iter()
            .any(|request| !request.starts.is_empty())
    );
}

#[test]
fn a_full_event_loop_keeps_no_thread_from_its_work_and_the_other_way_round() {
    for full in [true, false] {
        let mut world = World::with_loop(2, 3);
        let slow = Template {
            run_ms: 60_000,
            coroutine: full,
            ..Template::default()
        };
        world.enqueue(50, &slow);
        world.run_for(100);
        let free = Template {
            coroutine: !full,
            ..Template::default()
        };
        world.enqueue(20, &free);
        world.run_for(200);
        let ended = fates(&world)
            .iter()
            .filter(|fate| ***fate == Fate::Settled("success"))
            .count();
        assert_eq!(ended, 20, "coroutines are the slow ones: {full}");
        let pool = if full {
            Pool::Coroutines
        } else {
            Pool::Functions
        };
        let levels = world.levels_of(pool);
        assert_eq!((levels.running, levels.buffered), (levels.present, 0));
    }
}

#[test]
fn a_worker_without_coroutines_names_no_tasks() {
    let mut world = World::new(2);
    world.enqueue(10, &Template::default());
    world.run_for(100);
    assert!(world.requests.iter().all(|request| request.tasks.is_none()));
}

#[test]
fn stuck_threads_and_stuck_coroutines_are_counted_apart() {
    let mut world = World::with_loop(2, 2);
    for coroutine in [true, false] {
        let stuck = Template {
            run_ms: 60_000,
            timeout_ms: 100,
            coroutine,
            ..Template::default()
        };
        world.enqueue(1, &stuck);
    }
    world.run_for(5_000);
    assert_eq!(kinds(&world), ["timeout", "timeout"]);
}
