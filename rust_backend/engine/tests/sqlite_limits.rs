//! Limits in the SQLite store: whatever happens, the lines of the keys stay as a claim needs them.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use support::{Bench, job, retry, success};
use taskito_engine::id::JobId;
use taskito_engine::model::{ClaimedJob, NewJob, Outcome, Rate, Settlement, TaskLimit};
use taskito_engine::store::Store;
use taskito_engine::transitions::State;

#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        queue: usize,
        key: Option<usize>,
        priority: i64,
        delay_ms: i64,
    },
    Claim {
        want: usize,
        idle: usize,
    },
    Settle {
        which: usize,
        how: usize,
    },
    Cancel {
        which: usize,
    },
    Limit {
        most: Option<i64>,
    },
    Pass {
        ms: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, prop::option::weighted(0.8, 0..3_usize), 0..3_i64, prop_oneof![3 => Just(0), 1 => Just(50_i64)])
            .prop_map(|(queue, key, priority, delay_ms)| Step::Enqueue { queue, key, priority, delay_ms }),
        3 => (0..5_usize, 0..5_usize).prop_map(|(want, idle)| Step::Claim { want, idle }),
        3 => (0..8_usize, 0..4_usize).prop_map(|(which, how)| Step::Settle { which, how }),
        1 => (0..30_usize).prop_map(|which| Step::Cancel { which }),
        1 => prop::option::of(1..4_i64).prop_map(|most| Step::Limit { most }),
        1 => prop_oneof![Just(10_i64), Just(60), Just(11_000)].prop_map(|ms| Step::Pass { ms }),
    ]
}

fn limit(most: Option<i64>) -> Vec<TaskLimit> {
    vec![TaskLimit {
        task: "task".to_owned(),
        rate: None,
        max_concurrent: most,
    }]
}

/// How many jobs of each key run.
fn running(bench: &Bench, ids: &[JobId]) -> HashMap<Option<String>, i64> {
    let mut by_key = HashMap::new();
    for id in ids {
        let record = bench.job(*id);
        if record.state == State::Running {
            *by_key.entry(record.concurrency_key).or_default() += 1;
        }
    }
    by_key
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_lines_of_the_keys_are_always_in_order(steps in prop::collection::vec(step(), 1..40)) {
        let bench = Bench::new();
        let mut most = Some(2);
        let mut worker = bench.limited_worker(&["task"], limit(most));
        let (mut ids, mut held): (Vec<_>, Vec<(String, ClaimedJob)>) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Enqueue { queue, key, priority, delay_ms } => ids.push(bench.enqueue(NewJob {
                    queue: format!("queue-{queue}"),
                    concurrency_key: key.map(|key| format!("key-{key}")),
                    priority,
                    delay_ms,
                    ..job()
                })),
                Step::Claim { want, idle } => {
                    let request = taskito_engine::model::ExchangeRequest {
                        worker: worker.clone(),
                        want,
                        idle: Some(idle),
                        ..Default::default()
                    };
                    let before = running(&bench, &ids);
                    let claimed = bench.store.exchange(&request).unwrap().jobs;
                    prop_assert!(most.is_none() || claimed.len() <= idle);
                    held.extend(claimed.into_iter().map(|job| (worker.clone(), job)));
                    for (key, count) in running(&bench, &ids) {
                        // Runs that a lowered limit found under way go on; none is added to them.
                        let allowed = before.get(&key).copied().unwrap_or(0).max(most.unwrap_or(count));
                        prop_assert!(count <= allowed, "{count} jobs of {key:?} run, {allowed} may");
                    }
                }
                Step::Settle { which, how } if !held.is_empty() => {
                    let (owner, job) = held.remove(which % held.len());
                    let outcome = [
                        success(),
                        retry(0),
                        retry(70),
                        Outcome::Release { interrupted: false },
                    ][how].clone();
                    let settlement = Settlement { lease: job.lease, outcome, started_ago_ms: Some(0) };
                    bench.exchange(&owner, vec![settlement], 0);
                }
                Step::Cancel { which } if !ids.is_empty() => {
                    let id = ids[which % ids.len()];
                    bench.store.cancel(vec![id], "test".to_owned(), true).unwrap();
                }
                Step::Limit { most: wanted } => {
                    most = wanted;
                    worker = bench.limited_worker(&["task"], limit(most));
                }
                Step::Pass { ms } => {
                    bench.clock.advance(ms);
                    bench.store.maintain(100).unwrap();
                    held.retain(|(_, job)| bench.job(job.lease.id).run == job.lease.token);
                }
                Step::Settle { .. } | Step::Cancel { .. } => {}
            }
            bench.store.check().unwrap();
        }
    }
}

#[test]
fn ten_thousand_parked_jobs_cost_an_unrelated_claim_nothing() {
    let bench = Bench::new();
    let rate = Rate {
        count: 1,
        period_ms: 3_600_000,
        burst: 1,
    };
    let limits = vec![TaskLimit {
        task: "limited".to_owned(),
        rate: Some(rate),
        max_concurrent: None,
    }];
    let worker = bench.limited_worker(&["limited", "task"], limits);
    let parked: Vec<_> = (0..10_000)
        .map(|_| NewJob {
            task: "limited".to_owned(),
            priority: 100,
            ..job()
        })
        .collect();
    bench.store.enqueue(parked).unwrap();
    assert_eq!(bench.claim(&worker, 5).len(), 1);
    let before = bench.store.check().unwrap();
    let ids: Vec<_> = (0..20).map(|_| bench.enqueue(job())).collect();
    let claimed: Vec<_> = bench
        .claim(&worker, 20)
        .iter()
        .map(|job| job.lease.id)
        .collect();
    assert_eq!(claimed, ids);
    assert!(
        before
            .iter()
            .any(|(name, fact)| name == "jobs" && fact == "10000")
    );
}

#[test]
fn a_purge_takes_the_timers_of_a_job_along() {
    let bench = Bench::new();
    let worker = bench.worker();
    bench.enqueue(NewJob {
        result_ttl_ms: Some(3_600_000),
        expires_in_ms: Some(3_600_000),
        ..job()
    });
    let [claimed] = bench.claim(&worker, 1).try_into().unwrap();
    bench.settle(&worker, &claimed, success());
    let request = taskito_engine::model::PurgeRequest {
        limit: 10,
        ..Default::default()
    };
    assert_eq!(bench.store.purge(&request).unwrap(), 1);
    assert_eq!(bench.store.maintain(1).unwrap().next_due_ms, None);
}
