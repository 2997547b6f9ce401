//! The dispatcher with real threads.

mod dispatcher_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use dispatcher_support::{MemoryStore, dispatcher, executor, finish, kinds, started, success};
use taskito_engine::dispatcher::{DispatcherOptions, NoticeKind, Report, Taken};
use taskito_engine::error::{EngineError, Result};
use taskito_engine::model::{
    ErrorKind, ExchangeReply, ExchangeRequest, MaintainReply, Outcome, WorkerRegistration,
};
use taskito_engine::store::Store;

#[test]
fn twenty_thousand_jobs_are_each_run_and_settled_once() {
    let store = Arc::new(MemoryStore::default());
    store.enqueue(20_000, 0);
    let dispatcher = started(&store, 4);
    let executors = (0..4)
        .map(|_| executor(dispatcher.slot(), |_| success()))
        .collect();
    store.wait_until("all jobs are settled", |state| {
        state.settled.len() == 20_000
    });
    let runs = finish(&dispatcher, executors);
    assert_eq!(store.settled_once(), 20_000);
    assert_eq!(runs.iter().sum::<usize>(), 20_000);
    let state = store.lock();
    assert_eq!(state.stale, 0);
    assert!(state.exchanges < 10_000, "{} exchanges", state.exchanges);
    assert!(state.largest_want <= 1_004);
    let statistics = dispatcher.statistics();
    assert_eq!((statistics.started, statistics.stale), (20_000, 0));
}

#[test]
fn blocking_work_soon_has_all_threads() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 16);
    let executors = (0..16)
        .map(|_| {
            executor(dispatcher.slot(), |_| {
                thread::sleep(Duration::from_millis(25));
                success()
            })
        })
        .collect();
    let began = Instant::now();
    store.enqueue(64, 0);
    store.wait_until("all jobs are settled", |state| state.settled.len() == 64);
    let took = began.elapsed();
    let runs = finish(&dispatcher, executors);
    assert!(
        took < Duration::from_millis(64 * 25 / 2),
        "{took:?}, {runs:?}"
    );
    assert_eq!(
        runs.iter().filter(|runs| **runs > 0).count(),
        16,
        "{runs:?}"
    );
}

#[test]
fn a_job_of_an_idle_worker_starts_soon() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 4);
    let (sender, starts) = mpsc::channel();
    let executors = (0..4)
        .map(|_| {
            let sender = sender.clone();
            executor(dispatcher.slot(), move |_| {
                sender.send(Instant::now()).unwrap();
                success()
            })
        })
        .collect();
    let mut delays: Vec<_> = (0..41)
        .map(|_| {
            thread::sleep(Duration::from_millis(8));
            let began = Instant::now();
            store.enqueue(1, 0);
            starts.recv_timeout(Duration::from_secs(10)).unwrap() - began
        })
        .collect();
    finish(&dispatcher, executors);
    delays.sort();
    assert!(delays[20] < Duration::from_millis(20), "{delays:?}");
}

#[test]
fn outcomes_survive_a_store_that_is_busy_again_and_again() {
    let store = Arc::new(MemoryStore::default());
    store.lock().failures = 4;
    store.enqueue(100, 0);
    let dispatcher = started(&store, 2);
    let executors = (0..2)
        .map(|_| executor(dispatcher.slot(), |_| success()))
        .collect();
    store.wait_until("all jobs are settled", |state| state.settled.len() == 100);
    let runs = finish(&dispatcher, executors);
    assert_eq!(runs.iter().sum::<usize>(), 100, "a finished job ran again");
    assert_eq!(store.settled_once(), 100);
    let notices = dispatcher_support::notices(&dispatcher);
    let expected = [
        "started",
        "storage",
        "storage_recovered",
        "draining",
        "stopped",
    ];
    assert_eq!(kinds(&notices), expected);
}

