//! The life of a job in the SQLite store, under a clock that the tests own.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use support::{Bench, dead, job, retry, success};
use taskito_engine::error::EngineError;
use taskito_engine::model::{
    Cancelled, Dependency, ErrorKind, ExchangeRequest, NewJob, Outcome, PurgeRequest,
    ReplayRequest, Verdict, Why,
};
use taskito_engine::store::Store;
use taskito_engine::transitions::State;

#[test]
fn a_job_runs_and_its_result_is_kept() {
    let bench = Bench::new();
    let id = bench.enqueue(job());
    assert_eq!(bench.job(id).state, State::Ready);
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 5);
    assert_eq!(claimed.len(), 1);
    assert_eq!(&claimed[0].payload[..], b"payload");
    assert_eq!(bench.job(id).state, State::Running);
    assert!(bench.claim(&worker, 5).is_empty());
    assert_eq!(bench.settle(&worker, &claimed[0], success()), Verdict::Ok);
    let record = bench.job(id);
    assert_eq!(record.state, State::Complete);
    assert_eq!(record.result.as_deref(), Some(&b"result"[..]));
    assert_eq!(bench.settle(&worker, &claimed[0], dead()), Verdict::Stale);
    assert_eq!(bench.job(id).state, State::Complete);
    bench.store.check().unwrap();
}

#[test]
fn claims_follow_priority_then_due_time_then_order_across_lanes() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    for (task, priority) in [("a", 0), ("b", 5), ("a", 5), ("b", 0), ("a", 0), ("b", -3)] {
        let new = NewJob {
            task: task.to_owned(),
            priority,
            ..job()
        };
        expected.push((-priority, expected.len(), bench.enqueue(new)));
    }
    expected.sort();
    let worker = bench.worker_for(&["a", "b"]);
    let mut order = Vec::new();
    loop {
        let batch = bench.claim(&worker, 2);
        if batch.is_empty() {
            break;
        }
        order.extend(batch.iter().map(|claimed| claimed.lease.id));
    }
    assert_eq!(
        order,
        expected.iter().map(|(_, _, id)| *id).collect::<Vec<_>>()
    );
}

#[test]
fn unknown_tasks_and_paused_queues_are_left_alone() {
    let bench = Bench::new();
    bench.enqueue(NewJob {
        task: "other".to_owned(),
        priority: 9,
        ..job()
    });
    bench.enqueue(NewJob {
        queue: "slow".to_owned(),
        ..job()
    });
    let worker = bench.worker();
    assert_eq!(bench.store.maintain(100).unwrap().unknown_tasks, ["other"]);
    bench.store.pause("slow").unwrap();
    assert!(bench.claim(&worker, 5).is_empty());
    assert_eq!(bench.store.paused().unwrap(), ["slow"]);
    bench.store.resume("slow").unwrap();
    assert_eq!(bench.claim(&worker, 5).len(), 1);
}

#[test]
fn a_delayed_job_waits_and_a_retry_counts() {
    let bench = Bench::new();
    let id = bench.enqueue(NewJob {
        delay_ms: 500,
        ..job()
    });
    assert_eq!(bench.job(id).why, Some(Why::Delay));
    let worker = bench.worker();
    let reply = bench.exchange(&worker, Vec::new(), 1);
    assert!(reply.jobs.is_empty());
    assert_eq!(reply.next_due_ms, Some(500));
    bench.clock.advance(500);
    let claimed = bench.claim(&worker, 1);
    assert_eq!(
        bench.settle(&worker, &claimed[0], retry(1_000)),
        Verdict::Ok
    );
    let record = bench.job(id);
    assert_eq!(
        (record.state, record.why, record.attempt),
        (State::Scheduled, Some(Why::Retry), 1)
    );
    assert_eq!(record.errors[0].kind, ErrorKind::Failure);
    bench.clock.advance(1_000);
    assert_eq!(bench.store.maintain(100).unwrap().promoted, 1);
    let again = bench.claim(&worker, 1);
    assert_eq!(again[0].attempt, 1);
    assert!(again[0].lease.token > claimed[0].lease.token);
    assert_eq!(
        bench.settle(&worker, &claimed[0], success()),
        Verdict::Stale
    );
    assert_eq!(
        bench.settle(&worker, &again[0], Outcome::Snooze { delay_ms: 5 }),
        Verdict::Ok
    );
    assert_eq!(bench.job(id).attempt, 1);
    bench.clock.advance(5);
    let third = bench.claim(&worker, 1);
    assert_eq!(bench.settle(&worker, &third[0], dead()), Verdict::Ok);
    assert_eq!(
        (bench.job(id).state, bench.job(id).attempt),
        (State::Dead, 2)
    );
    bench.store.check().unwrap();
}

