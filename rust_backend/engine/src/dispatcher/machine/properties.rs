//! What holds whatever happens, under virtual time.

use proptest::prelude::*;

use super::super::notice::NoticeKind;
use super::Event;
use super::simulation::{Fate, LEASE_MS, Template, World, busy};
use crate::model::{ErrorKind, Lease, Outcome};

#[derive(Debug, Clone)]
enum Action {
    Enqueue(usize, Template),
    Wait(i64),
    /// The store fails for so long.
    Fail(i64),
    /// No executor asks for work for so long.
    Freeze(i64),
    Steal(prop::sample::Index),
    Cancel(prop::sample::Index),
    Pause(bool),
    Due(Option<i64>),
    Forget,
    Stop(i64),
}

fn template() -> impl Strategy<Value = Template> {
    let run_ms = prop_oneof![4 => 0..3_i64, 2 => 3..60_i64, 1 => 60..8_000_i64];
    let timeout_ms = prop_oneof![2 => Just(0_i64), 1 => 1..200_i64, 1 => Just(100_000_i64)];
    let expires_in_ms = prop::option::weighted(0.2, 0..50_i64);
    let queue = prop_oneof![Just("default"), Just("paused")];
    let flags = (any::<bool>(), any::<bool>());
    (run_ms, timeout_ms, expires_in_ms, flags, queue).prop_map(
        |(run_ms, timeout_ms, expires_in_ms, (fails, coroutine), queue)| Template {
            coroutine,
            run_ms: run_ms.max(1),
            timeout_ms,
            expires_in_ms,
            fails,
            queue,
            ..Template::default()
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..120_usize, template()).prop_map(|(count, job)| Action::Enqueue(count, job)),
        6 => prop_oneof![0..20_i64, 20..3_000_i64].prop_map(Action::Wait),
        2 => prop_oneof![1..50_i64, 50..20_000_i64].prop_map(Action::Fail),
        2 => (1..1_000_i64).prop_map(Action::Freeze),
        2 => any::<prop::sample::Index>().prop_map(Action::Steal),
        2 => any::<prop::sample::Index>().prop_map(Action::Cancel),
        1 => any::<bool>().prop_map(Action::Pause),
        1 => prop::option::of(0..500_i64).prop_map(Action::Due),
        1 => Just(Action::Forget),
        1 => (0..2_000_i64).prop_map(Action::Stop),
    ]
}

fn apply(world: &mut World, action: Action) {
    match action {
        Action::Enqueue(count, template) => {
            world.enqueue(count, &template);
        }
        Action::Wait(milliseconds) => world.run_for(milliseconds),
        Action::Fail(milliseconds) => {
            world.error = Some(busy());
            world.run_for(milliseconds);
            world.error = None;
            // Leases that ended meanwhile are another story: stealing tells it.
            let end = world.now + LEASE_MS;
            world
                .live
                .values_mut()
                .for_each(|lease_end| *lease_end = end);
        }
        Action::Freeze(milliseconds) => {
            world.frozen = true;
            world.run_for(milliseconds);
            world.frozen = false;
        }
        Action::Steal(index) => {
            let mut live: Vec<_> = world.live.keys().copied().collect();
            live.sort_by_key(|lease| (lease.token, lease.id));
            if !live.is_empty() {
                world.steal(*index.get(&live));
            }
        }
        Action::Cancel(index) => {
            let mut ids: Vec<_> = world.templates.keys().copied().collect();
            ids.sort();
            if !ids.is_empty() {
                world.cancel.push(*index.get(&ids));
                world.handle(Event::Changed);
            }
        }
        Action::Pause(paused) => {
            world.paused = if paused {
                vec!["paused".to_owned()]
            } else {
                Vec::new()
            };
            world.handle(Event::Changed);
        }
        Action::Due(next_due_ms) => world.next_due_ms = next_due_ms,
        Action::Forget => {
            world.forgotten = true;
            // To be forgotten again before the next exchange would end the worker.
            world.run_for(1_500);
        }
        Action::Stop(drain_ms) => world.stop(drain_ms),
    }
}

/// Every lease has exactly one end, and the end fits what happened to the run.
///
/// But for a worker that ended while its store was away: it says so.
fn check_fates(world: &World) {
    let cut_off = world
        .notices
        .last()
        .is_some_and(|last| last.message.contains("could not take"));
    for ((id, token), fates) in &world.fates {
        if cut_off && fates.is_empty() {
            continue;
        }
        assert_eq!(fates.len(), 1, "lease {token}: {fates:?}");
        let lease = Lease {
            id: *id,
            token: *token,
        };
        if world.reported.contains(&lease) {
            let kept = matches!(
                fates[0],
                Fate::Settled("success" | "retry" | "dead") | Fate::Refused | Fate::Lost
            );
            assert!(kept, "a finished run was given back: {fates:?}");
        }
    }
}

/// No attempt is cut off before its time.
fn check_timeouts(world: &World) {
    let settlements = world
        .requests
        .iter()
        .flat_map(|request| &request.settlements);
    for settlement in settlements {
        if let Outcome::Retry {
            kind: ErrorKind::Timeout,
            ..
        }
        | Outcome::Dead {
            kind: ErrorKind::Timeout,
            ..
        } = settlement.outcome
        {
            let limit = world.templates[&settlement.lease.id].timeout_ms;
            assert!(
                settlement.started_ago_ms.is_some_and(|ago| ago >= limit),
                "{settlement:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_lease_ends_exactly_once(
        slots in 1..6_usize,
        places in 0..4_usize,
        actions in prop::collection::vec(action(), 1..40),
    ) {
        let mut world = World::with_loop(slots, places);
        for action in actions {
            apply(&mut world, action);
        }
        world.run_for(100);
        world.stop(10_000);
        world.run_for(15_000);
        prop_assert!(world.machine.is_over());
        prop_assert!(world.unregistered);
        prop_assert_eq!(world.notices.last().map(|notice| notice.kind), Some(NoticeKind::Stopped));
        check_fates(&world);
        check_timeouts(&world);
    }

    #[test]
    fn everything_is_done_when_nothing_is_in_the_way(
        slots in 1..6_usize,
        places in 1..6_usize,
        batches in prop::collection::vec(
            (1..200_usize, 1..30_i64, 0..100_i64, any::<bool>()),
            1..8,
        ),
    ) {
        let mut world = World::with_loop(slots, places);
        for (count, run_ms, pause, coroutine) in batches {
            world.enqueue(count, &Template { run_ms, coroutine, ..Template::default() });
            world.run_for(pause);
        }
        world.run_for(60_000);
        let done = world.fates.values().flatten().filter(|fate| **fate == Fate::Settled("success"));
        prop_assert_eq!(done.count(), world.templates.len());
        prop_assert!(world.notices.is_empty());
    }

    #[test]
    fn an_idle_worker_asks_the_store_about_once_a_second(idle_ms in 1_000..100_000_i64) {
        let mut world = World::new(3);
        world.enqueue(10, &Template::default());
        world.run_for(1_000);
        let before = (world.requests.len(), world.maintained.len());
        world.run_for(idle_ms);
        let seconds = usize::try_from(idle_ms / 1_000).unwrap_or(0) + 1;
        prop_assert!(world.requests.len() - before.0 <= seconds);
        prop_assert!(world.maintained.len() - before.1 <= seconds);
    }
}
