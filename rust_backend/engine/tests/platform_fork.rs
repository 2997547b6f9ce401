//! What a forked child inherits, and what it must not.

mod platform_roles;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use platform_roles::{Process, end_after, play, say, signal, stay};
use rusqlite::{Connection, ErrorCode};
use taskito_engine::platform::{
    Bell, Guard, Liveness, LivenessFile, fork_generation, install, probe, process_is_forked_child,
};

const WORKER: &str = "0197-ab";

#[test]
fn play_role() {
    play(&[
        ("worker", hold_everything),
        #[cfg(feature = "failpoints")]
        ("undefended worker", |folder| {
            taskito_engine::platform::disable_defence_for_tests();
            hold_everything(folder);
        }),
        ("write now", write_now),
        ("reopen in a child", reopen_in_a_child),
        ("fork while busy", fork_while_busy),
    ]);
}

fn open(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("queue.db")).expect("open");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS job(id INTEGER PRIMARY KEY);",
        )
        .expect("prepare");
    connection.busy_timeout(Duration::ZERO).expect("timeout");
    connection
}

/// Forks; answers the child's process id, or zero in the child.
#[expect(unsafe_code, reason = "fork has no safe interface")]
fn fork() -> i32 {
    // SAFETY: the child uses what may be used after a fork of one thread among others: the
    // allocator, which the C library prepares for forks, and the engine's own parts, which is
    // what the tests are about. It ends with `leave`.
    let answer = unsafe { libc::fork() };
    assert!(answer >= 0, "fork");
    answer
}

/// Ends a forked child without running what belongs to its parent.
#[expect(unsafe_code, reason = "_exit has no safe interface")]
fn leave(code: i32) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(code) }
}

#[expect(unsafe_code, reason = "waitpid has no safe interface")]
fn exit_code_of(child: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let answer = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(answer, child, "waitpid");
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// A worker that is killed inside a commit, after its task forked a child that goes on.
fn hold_everything(folder: &Path) {
    install().expect("install");
    let connection = open(folder);
    let _guard = Guard::acquire(&folder.join("queue.db")).expect("guard");
    let liveness = LivenessFile::create(folder, WORKER).expect("liveness");
    liveness.set(3, 41);
    liveness.set(4, 42);
    liveness.clear(3);
    connection
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO job DEFAULT VALUES;")
        .expect("begin");
    let child = fork();
    if child == 0 {
        // An alarm is not inherited; without one of its own a failed test would leave it behind.
        end_after(60);
        say("the child sleeps");
        stay();
    }
    say(&format!("{child}"));
    stay();
}

fn write_now(folder: &Path) {
    install().expect("install");
    let connection = open(folder);
    let answer =
        connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO job DEFAULT VALUES; COMMIT");
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM job", [], |row| row.get(0))
        .expect("count");
    say(&format!("{answer:?}, {rows} rows"));
}

/// Starts the worker; answers it and the process id of the child that it forked.
fn start_worker(role: &str, folder: &Path) -> (Process, i32) {
    let mut worker = Process::start(role, folder);
    let mut heard = [worker.hear(), worker.hear()];
    heard.sort();
    assert_eq!(heard[1], "the child sleeps");
    let child = heard[0].parse().expect("a process id");
    (worker, child)
}

#[test]
fn a_sleeping_child_keeps_nothing_of_its_killed_parent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut worker, child) = start_worker("worker", folder.path());
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Alive
    );
    assert!(Process::ask("write now", folder.path()).contains("DatabaseBusy"));
    worker.kill();
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Dead { started: vec![42] }
    );
    assert_eq!(Process::ask("write now", folder.path()), "Ok(()), 1 rows");
    // It was there all the time.
    signal(child, libc::SIGKILL);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_sleeping_child_keeps_the_worker_alive_without_the_defence() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut worker, child) = start_worker("undefended worker", folder.path());
    worker.kill();
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Alive
    );
    signal(child, libc::SIGKILL);
}

/// A child refuses what it inherited, opens anew, and does not believe that it holds the locks
/// of its parent.
fn reopen_in_a_child(folder: &Path) {
    install().expect("install");
    let connection = open(folder);
    let guard = Guard::acquire(&folder.join("queue.db")).expect("guard");
    let liveness = LivenessFile::create(folder, WORKER).expect("liveness");
    let bell = Bell::open(folder).expect("bell");
    let waiter = bell.waiter().expect("waiter");
    let generation = fork_generation();
    connection
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO job DEFAULT VALUES;")
        .expect("begin");
    let child = fork();
    if child == 0 {
        end_after(20);
        assert!(process_is_forked_child(generation));
        assert!(guard.identity().is_err());
        assert!(bell.ring().is_err());
        assert!(waiter.wait(Duration::ZERO).is_err());
        assert!(waiter.interrupt_handle().interrupt().is_err());
        liveness.set(0, 1);
        assert!(liveness.remove().is_err());
        drop((guard, bell, waiter));
        // Neither used nor dropped: it belongs to the parent.
        std::mem::forget(connection);

        install().expect("install");
        let own = open(folder);
        let _guard = Guard::acquire(&folder.join("queue.db")).expect("guard");
        let busy = own.execute_batch("BEGIN IMMEDIATE").expect_err("locked");
        assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        own.busy_timeout(Duration::from_secs(10)).expect("timeout");
        say("the child waits");
        own.execute_batch("INSERT INTO job DEFAULT VALUES")
            .expect("insert");
        leave(7);
    }
    assert!(!process_is_forked_child(generation));
    platform_roles::wait_for_word();
    connection.execute_batch("COMMIT").expect("commit");
    assert_eq!(
        exit_code_of(child),
        Some(7),
        "the child's own report is above"
    );
    assert_eq!(probe(folder, WORKER).expect("probe"), Liveness::Alive);
    bell.ring().expect("ring");
    connection
        .execute_batch("INSERT INTO job DEFAULT VALUES")
        .expect("insert");
    say("done");
}

#[test]
fn a_child_opens_anew_and_holds_no_inherited_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start("reopen in a child", folder.path());
    assert_eq!(process.hear(), "the child waits");
    process.tell();
    assert_eq!(process.hear(), "done");
    process.finish();
    assert_eq!(Process::ask("write now", folder.path()), "Ok(()), 4 rows");
}

/// Children open databases although other threads were inside SQLite at the fork.
fn fork_while_busy(folder: &Path) {
    install().expect("install");
    drop(open(folder));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let own = folder.join(format!("{thread}.db"));
                while !stop.load(Ordering::Relaxed) {
                    let connection = Connection::open(&own).expect("open");
                    connection
                        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA user_version=1;")
                        .expect("use");
                }
            });
        }
        let codes: Vec<Option<i32>> = (0..40)
            .map(|_| {
                let child = fork();
                if child == 0 {
                    end_after(10);
                    let opened = Connection::open(folder.join("queue.db")).and_then(|own| {
                        own.busy_timeout(Duration::from_secs(5))?;
                        own.execute_batch("INSERT INTO job DEFAULT VALUES")
                    });
                    leave(i32::from(opened.is_err()));
                }
                exit_code_of(child)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(codes, vec![Some(0); 40]);
    });
    say("done");
}

#[test]
fn a_fork_while_other_threads_use_sqlite_leaves_it_usable() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(Process::ask("fork while busy", folder.path()), "done");
    assert_eq!(Process::ask("write now", folder.path()), "Ok(()), 41 rows");
}