#[test]
fn a_job_that_has_not_started_in_time_is_cancelled() {
    let bench = Bench::new();
    let first = bench.enqueue(NewJob {
        expires_in_ms: Some(100),
        ..job()
    });
    let second = bench.enqueue(NewJob {
        expires_in_ms: Some(100),
        task: "other".to_owned(),
        ..job()
    });
    bench.clock.advance(100);
    let worker = bench.worker();
    assert!(bench.claim(&worker, 2).is_empty());
    assert_eq!(bench.job(first).reason.as_deref(), Some("expired"));
    assert_eq!(bench.store.maintain(10).unwrap().expired, 1);
    assert_eq!(bench.job(second).state, State::Cancelled);
    bench.store.check().unwrap();
}

#[test]
fn keys_are_held_until_the_end_and_within_a_batch() {
    let bench = Bench::new();
    let keyed = || NewJob {
        unique_key: Some("k".to_owned()),
        ..job()
    };
    let answers = bench.store.enqueue(vec![keyed(), keyed(), job()]).unwrap();
    assert!(!answers[0].duplicate && answers[1].duplicate && !answers[2].duplicate);
    assert_eq!(answers[0].id, answers[1].id);
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    assert!(bench.store.enqueue(vec![keyed()]).unwrap()[0].duplicate);
    bench.settle(&worker, &claimed[0], success());
    assert!(!bench.store.enqueue(vec![keyed()]).unwrap()[0].duplicate);
    let once = || NewJob {
        idempotency_key: Some("once".to_owned()),
        ..job()
    };
    let id = bench.enqueue(once());
    bench
        .store
        .cancel(vec![id], "no".to_owned(), false)
        .unwrap();
    assert!(bench.store.enqueue(vec![once()]).unwrap()[0].duplicate);
    assert_eq!(
        bench
            .store
            .purge(&PurgeRequest {
                ids: vec![id],
                limit: 10,
                ..PurgeRequest::default()
            })
            .unwrap(),
        1
    );
    assert!(!bench.store.enqueue(vec![once()]).unwrap()[0].duplicate);
    bench.store.check().unwrap();
}

#[test]
fn children_wait_for_all_their_parents() {
    let bench = Bench::new();
    let parent = bench.enqueue(job());
    let child = NewJob {
        fire: None,
        depends_on: vec![Dependency::id(parent), Dependency::earlier(0)],
        delay_ms: 50,
        ..job()
    };
    let ids: Vec<_> = bench
        .store
        .enqueue(vec![job(), child])
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    let child = ids[1];
    assert_eq!(bench.job(child).state, State::Blocked);
    assert_eq!(bench.job(child).dependencies.len(), 2);
    assert_eq!(bench.job(parent).dependents, [child]);
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 5);
    assert_eq!(claimed.len(), 2);
    bench.settle(&worker, &claimed[0], success());
    assert_eq!(bench.job(child).state, State::Blocked);
    bench.clock.advance(10);
    bench.settle(&worker, &claimed[1], success());
    assert_eq!(
        (bench.job(child).state, bench.job(child).why),
        (State::Scheduled, Some(Why::Delay))
    );
    bench.clock.advance(49);
    assert!(bench.claim(&worker, 5).is_empty());
    bench.clock.advance(1);
    assert_eq!(bench.claim(&worker, 5).len(), 1);
    bench.store.check().unwrap();
}

