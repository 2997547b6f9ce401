//! The SQLite store as a file: who may open it, what happens when it goes away, how commits group.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Bench, job, success};
use taskito_engine::error::EngineError;
use taskito_engine::model::{NewJob, Verdict};
use taskito_engine::sqlite::{SqliteOptions, SqliteStore};
use taskito_engine::store::Store;
use taskito_engine::transitions::State;

#[test]
fn the_files_belong_to_their_owner_alone() {
    let bench = Bench::new();
    bench.enqueue(job());
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{:?}", entry.path());
    }
}

#[test]
fn what_is_not_a_taskito_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| SqliteStore::open(SqliteOptions::file(path)).err().unwrap();

    assert!(matches!(open(folder.path()), EngineError::Path { .. }));

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "these are notes, not a database".repeat(100)).unwrap();
    let before = std::fs::read(&text).unwrap();
    assert!(matches!(open(&text), EngineError::Corrupt { .. }));
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let foreign = folder.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection
        .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
        .unwrap();
    drop(connection);
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(open(&foreign), EngineError::Corrupt { .. }));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let newer = folder.path().join("newer.db");
    let connection = rusqlite::Connection::open(&newer).unwrap();
    connection
        .execute_batch("PRAGMA application_id = 0x74736B74; PRAGMA user_version = 99")
        .unwrap();
    drop(connection);
    assert!(matches!(
        open(&newer),
        EngineError::Schema { found: 99, .. }
    ));
}

#[test]
fn two_handles_of_one_file_share_it_and_namespaces_do_not_see_each_other() {
    let bench = Bench::new();
    let path = bench.folder.path().join("jobs.db");
    let id = bench.enqueue(NewJob {
        unique_key: Some("k".to_owned()),
        ..job()
    });
    let same = SqliteStore::open(SqliteOptions::file(&path)).unwrap();
    assert!(same.get(&[id]).unwrap()[0].is_some());
    let other = SqliteStore::open(SqliteOptions {
        namespace: "other".to_owned(),
        ..SqliteOptions::file(&path)
    });
    let other = other.unwrap();
    assert!(other.get(&[id]).unwrap()[0].is_none());
    let keyed = NewJob {
        unique_key: Some("k".to_owned()),
        ..job()
    };
    assert!(!other.enqueue(vec![keyed]).unwrap()[0].duplicate);
    same.close();
    assert!(matches!(same.get(&[id]), Err(EngineError::Closed)));
    assert!(bench.store.get(&[id]).unwrap()[0].is_some());
}

#[test]
fn a_deleted_or_replaced_file_is_noticed_before_anything_is_acknowledged() {
    let bench = Bench::new();
    bench.enqueue(job());
    let path = bench.folder.path().join("jobs.db");
    std::fs::rename(&path, bench.folder.path().join("elsewhere.db")).unwrap();
    assert!(matches!(
        bench.store.maintain(10),
        Err(EngineError::Moved { .. })
    ));
    assert!(matches!(
        bench.store.enqueue(vec![job()]),
        Err(EngineError::Moved { .. })
    ));
    // The log is still in use by the old file: a new one in its place would destroy it.
    let refused = SqliteStore::open(SqliteOptions::file(&path)).err().unwrap();
    assert!(refused.to_string().contains("its log"), "{refused}");
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(bench.folder.path().join(format!("jobs.db{ending}"))).unwrap();
    }
    let fresh = SqliteStore::open(SqliteOptions::file(&path)).unwrap();
    fresh.enqueue(vec![job()]).unwrap();
    assert!(matches!(
        bench.store.enqueue(vec![job()]),
        Err(EngineError::Moved { .. })
    ));
}

#[test]
fn a_lock_held_elsewhere_is_waited_for_and_then_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let patient = SqliteOptions {
        busy_timeout: Duration::from_millis(300),
        ..SqliteOptions::file(&path)
    };
    let store = SqliteStore::open(patient).unwrap();
    // A connection of the same library: its locks are other descriptors' to ours.
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    assert!(matches!(
        store.enqueue(vec![job()]),
        Err(EngineError::Busy { .. })
    ));
    assert!(began.elapsed() >= Duration::from_millis(300));
    holder.execute_batch("ROLLBACK").unwrap();
    store.enqueue(vec![job()]).unwrap();
    assert_eq!(store.counts().unwrap()[0].count, 1);
}

#[test]
fn callers_that_wait_together_are_committed_together_and_none_is_lost() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = Arc::clone(&bench.store);
            scope.spawn(move || {
                for index in 0..200 {
                    // Every tenth is refused, which must not disturb those it shares a commit with.
                    let unknown = taskito_engine::id::JobId([9; 16]);
                    let depends_on = if index % 10 == 0 {
                        vec![taskito_engine::model::Dependency::id(unknown)]
                    } else {
                        Vec::new()
                    };
                    let answer = store.enqueue(vec![NewJob {
                        depends_on,
                        ..job()
                    }]);
                    assert_eq!(answer.is_err(), index % 10 == 0, "thread {thread}");
                }
            });
        }
    });
    assert_eq!(bench.store.counts().unwrap()[0].count, 8 * 180);
    bench.store.check().unwrap();
}

#[test]
fn many_workers_take_each_job_once() {
    let bench = Bench::new();
    bench.store.enqueue(vec![job(); 2_000]).unwrap();
    let workers: Vec<_> = (0..4).map(|_| bench.worker()).collect();
    std::thread::scope(|scope| {
        for worker in &workers {
            let bench = &bench;
            scope.spawn(move || {
                loop {
                    let claimed = bench.claim(worker, 7);
                    if claimed.is_empty() {
                        break;
                    }
                    for claimed in claimed {
                        assert_eq!(bench.settle(worker, &claimed, success()), Verdict::Ok);
                    }
                }
            });
        }
    });
    let counts = bench.store.counts().unwrap();
    assert_eq!(
        (counts.len(), counts[0].state, counts[0].count),
        (1, State::Complete, 2_000)
    );
    bench.store.check().unwrap();
}

#[test]
fn a_change_wakes_who_waits_and_time_alone_does_not() {
    let bench = Bench::new();
    let seen = bench.store.wait(0, Duration::ZERO).unwrap();
    let began = Instant::now();
    assert_eq!(
        bench.store.wait(seen, Duration::from_millis(50)).unwrap(),
        seen
    );
    assert!(began.elapsed() >= Duration::from_millis(50));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| bench.store.wait(seen, Duration::from_secs(30)).unwrap());
        bench.enqueue(job());
        assert!(waiter.join().unwrap() > seen);
    });
}

#[test]
fn a_store_in_memory_is_private() {
    let first = SqliteStore::open(SqliteOptions::memory()).unwrap();
    let second = SqliteStore::open(SqliteOptions::memory()).unwrap();
    first.enqueue(vec![job()]).unwrap();
    assert_eq!(first.counts().unwrap().len(), 1);
    assert!(second.counts().unwrap().is_empty());
    first.check().unwrap();
}

#[test]
fn the_descriptors_of_a_deleted_file_are_closed_when_nobody_uses_it() {
    let open_descriptors = |part: &str| {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter_map(|link| std::fs::read_link(link.unwrap().path()).ok())
            .filter(|target| target.to_string_lossy().contains(part))
            .count()
    };
    let bench = Bench::new();
    bench.enqueue(job());
    let folder = bench.folder.path().to_string_lossy().into_owned();
    assert!(open_descriptors(&folder) > 0);
    drop(bench);
    // The registry looks for files without a name whenever it opens one.
    let _other = Bench::new();
    assert_eq!(open_descriptors(&folder), 0);
}
