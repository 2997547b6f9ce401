//! The defence against another SQLite library in the same process.
//!
//! What the other library does to the locks, a plain open and close of the file does as well.

mod platform_roles;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use platform_roles::{Process, play, say, stay, wait_for_word};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use taskito_engine::platform::{Guard, install};

#[test]
fn play_role() {
    play(&[
        ("defended writer", |folder| write_fifty(folder, true)),
        ("undefended writer", |folder| write_fifty(folder, false)),
        ("defended holder", |folder| {
            hold_the_write_lock(folder, true);
        }),
        ("undefended holder", |folder| {
            hold_the_write_lock(folder, false);
        }),
        ("busy writer", keep_writing),
        ("visitor", visit),
        ("older visitor", visit_as_an_older_sqlite),
        ("try to write", try_to_write),
        ("count", count),
    ]);
}

fn open(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("queue.db")).expect("open");
    connection
        .busy_timeout(std::time::Duration::from_secs(20))
        .expect("timeout");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
             CREATE TABLE IF NOT EXISTS job(id INTEGER PRIMARY KEY, writer INTEGER) STRICT;",
        )
        .expect("prepare");
    connection
}

/// Opens as the engine does, or as if it had no defence.
fn open_as_engine(folder: &Path, defended: bool) -> (Connection, Option<Guard>) {
    #[cfg(feature = "failpoints")]
    if !defended {
        taskito_engine::platform::disable_defence_for_tests();
    }
    if defended || cfg!(feature = "failpoints") {
        install().expect("install");
    }
    let connection = open(folder);
    let guard = (defended || cfg!(feature = "failpoints"))
        .then(|| Guard::acquire(&folder.join("queue.db")).expect("guard"));
    (connection, guard)
}

/// What another library does to the locks of this process.
fn open_and_close(folder: &Path) {
    for name in ["queue.db", "queue.db-shm", "queue.db-wal"] {
        drop(File::open(folder.join(name)).expect("open"));
    }
}

fn write_fifty(folder: &Path, defended: bool) {
    let (connection, _guard) = open_as_engine(folder, defended);
    open_and_close(folder);
    say("ready");
    wait_for_word();
    for _ in 0..50 {
        connection
            .execute("INSERT INTO job(writer) VALUES (0)", [])
            .expect("an acknowledged insert");
    }
    say("done");
    stay();
}

fn hold_the_write_lock(folder: &Path, defended: bool) {
    let (mut connection, _guard) = open_as_engine(folder, defended);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .expect("begin");
    open_and_close(folder);
    say("held");
    wait_for_word();
    transaction.rollback().expect("rollback");
    say("free");
    stay();
}

fn try_to_write(folder: &Path) {
    let connection = Connection::open(folder.join("queue.db")).expect("open");
    connection
        .busy_timeout(std::time::Duration::ZERO)
        .expect("timeout");
    match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => say("free"),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => say("busy"),
        Err(error) => say(&error.to_string()),
    }
    std::mem::forget(connection);
}

fn keep_writing(folder: &Path) {
    let (connection, _guard) = open_as_engine(folder, true);
    let writer = std::process::id();
    for number in 0.. {
        connection
            .execute("INSERT INTO job(writer) VALUES (?1)", [writer])
            .expect("an acknowledged insert");
        open_and_close(folder);
        say(&format!("{number}"));
    }
}

/// Another program: opens, reads, and closes as if it were the last one.
fn visit(folder: &Path) {
    let connection = Connection::open(folder.join("queue.db")).expect("open");
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM job", [], |row| row.get(0))
        .expect("count");
    drop(connection);
    say(&format!("{rows} rows"));
}