#[test]
fn the_end_of_a_parent_cancels_all_that_depends_on_it() {
    let bench = Bench::new();
    let root = bench.enqueue(NewJob {
        max_retries: 0,
        ..job()
    });
    let mut batch = vec![NewJob {
        fire: None,
        depends_on: vec![Dependency::id(root)],
        unique_key: Some("k".to_owned()),
        ..job()
    }];
    for position in 0..2_000 {
        batch.push(NewJob {
            fire: None,
            depends_on: vec![Dependency::earlier(position)],
            ..job()
        });
    }
    let ids: Vec<_> = bench
        .store
        .enqueue(batch)
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 5);
    assert_eq!(claimed.len(), 1);
    bench.settle(&worker, &claimed[0], dead());
    for id in &ids {
        assert_eq!(bench.job(*id).state, State::Cancelled);
    }
    assert!(
        bench
            .job(ids[0])
            .reason
            .unwrap()
            .contains(&root.to_string())
    );
    let late = bench.enqueue(NewJob {
        fire: None,
        depends_on: vec![Dependency::id(ids[7])],
        ..job()
    });
    assert_eq!(bench.job(late).state, State::Cancelled);
    assert!(
        !bench
            .store
            .enqueue(vec![NewJob {
                unique_key: Some("k".to_owned()),
                ..job()
            }])
            .unwrap()[0]
            .duplicate
    );
    bench.store.check().unwrap();
}

#[test]
fn a_cascade_beyond_one_atom_is_finished_by_upkeep() {
    let bench = Bench::new();
    let root = bench.enqueue(job());
    let batch = vec![
        NewJob {
            fire: None,
            depends_on: vec![Dependency::id(root)],
            ..job()
        };
        10_050
    ];
    bench.store.enqueue(batch).unwrap();
    bench
        .store
        .cancel(vec![root], "stop".to_owned(), false)
        .unwrap();
    let blocked = || -> i64 {
        let counts = bench.store.counts().unwrap();
        counts
            .iter()
            .filter(|count| count.state == State::Blocked)
            .map(|count| count.count)
            .sum()
    };
    assert_eq!(blocked(), 50);
    bench.store.maintain(1_000).unwrap();
    assert_eq!(blocked(), 0);
    bench.store.check().unwrap();
}

#[test]
fn a_refused_batch_changes_nothing() {
    let bench = Bench::new();
    let unknown = Dependency::id(taskito_engine::id::JobId([7; 16]));
    let refused = bench.store.enqueue(vec![
        job(),
        NewJob {
            fire: None,
            depends_on: vec![unknown],
            ..job()
        },
    ]);
    assert!(matches!(refused, Err(EngineError::UnknownJob { .. })));
    let refused = bench.store.enqueue(vec![
        job(),
        NewJob {
            priority: 128,
            ..job()
        },
    ]);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("item 1: priority: 128")
    );
    assert!(bench.store.counts().unwrap().is_empty());
    let known = bench.enqueue(job());
    assert_eq!(known.sequence(), 1);
}

#[test]
fn cancelling_answers_by_where_the_job_stands() {
    let bench = Bench::new();
    let pending = bench.enqueue(NewJob {
        delay_ms: 1_000,
        ..job()
    });
    let running = bench.enqueue(job());
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    let verdicts = |running_too| {
        bench
            .store
            .cancel(vec![pending, running], "because".to_owned(), running_too)
            .unwrap()
    };
    assert_eq!(verdicts(false), [Cancelled::Done, Cancelled::Refused]);
    assert_eq!(verdicts(true), [Cancelled::Refused, Cancelled::Requested]);
    assert_eq!(
        bench.exchange(&worker, Vec::new(), 0).cancel_requests,
        [running]
    );
    assert!(bench.job(running).cancel_requested);
    // A cancelled job is never retried, whatever the worker says later.
    bench.settle(&worker, &claimed[0], retry(0));
    assert_eq!(bench.job(running).state, State::Cancelled);
    assert_eq!(bench.job(running).reason.as_deref(), Some("because"));
    assert!(
        bench
            .exchange(&worker, Vec::new(), 0)
            .cancel_requests
            .is_empty()
    );
    bench.store.check().unwrap();
}

