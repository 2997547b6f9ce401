//! One test per rule about failures and the end of a worker.

use super::simulation::{Fate, Template, World, busy};
use crate::error::EngineError;

fn moved() -> EngineError {
    EngineError::Moved {
        path: "q.db".into(),
    }
}

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

#[test]
fn a_worker_with_as_many_stuck_threads_as_slots_drains_and_names_them() {
    let mut world = World::new(2);
    world.enqueue(
        2,
        &Template {
            run_ms: 60_000,
            timeout_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(2_000);
    assert_eq!(kinds(&world), ["timeout", "timeout", "draining", "stopped"]);
    let fatal = world.notices[3].fatal.as_ref().unwrap().to_string();
    assert!(
        fatal.contains("2 attempts ran past their timeout") && fatal.contains("task (job"),
        "{fatal}"
    );
    assert!(world.unregistered);
}

#[test]
fn a_run_that_ends_soon_after_its_timeout_is_not_stuck() {
    let mut world = World::with_loop(1, 1);
    for coroutine in [false, true] {
        let late = Template {
            run_ms: 900,
            timeout_ms: 100,
            coroutine,
            ..Template::default()
        };
        world.enqueue(1, &late);
    }
    world.run_for(10_000);
    // The thread says at last what became of the run; the coroutine was cancelled, as it had to be.
    assert_eq!(kinds(&world), ["timeout", "timeout", "stale"]);
}

#[test]
fn where_overdue_runs_are_killed_no_thread_is_stuck_and_their_end_is_no_news() {
    let mut world = World::killing(3);
    world.enqueue(
        3,
        &Template {
            run_ms: 120,
            timeout_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(2_000);
    assert_eq!(kinds(&world), ["timeout"; 3]);
    assert!(!world.notices[0].message.contains("stuck"));
    assert!(!world.unregistered);
}

#[test]
fn a_stuck_thread_that_comes_back_does_not_count_any_more() {
    let mut world = World::new(2);
    world.enqueue(
        1,
        &Template {
            run_ms: 500,
            timeout_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(1_000);
    world.enqueue(
        1,
        &Template {
            run_ms: 500,
            timeout_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(1_000);
    assert_eq!(kinds(&world), ["timeout", "stale", "timeout", "stale"]);
}

#[test]
fn an_outcome_outlives_any_number_of_passing_failures() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(50);
    world.error = Some(busy());
    world.run_for(2_000);
    let tries = world
        .requests
        .iter()
        .filter(|sent| !sent.settlements.is_empty())
        .count();
    assert!((5..20).contains(&tries), "{tries}");
    assert_eq!(kinds(&world), ["storage"]);
    world.error = None;
    world.run_for(1_000);
    assert_eq!(fates(&world), [&Fate::Settled("success")]);
    assert_eq!(kinds(&world), ["storage", "storage_recovered"]);
    let last = world
        .requests
        .iter()
        .rfind(|sent| !sent.settlements.is_empty())
        .unwrap();
    assert!(last.settlements[0].started_ago_ms.unwrap() > 1_000);
}

#[test]
fn a_failure_that_cannot_pass_stops_the_worker_with_its_reason() {
    let mut world = World::new(1);
    world.run_for(100);
    let began = world.now;
    world.error = Some(moved());
    world.run_for(5_000);
    assert_eq!(kinds(&world), ["stopped"]);
    assert!(matches!(
        world.notices[0].fatal,
        Some(EngineError::Moved { .. })
    ));
    assert!(world.closed && world.maintained.last().unwrap() - began <= 1_000);
}

#[test]
fn a_worker_that_the_store_forgot_registers_again_once() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 100,
            ..Template::default()
        },
    );
    world.run_for(50);
    world.forgotten = true;
    world.run_for(1_200);
    assert_eq!(world.registered, 1);
    assert_eq!(fates(&world), [&Fate::Settled("success")]);
    assert!(world.notices.is_empty());
}

#[test]
fn a_worker_that_stays_unknown_stops() {
    let mut world = World::new(1);
    world.run_for(50);
    world.error = Some(EngineError::UnknownWorker("worker".to_owned()));
    world.enqueue(1, &Template::default());
    world.run_for(500);
    assert_eq!((world.registered, kinds(&world)), (1, vec!["stopped"]));
}

#[test]
fn a_stop_gives_back_what_has_not_started_and_waits_for_the_rest() {
    let mut world = World::new(2);
    world.enqueue(
        2,
        &Template {
            run_ms: 300,
            ..Template::default()
        },
    );
    world.run_for(10);
    world.frozen = true;
    world.stop(5_000);
    world.run_for(1_000);
    assert_eq!(
        fates(&world),
        [&Fate::Settled("success"), &Fate::Settled("success")]
    );
    assert_eq!(kinds(&world), ["draining", "stopped"]);
    assert!(world.unregistered && world.notices[1].fatal.is_none());
}

#[test]
fn at_the_deadline_running_jobs_are_given_back_as_interrupted() {
    let mut world = World::new(2);
    world.enqueue(
        2,
        &Template {
            run_ms: 60_000,
            ..Template::default()
        },
    );
    world.run_for(10);
    world.stop(60_000);
    world.stop(500);
    world.stop(10_000);
    world.run_for(490);
    assert_eq!(kinds(&world), ["draining"]);
    world.run_for(20);
    assert_eq!(
        fates(&world),
        [&Fate::Settled("interrupted"), &Fate::Settled("interrupted")]
    );
    assert_eq!(kinds(&world), ["draining", "stopped"]);
}

#[test]
fn an_idle_worker_stops_at_once() {
    let mut world = World::new(2);
    world.run_for(100);
    world.stop(60_000);
    world.run_for(1);
    assert_eq!(kinds(&world), ["draining", "stopped"]);
}

#[test]
fn outcomes_are_tried_until_a_second_after_the_deadline() {
    let mut world = World::new(1);
    world.enqueue(
        1,
        &Template {
            run_ms: 60_000,
            ..Template::default()
        },
    );
    world.run_for(10);
    world.error = Some(busy());
    world.stop(100);
    world.run_for(1_000);
    assert_eq!(kinds(&world), ["draining", "storage"]);
    world.run_for(200);
    assert_eq!(kinds(&world), ["draining", "storage", "stopped"]);
    assert!(
        world.notices[2].message.contains("1 outcomes"),
        "{}",
        world.notices[2].message
    );
}