#[test]
fn a_run_past_its_timeout_is_settled_and_its_slot_replaced() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 2);
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let stuck = executor(dispatcher.slot(), move |run| {
        let _ = blocked.lock().unwrap().recv();
        assert!(run.abandoned());
        success()
    });
    let began = Instant::now();
    let id = store.enqueue(1, 60)[0];
    store.wait_until("the timeout is settled", |state| {
        state.settled.contains_key(&id)
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(59), "{took:?}");
    assert!(
        took < Duration::from_millis(600),
        "the timer of the sleeping dispatcher: {took:?}"
    );
    let kind = match &store.lock().settled[&id][0] {
        Outcome::Dead { kind, error } => {
            let text = String::from_utf8_lossy(error).into_owned();
            assert!(text.contains("attempt ran longer than 60 ms"), "{text}");
            *kind
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(kind, ErrorKind::Timeout);
    let timeout = loop {
        let notice = dispatcher.next_notice(Duration::from_secs(10)).unwrap();
        if notice.kind == NoticeKind::Timeout {
            break notice;
        }
    };
    assert_eq!((timeout.job_id, timeout.slot), (Some(id), Some(0)));
    // The replacement works while the first thread is still stuck.
    let replacement = dispatcher.slot();
    assert_eq!(replacement.index(), 1);
    let replacement = executor(replacement, |_| success());
    store.enqueue(1, 0);
    store.wait_until("the next job is settled", |state| state.settled.len() == 2);
    release.send(()).unwrap();
    assert_eq!(
        stuck.join().unwrap(),
        1,
        "a retired slot takes nothing more"
    );
    let stale = dispatcher.next_notice(Duration::from_secs(10)).unwrap();
    assert_eq!((stale.kind, stale.job_id), (NoticeKind::Stale, Some(id)));
    finish(&dispatcher, vec![replacement]);
    assert_eq!(store.settled_once(), 2);
}

#[test]
fn a_slot_that_goes_away_during_a_run_is_a_failed_attempt() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    let mut slot = dispatcher.slot();
    let id = store.enqueue(1, 0)[0];
    while !matches!(slot.try_next(None), Taken::Run(_)) {
        slot.park(Duration::from_millis(100));
    }
    assert_eq!(store.lock().marks.len(), 1);
    drop(slot);
    store.wait_until("the job is settled", |state| {
        state.settled.contains_key(&id)
    });
    let state = store.lock();
    assert!(matches!(
        state.settled[&id][0],
        Outcome::Dead {
            kind: ErrorKind::Failure,
            ..
        }
    ));
    assert!(state.marks.is_empty());
}

#[test]
fn every_kind_of_report_becomes_its_outcome() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    let number = AtomicUsize::new(0);
    let worker = executor(dispatcher.slot(), move |_| {
        match number.fetch_add(1, Ordering::SeqCst) {
            0 => success(),
            1 => Report::Snoozed { delay_ms: 5 },
            2 => Report::Aborted {
                reason: "enough".to_owned(),
            },
            _ => Report::Failure {
                error: Arc::from(&b"error"[..]),
                kind: ErrorKind::Rejected,
                retry: false,
                delay_ms: None,
            },
        }
    });
    let ids = store.enqueue(4, 0);
    store.wait_until("all jobs are settled", |state| state.settled.len() == 4);
    let state = store.lock();
    assert!(
        matches!(&state.settled[&ids[0]][0], Outcome::Success { result, .. } if **result == *b"result")
    );
    assert!(matches!(
        state.settled[&ids[1]][0],
        Outcome::Snooze { delay_ms: 5 }
    ));
    assert!(
        matches!(&state.settled[&ids[2]][0], Outcome::Cancelled { reason } if reason == "enough")
    );
    assert!(matches!(
        state.settled[&ids[3]][0],
        Outcome::Dead {
            kind: ErrorKind::Rejected,
            ..
        }
    ));
    drop(state);
    finish(&dispatcher, vec![worker]);
}

/// A store behind one lock that executors also hold while they ask for work, like the interpreter.
struct Bridged {
    store: MemoryStore,
    interpreter: Arc<Mutex<()>>,
}

impl Store for Bridged {
    fn register(&self, worker: &WorkerRegistration) -> Result<()> {
        self.store.register(worker)
    }

    fn unregister(&self, worker: &str) -> Result<()> {
        let _held = self.interpreter.lock();
        self.store.unregister(worker)
    }

    fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply> {
        let _held = self.interpreter.lock();
        self.store.exchange(request)
    }

    fn maintain(&self, budget: usize) -> Result<MaintainReply> {
        let _held = self.interpreter.lock();
        self.store.maintain(budget)
    }

    fn wait(&self, since: u64, timeout: Duration) -> Result<u64> {
        self.store.wait(since, timeout)
    }

    fn mark_started(&self, _worker: &str, _slot: usize, _token: Option<i64>) {}
}

#[test]
fn executors_that_keep_the_interpreter_never_wait_for_the_store() {
    let interpreter = Arc::new(Mutex::new(()));
    let bridged = Arc::new(Bridged {
        store: MemoryStore::default(),
        interpreter: Arc::clone(&interpreter),
    });
    bridged.store.enqueue(2_000, 0);
    let store = Arc::clone(&bridged) as Arc<dyn Store>;
    let dispatcher = dispatcher(store, 3, &DispatcherOptions::default());
    dispatcher.start().unwrap();
    let executors: Vec<_> = (0..3)
        .map(|_| {
            let (mut slot, interpreter) = (dispatcher.slot(), Arc::clone(&interpreter));
            thread::spawn(move || {
                let mut report = None;
                loop {
                    let held = interpreter.lock().unwrap();
                    match slot.try_next(report.take()) {
                        Taken::Run(_) => report = Some(success()),
                        Taken::Empty => {
                            drop(held);
                            slot.park(Duration::from_millis(100));
                        }
                        Taken::Stopped => return,
                    }
                }
            })
        })
        .collect();
    bridged
        .store
        .wait_until("all jobs are settled", |state| state.settled.len() == 2_000);
    dispatcher.stop(5_000);
    for executor in executors {
        executor.join().unwrap();
    }
    assert_eq!(bridged.store.settled_once(), 2_000);
}

#[test]
fn a_worker_can_be_started_once_its_store_accepts_it() {
    let store = Arc::new(MemoryStore::default());
    let options = DispatcherOptions::default();
    let dispatcher = dispatcher(Arc::clone(&store) as Arc<dyn Store>, 1, &options);
    store.lock().error = Some(EngineError::Closed);
    assert!(matches!(dispatcher.start(), Err(EngineError::Closed)));
    store.lock().error = None;
    dispatcher.start().unwrap();
    assert!(matches!(
        dispatcher.start(),
        Err(EngineError::Invalid { field, .. }) if field == "dispatcher"
    ));
    assert_eq!(store.lock().registered.len(), 1);
}