#[test]
fn a_lease_that_ends_passes_the_job_on() {
    let bench = Bench::new();
    let id = bench.enqueue(job());
    let (first, second) = (bench.worker(), bench.worker());
    let old = bench.claim(&first, 1).remove(0);
    bench.clock.advance(9_999);
    let renewed = ExchangeRequest {
        worker: first.clone(),
        renewals: vec![old.lease],
        ..ExchangeRequest::default()
    };
    assert!(bench.store.exchange(&renewed).unwrap().lost.is_empty());
    bench.clock.advance(9_999);
    assert_eq!(bench.store.maintain(100).unwrap().rescued, 0);
    bench.clock.advance(1);
    assert_eq!(bench.store.maintain(100).unwrap().rescued, 1);
    assert_eq!(bench.store.exchange(&renewed).unwrap().lost, [old.lease]);
    let new = bench.claim(&second, 1).remove(0);
    assert!(new.lease.token > old.lease.token);
    assert_eq!(new.attempt, 0);
    assert_eq!(bench.settle(&first, &old, success()), Verdict::Stale);
    assert_eq!(bench.settle(&second, &new, success()), Verdict::Ok);
    assert_eq!(bench.job(id).worker, Some(second));
    bench.store.check().unwrap();
}

#[test]
fn the_wall_clock_decides_no_lease() {
    let bench = Bench::new();
    bench.enqueue(job());
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    for jump in [3_600_000, -3_600_000] {
        bench.clock.set_wall(1_700_000_000_000 + jump);
        assert_eq!(bench.store.maintain(100).unwrap().rescued, 0);
    }
    assert_eq!(bench.settle(&worker, &claimed[0], success()), Verdict::Ok);
}

#[test]
fn crashes_are_charged_to_a_lone_suspect_and_bury_it() {
    let bench = Bench::new();
    let id = bench.enqueue(job());
    // The first crash makes a suspect, each further one is charged.
    for round in 0..3 {
        let worker = bench.worker();
        let claimed = bench.claim(&worker, 1).remove(0);
        assert_eq!(claimed.suspect, round > 0);
        assert_eq!(claimed.attempt, 0);
        let start = taskito_engine::model::Start {
            lease: claimed.lease,
            ago_ms: 0,
        };
        let request = ExchangeRequest {
            worker,
            starts: vec![start],
            ..ExchangeRequest::default()
        };
        bench.store.exchange(&request).unwrap();
        bench.clock.advance(10_001);
        assert_eq!(bench.store.maintain(100).unwrap().rescued, 1);
    }
    let record = bench.job(id);
    assert_eq!(
        (record.state, record.crashes, record.attempt),
        (State::Dead, 2, 0)
    );
    assert_eq!(record.errors.len(), 3);
    assert!(
        record
            .errors
            .iter()
            .all(|entry| entry.kind == ErrorKind::Crash && entry.detail[0] == 0)
    );
    bench.store.check().unwrap();
}

#[test]
fn a_worker_runs_one_suspect_at_a_time_and_claimed_jobs_are_not_charged() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.enqueue(job());
    }
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 3);
    let starts = claimed[..2]
        .iter()
        .map(|claimed| taskito_engine::model::Start {
            lease: claimed.lease,
            ago_ms: 0,
        })
        .collect();
    let request = ExchangeRequest {
        worker,
        starts,
        ..ExchangeRequest::default()
    };
    bench.store.exchange(&request).unwrap();
    bench.clock.advance(10_001);
    assert_eq!(bench.store.maintain(100).unwrap().rescued, 3);
    let next = bench.worker();
    let again = bench.claim(&next, 3);
    assert_eq!(again.iter().filter(|claimed| claimed.suspect).count(), 1);
    assert_eq!(again.len(), 2);
    for claimed in &again {
        bench.settle(&next, claimed, success());
    }
    assert_eq!(bench.claim(&next, 3).len(), 1);
}

