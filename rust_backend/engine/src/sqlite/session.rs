//! The workers of this process that have registered with a store.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::dead_letters;
use super::enqueue::TIME_LIMIT;
use super::failure::{Failure, Outcome};
use super::limits;
use super::schedules;
use super::transaction::Transaction;
use crate::error::EngineError;
use crate::model::{Rate, WorkerRegistration};
use crate::platform::LivenessFile;

/// One registered worker.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) row: i64,
    pub(super) namespace: i64,
    pub(super) lease_ms: i64,
    pub(super) liveness: Option<LivenessFile>,
    queues: Option<HashSet<String>>,
    tasks: HashSet<String>,
}

impl Session {
    pub(super) fn new(
        worker: &WorkerRegistration,
        row: i64,
        namespace: i64,
        liveness: Option<LivenessFile>,
    ) -> Self {
        Self {
            id: worker.id.clone(),
            row,
            namespace,
            lease_ms: worker.lease_ms,
            liveness,
            queues: worker
                .queues
                .as_ref()
                .map(|queues| queues.iter().cloned().collect()),
            tasks: worker.tasks.iter().cloned().collect(),
        }
    }

    pub(super) fn serves(&self, queue: &str) -> bool {
        self.queues
            .as_ref()
            .is_none_or(|queues| queues.contains(queue))
    }

    pub(super) fn knows(&self, task: &str) -> bool {
        self.tasks.contains(task)
    }
}

/// Refuse a registration that cannot be kept.
pub(super) fn validate(worker: &WorkerRegistration) -> Result<(), EngineError> {
    let id_is_fine = worker.id.len() == 32
        && worker
            .id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !id_is_fine {
        let problem = format!("{:?} does not consist of 32 hexadecimal digits", worker.id);
        return Err(EngineError::invalid("id", problem));
    }
    if !(1..=86_400_000).contains(&worker.lease_ms) {
        let problem = format!("{} is not between 1 and 86400000", worker.lease_ms);
        return Err(EngineError::invalid("lease_ms", problem));
    }
    for (field, value) in [
        ("dead_letters: ttl_ms", worker.dead_letters.ttl_ms),
        ("dead_letters: most", worker.dead_letters.most),
    ] {
        if let Some(value) = value.filter(|value| !(0..TIME_LIMIT).contains(value)) {
            let problem = format!("{value} is not between 0 and {}", TIME_LIMIT - 1);
            return Err(EngineError::invalid(field, problem));
        }
    }
    for limit in &worker.limits {
        if !worker.tasks.contains(&limit.task) {
            let problem = format!("{:?} is not among the tasks of the worker", limit.task);
            return Err(EngineError::invalid("limits", problem));
        }
        if let Some(problem) = limit.rate.as_ref().and_then(Rate::problem) {
            return Err(EngineError::invalid("rate", problem));
        }
        if let Some(most) = limit.max_concurrent.filter(|most| *most < 1) {
            let problem = format!("{most} is less than 1");
            return Err(EngineError::invalid("max_concurrent", problem));
        }
    }
    let names = worker.tasks.iter().chain(worker.queues.iter().flatten());
    for name in names.chain(&worker.schedules) {
        if let Some(problem) = super::enqueue::name_problem(name) {
            return Err(EngineError::invalid("worker", problem));
        }
    }
    Ok(())
}

/// The error for an id that another worker has, or had.
pub(super) fn taken(id: &str) -> EngineError {
    EngineError::invalid(
        "id",
        format!("{id:?} is taken; every start of a worker needs an id of its own"),
    )
}

/// Write the row of a worker; returns its number and that of the namespace.
pub(super) fn insert(
    transaction: &mut Transaction<'_>,
    worker: &WorkerRegistration,
    namespace: &str,
    now_ms: i64,
    steady_ms: i64,
) -> Outcome<(i64, i64)> {
    let connection = transaction.connection;
    let holder: Option<i64> = connection
        .prepare_cached("SELECT row FROM worker WHERE id = ?1")?
        .query_row([&worker.id], |row| row.get(0))
        .optional()?;
    if holder.is_some() {
        return Err(Failure::Refused(taken(&worker.id)));
    }
    let namespace = super::transaction::ensure_namespace(connection, namespace)?;
    connection
        .prepare_cached(
            "INSERT INTO worker (id, namespace, pid, host, queues, tasks, schedules, started_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            worker.id,
            namespace,
            worker.pid,
            worker.host,
            worker.queues.as_ref().map(|queues| join(queues)),
            join(&worker.tasks),
            join(&worker.schedules),
            now_ms,
        ])?;
    let row = connection.last_insert_rowid();
    dead_letters::announce(transaction, namespace, worker.dead_letters)?;
    limits::announce(
        transaction,
        namespace,
        &worker.tasks,
        &worker.limits,
        steady_ms,
    )?;
    schedules::arrange_named(transaction, namespace, &worker.schedules)?;
    Ok((row, namespace))
}

/// Names hold no control characters, so a line each.
fn join(names: &[String]) -> String {
    names.join("\n")
}

/// The names that `join` put together.
pub(super) fn split(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
