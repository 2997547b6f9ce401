//! How a worker ends, with real threads.

mod dispatcher_support;

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dispatcher_support::{
    MemoryStore, dispatcher, executor, finish, kinds, notices, started, success,
};
use taskito_engine::dispatcher::{DispatcherOptions, Taken, WATCHDOG_EXIT_CODE};
use taskito_engine::error::EngineError;
use taskito_engine::model::Outcome;
use taskito_engine::store::Store;

const CHILD: &str = "TASKITO_TEST_WATCHDOG_CHILD";

/// An executor whose runs last so long, or until they are abandoned.
fn sleeper(
    dispatcher: &taskito_engine::dispatcher::Dispatcher,
    lasts: Duration,
) -> thread::JoinHandle<usize> {
    executor(dispatcher.slot(), move |run| {
        let began = Instant::now();
        while began.elapsed() < lasts && !run.abandoned() {
            thread::sleep(Duration::from_millis(1));
        }
        success()
    })
}

#[test]
fn a_stop_lets_running_jobs_end_and_starts_no_other() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 2);
    let executors = (0..2)
        .map(|_| sleeper(&dispatcher, Duration::from_millis(200)))
        .collect();
    store.enqueue(10, 0);
    store.wait_until("two jobs run", |state| state.marks.len() == 2);
    let runs = finish(&dispatcher, executors);
    assert_eq!(runs, [1, 1]);
    assert_eq!(
        kinds(&notices(&dispatcher)),
        ["started", "draining", "stopped"]
    );
    let state = store.lock();
    assert_eq!(
        (state.settled.len(), state.ready.len(), state.live.len()),
        (2, 8, 0)
    );
    assert_eq!(state.unregistered.len(), 1);
    assert!(state.marks.is_empty());
}

#[test]
fn a_second_stop_shortens_the_first_and_the_rest_is_given_back() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    let executor = sleeper(&dispatcher, Duration::from_secs(60));
    store.enqueue(1, 0);
    store.wait_until("the job runs", |state| state.marks.len() == 1);
    let began = Instant::now();
    dispatcher.stop(60_000);
    dispatcher.stop(50);
    dispatcher.stop(60_000);
    let notices = notices(&dispatcher);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(kinds(&notices), ["started", "draining", "stopped"]);
    assert!(notices[2].fatal.is_none());
    executor.join().unwrap();
    let state = store.lock();
    assert_eq!(
        (state.settled.len(), state.ready.len(), state.live.len()),
        (0, 1, 0)
    );
}

#[test]
fn a_store_that_can_never_work_again_ends_the_worker_with_its_reason() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 2);
    let executors: Vec<_> = (0..2)
        .map(|_| executor(dispatcher.slot(), |_| success()))
        .collect();
    store.enqueue(1, 0);
    store.wait_until("the job is settled", |state| state.settled.len() == 1);
    let began = Instant::now();
    store.lock().error = Some(EngineError::Moved {
        path: "q.db".into(),
    });
    let notices = notices(&dispatcher);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(kinds(&notices), ["started", "stopped"]);
    assert!(matches!(notices[1].fatal, Some(EngineError::Moved { .. })));
    for executor in executors {
        assert!(executor.join().is_ok());
    }
}

#[test]
fn a_panic_in_the_store_is_told() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    store.lock().panics = true;
    let worker = executor(dispatcher.slot(), |_| success());
    store.enqueue(1, 0);
    let notices = notices(&dispatcher);
    assert_eq!(kinds(&notices), ["started", "stopped"]);
    assert!(
        notices[1].message.contains("the store is broken"),
        "{}",
        notices[1].message
    );
    assert!(notices[1].fatal.is_some());
    worker.join().unwrap();
}

#[test]
fn dropping_a_dispatcher_stops_it() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    let worker = sleeper(&dispatcher, Duration::from_secs(60));
    store.enqueue(1, 0);
    store.wait_until("the job runs", |state| state.marks.len() == 1);
    drop(dispatcher);
    worker.join().unwrap();
    store.wait_until("the worker is gone", |state| state.unregistered.len() == 1);
    assert_eq!(store.lock().ready.len(), 1);
}

#[test]
fn a_dispatcher_that_never_started_stops_at_once() {
    let store = Arc::new(MemoryStore::default());
    let options = DispatcherOptions::default();
    let dispatcher = dispatcher(Arc::clone(&store) as Arc<dyn Store>, 1, &options);
    let mut slot = dispatcher.slot();
    dispatcher.stop(1_000);
    assert_eq!(kinds(&notices(&dispatcher)), ["stopped"]);
    assert!(matches!(slot.try_next(None), Taken::Stopped));
    assert!(dispatcher.start().is_err());
    assert!(store.lock().unregistered.is_empty());
}

#[test]
fn outcomes_are_stored_after_a_failure_during_the_stop() {
    let store = Arc::new(MemoryStore::default());
    let dispatcher = started(&store, 1);
    let worker = sleeper(&dispatcher, Duration::from_millis(100));
    let id = store.enqueue(1, 0)[0];
    store.wait_until("the job runs", |state| state.marks.len() == 1);
    store.lock().failures = 3;
    dispatcher.stop(5_000);
    worker.join().unwrap();
    let seen = kinds(&notices(&dispatcher));
    assert_eq!(
        seen,
        [
            "started",
            "draining",
            "storage",
            "storage_recovered",
            "stopped"
        ]
    );
    assert!(matches!(
        store.lock().settled[&id][0],
        Outcome::Success { .. }
    ));
}

/// Runs twice: here it starts itself as a child process, there it gets stuck.
#[test]
fn the_watchdog_ends_a_process_that_does_not_end() {
    if env::var_os(CHILD).is_some() {
        get_stuck();
    }
    let began = Instant::now();
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_watchdog_ends_a_process_that_does_not_end",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(WATCHDOG_EXIT_CODE), "{message}");
    assert!(message.contains("did not end within 2 s"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn get_stuck() -> ! {
    let store = Arc::new(MemoryStore::default());
    let options = DispatcherOptions {
        owns_process: true,
        ..DispatcherOptions::default()
    };
    let dispatcher = dispatcher(Arc::clone(&store) as Arc<dyn Store>, 1, &options);
    dispatcher.start().expect("the store accepts it");
    let stuck = executor(dispatcher.slot(), |_| {
        thread::sleep(Duration::from_secs(3_600));
        success()
    });
    store.enqueue(1, 0);
    store.wait_until("the job runs", |state| state.marks.len() == 1);
    dispatcher.stop(100);
    stuck.join().expect("it never ends");
    unreachable!("the thread sleeps for an hour");
}