#[test]
fn a_worker_that_leaves_gives_its_jobs_back_untouched() {
    let bench = Bench::new();
    let id = bench.enqueue(job());
    let worker = bench.worker();
    bench.claim(&worker, 1);
    bench.store.unregister(&worker).unwrap();
    let record = bench.job(id);
    assert_eq!(
        (record.state, record.attempt, record.errors.len()),
        (State::Ready, 0, 0)
    );
    let request = ExchangeRequest {
        worker,
        want: 1,
        ..ExchangeRequest::default()
    };
    assert!(matches!(
        bench.store.exchange(&request),
        Err(EngineError::UnknownWorker(_))
    ));
    assert!(bench.store.workers().unwrap().is_empty());
}

#[test]
fn dead_letters_are_replayed_once_and_keep_their_options() {
    let bench = Bench::new();
    let id = bench.enqueue(NewJob {
        priority: 7,
        metadata: Some(b"m"[..].into()),
        ..job()
    });
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    bench.settle(&worker, &claimed[0], dead());
    let again = ReplayRequest {
        ids: vec![id, id],
        dead_only: true,
        once: false,
    };
    let answers = bench.store.replay(&again).unwrap();
    assert_eq!(answers[1], None);
    let new = bench.job(answers[0].unwrap());
    assert_eq!(
        (new.state, new.priority, new.original_id),
        (State::Ready, 7, Some(id))
    );
    assert_eq!(new.metadata.as_deref(), Some(&b"m"[..]));
    assert_eq!(bench.job(id).replayed_as, answers[0]);
    assert_eq!(
        bench
            .store
            .purge(&PurgeRequest {
                limit: 10,
                ..PurgeRequest::default()
            })
            .unwrap(),
        1
    );
    assert!(bench.store.get(&[id]).unwrap()[0].is_none());
    bench.store.check().unwrap();
}

#[test]
fn finished_jobs_are_pruned_when_their_time_is_over() {
    let bench = Bench::new();
    let id = bench.enqueue(NewJob {
        result_ttl_ms: Some(1_000),
        ..job()
    });
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    bench.settle(&worker, &claimed[0], success());
    bench.clock.advance(999);
    assert_eq!(bench.store.maintain(100).unwrap().pruned, 0);
    bench.clock.advance(1);
    assert_eq!(bench.store.maintain(100).unwrap().pruned, 1);
    assert!(bench.store.get(&[id]).unwrap()[0].is_none());
    bench.store.check().unwrap();
}

#[test]
fn pages_walk_through_all_jobs_newest_first() {
    let bench = Bench::new();
    let ids: Vec<_> = (0..25).map(|_| bench.enqueue(job())).collect();
    let mut request = taskito_engine::model::ListRequest {
        limit: 10,
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = bench.store.list(&request).unwrap();
        seen.extend(page.jobs.iter().map(|job| job.id));
        match page.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn progress_and_log_lines_belong_to_the_current_run() {
    let bench = Bench::new();
    let id = bench.enqueue(job());
    assert!(!bench.store.set_progress(id, None, 10).unwrap());
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1).remove(0);
    assert!(
        bench
            .store
            .set_progress(id, Some(claimed.lease.token), 10)
            .unwrap()
    );
    assert!(
        !bench
            .store
            .set_progress(id, Some(claimed.lease.token + 1), 99)
            .unwrap()
    );
    assert!(
        bench
            .store
            .append_log(claimed.lease, "info", "hello")
            .unwrap()
    );
    assert_eq!(bench.job(id).progress, Some(10));
    assert_eq!(bench.store.logs(id).unwrap()[0].message, "hello");
    assert!(matches!(
        bench.store.set_progress(id, None, 101),
        Err(EngineError::Invalid { .. })
    ));
}

#[test]
fn a_child_that_was_due_at_its_enqueue_waits_for_no_wall_clock() {
    let bench = Bench::new();
    let parent = bench.enqueue(job());
    let child = bench.enqueue(NewJob {
        fire: None,
        depends_on: vec![Dependency::id(parent)],
        ..job()
    });
    let worker = bench.worker();
    let claimed = bench.claim(&worker, 1);
    bench.clock.set_wall(1_700_000_000_000 - 3_600_000);
    bench.settle(&worker, &claimed[0], success());
    assert_eq!(bench.job(child).state, State::Ready);
    bench.store.check().unwrap();
}