/// Another program with an SQLite older than ours: on the last close it takes the exclusive lock,
/// asks nobody about the `-shm` file (ours would), writes the WAL back and deletes it.
#[expect(unsafe_code, reason = "fcntl has no safe interface")]
fn visit_as_an_older_sqlite(folder: &Path) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(folder.join("queue.db"))
        .expect("open");
    // SAFETY: the lock outlives the call; zero is a value for each of its fields.
    let answer = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::c_short::try_from(libc::F_WRLCK).expect("a small number");
        lock.l_start = 0x4000_0002;
        lock.l_len = 510;
        libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock)
    };
    if answer == 0 {
        for name in ["queue.db-wal", "queue.db-shm"] {
            std::fs::remove_file(folder.join(name)).expect("delete");
        }
        say("deleted the WAL");
    } else {
        say("not the last one");
    }
}

fn count(folder: &Path) {
    let connection = open(folder);
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("check");
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM job", [], |row| row.get(0))
        .expect("count");
    say(&format!("{rows} rows, {check}"));
}

fn rows_after_a_visit(writer: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = Process::start(writer, folder.path());
    assert_eq!(writer.hear(), "ready");
    assert_eq!(Process::ask("visitor", folder.path()), "0 rows");
    writer.tell();
    assert_eq!(writer.hear(), "done");
    let while_open = Process::ask("visitor", folder.path());
    writer.kill();
    let after = Process::ask("count", folder.path());
    assert!(after.starts_with(&while_open), "{while_open}, then {after}");
    after
}

#[test]
fn fifty_inserts_survive_a_visitor_with_the_defence() {
    assert_eq!(rows_after_a_visit("defended writer"), "50 rows, ok");
}

#[test]
fn fifty_inserts_are_lost_without_the_defence() {
    assert_eq!(rows_after_a_visit("undefended writer"), "0 rows, ok");
}

#[test]
fn an_older_sqlite_cannot_delete_the_wal_while_a_guard_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = Process::start("defended writer", folder.path());
    assert_eq!(writer.hear(), "ready");
    assert_eq!(
        Process::ask("older visitor", folder.path()),
        "not the last one"
    );
    writer.tell();
    assert_eq!(writer.hear(), "done");
    writer.kill();
    assert_eq!(Process::ask("count", folder.path()), "50 rows, ok");
}

#[test]
fn an_older_sqlite_deletes_the_wal_without_the_defence() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = Process::start("undefended writer", folder.path());
    assert_eq!(writer.hear(), "ready");
    assert_eq!(
        Process::ask("older visitor", folder.path()),
        "deleted the WAL"
    );
}

#[test]
fn the_write_lock_stays_through_a_foreign_close_with_the_defence() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut holder = Process::start("defended holder", folder.path());
    assert_eq!(holder.hear(), "held");
    assert_eq!(Process::ask("try to write", folder.path()), "busy");
    holder.tell();
    assert_eq!(holder.hear(), "free");
    assert_eq!(Process::ask("try to write", folder.path()), "free");
}

#[test]
fn the_write_lock_is_lost_by_a_foreign_close_without_the_defence() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut holder = Process::start("undefended holder", folder.path());
    assert_eq!(holder.hear(), "held");
    assert_eq!(Process::ask("try to write", folder.path()), "free");
}

#[test]
fn nothing_acknowledged_is_lost_among_writers_visitors_and_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writers: Vec<Process> = (0..3)
        .map(|_| Process::start("busy writer", folder.path()))
        .collect();
    let mut acknowledged = 0;
    for round in 0..6 {
        for writer in &mut writers {
            for _ in 0..30 {
                writer.hear();
                acknowledged += 1;
            }
        }
        Process::ask("visitor", folder.path());
        let victim = &mut writers[round % 3];
        victim.kill();
        while victim.hear_or_end().is_some() {
            acknowledged += 1;
        }
        *victim = Process::start("busy writer", folder.path());
    }
    for writer in &mut writers {
        writer.kill();
        while writer.hear_or_end().is_some() {
            acknowledged += 1;
        }
    }
    let answer = Process::ask("count", folder.path());
    let (rows, check) = answer.split_once(" rows, ").expect("an answer");
    assert_eq!(check, "ok");
    let rows: usize = rows.parse().expect("a number");
    // At most one insert of each of the nine processes was committed and not yet said.
    assert!(
        (acknowledged..=acknowledged + 9).contains(&rows),
        "{acknowledged} acknowledged, {rows} stored"
    );
}
