//! No statement of the SQLite store reads a whole table, but for the few that are meant to.
//!
//! The statements are taken from the source itself, so a new one is checked without being listed.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use std::fs;
use std::path::Path;

use support::{Bench, job};

/// The statements that may walk a table, and why.
const MEANT: [(&str, &str); 14] = [
    (
        "SELECT seq, lane FROM job WHERE seq < ?1",
        "a listing walks from the newest job",
    ),
    (
        "SELECT done.seq, lane, state, finished_ms FROM done",
        "a purge walks from the oldest job",
    ),
    (
        "SELECT lane, state, n FROM count WHERE n <> 0",
        "one row per task, queue and state",
    ),
    (
        "SELECT min(deadline_ms) FROM running",
        "upkeep looks at what is running",
    ),
    (
        "FROM running LEFT JOIN worker",
        "only when a lease has ended",
    ),
    (
        "FROM running WHERE worker = ?1",
        "only when a worker leaves or a suspect comes up",
    ),
    (
        "WHERE running.started_ms IS NULL",
        "only while somebody waits for a pause",
    ),
    (
        "FROM dead_letter_limit",
        "a row per namespace with such a limit",
    ),
    (
        "SELECT lane, n FROM count WHERE state = ?1",
        "one row per task, queue and state",
    ),
    (
        "FROM named_lock WHERE deadline_ms <= ?1",
        "a row per lock, and upkeep is at work anyway",
    ),
    ("FROM worker", "a row per worker process"),
    (
        "FROM waiting_fire",
        "only fires that wait for the end of a job, a thousand of a schedule at most",
    ),
    ("SELECT parent FROM cascade LIMIT 1", "at most a few rows"),
    (
        "seq NOT IN (SELECT parent FROM cascade)",
        "at most a few rows",
    ),
];

#[test]
fn every_statement_seeks() {
    let bench = Bench::new();
    bench.enqueue(job());
    let connection = rusqlite::Connection::open(bench.folder.path().join("jobs.db")).unwrap();
    let statements = statements();
    assert!(
        statements.len() > 60,
        "only {} statements were found",
        statements.len()
    );
    for statement in statements {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        let count = plan.parameter_count();
        let parameters = vec![rusqlite::types::Null; count];
        let steps: Vec<String> = plan
            .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let scans = steps
            .iter()
            .any(|step| step.starts_with("SCAN") && step != "SCAN CONSTANT ROW");
        let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE"));
        let meant = MEANT.iter().any(|(part, _)| statement.contains(part));
        assert!(!(scans || sorts) || meant, "{statement}\n{steps:#?}");
    }
}

/// The string literals that are handed to `prepare_cached` in the store's source.
fn statements() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in source.split("prepare_cached(").skip(1) {
            let part = part.trim_start();
            if let Some(literal) = part.strip_prefix('"') {
                let text: String = literal[..literal.find('"').unwrap()].to_owned();
                let words: Vec<&str> = text.split_whitespace().collect();
                let upper = words[0].to_uppercase();
                if ["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&upper.as_str()) {
                    found.push(words.join(" "));
                }
            }
        }
    }
    found
}
