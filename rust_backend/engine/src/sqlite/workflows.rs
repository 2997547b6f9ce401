//! Which jobs are the steps of one workflow, and the list of workflows.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::place;
use super::transaction;
use crate::model::{WorkflowPage, WorkflowRecord};
use crate::transitions::State;

/// The number of a workflow, added if it is new; the caller holds the write transaction.
pub(super) fn ensure(
    connection: &Connection,
    namespace: i64,
    name: &str,
    now_ms: i64,
) -> Outcome<i64> {
    if let Some(id) = find(connection, namespace, name)? {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO workflow (namespace, name, created_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![namespace, name, now_ms])?;
    Ok(connection.last_insert_rowid())
}

/// The number of a workflow that has jobs.
pub(super) fn find(connection: &Connection, namespace: i64, name: &str) -> Outcome<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT id FROM workflow WHERE namespace = ?1 AND name = ?2")?
        .query_row(params![namespace, name], |row| row.get(0))
        .optional()?)
}

/// Make a job a step of a workflow.
pub(super) fn join(connection: &Connection, workflow: i64, seq: i64) -> Outcome<()> {
    connection
        .prepare_cached("INSERT INTO member VALUES (?1, ?2)")?
        .execute([workflow, seq])?;
    Ok(())
}

/// Take a deleted job out of its workflow; one without jobs is forgotten.
pub(super) fn leave(connection: &Connection, workflow: i64, seq: i64) -> Outcome<()> {
    connection
        .prepare_cached("DELETE FROM member WHERE workflow = ?1 AND seq = ?2")?
        .execute([workflow, seq])?;
    connection
        .prepare_cached(
            "DELETE FROM workflow WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM member WHERE workflow = ?1)",
        )?
        .execute([workflow])?;
    Ok(())
}

/// The name of the workflow of a job.
pub(super) fn name(connection: &Connection, seq: i64) -> Outcome<Option<String>> {
    Ok(connection
        .prepare_cached(
            "SELECT name FROM job JOIN workflow ON workflow.id = job.workflow WHERE seq = ?1",
        )?
        .query_row([seq], |row| row.get(0))
        .optional()?)
}

/// One page of workflows, newest first.
pub(super) fn list(
    connection: &Connection,
    namespace: &str,
    limit: usize,
    after: Option<i64>,
) -> Outcome<WorkflowPage> {
    let mut page = WorkflowPage {
        workflows: Vec::new(),
        next: None,
    };
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(page);
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, name, created_ms, namespace FROM workflow WHERE id < ?1 ORDER BY id DESC",
    )?;
    let mut rows = statement.query([after.unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(3)? != number {
            continue;
        }
        let id: i64 = row.get(0)?;
        page.workflows.push(WorkflowRecord {
            id: row.get(1)?,
            created_ms: row.get(2)?,
            counts: counts(connection, id)?,
        });
        if page.workflows.len() >= limit {
            page.next = Some(id);
            break;
        }
    }
    Ok(page)
}

/// One workflow; `None` if it has no jobs.
pub(super) fn get(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Outcome<Option<WorkflowRecord>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(None);
    };
    let Some(id) = find(connection, number, name)? else {
        return Ok(None);
    };
    let created_ms = connection
        .prepare_cached("SELECT created_ms FROM workflow WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    Ok(Some(WorkflowRecord {
        id: name.to_owned(),
        created_ms,
        counts: counts(connection, id)?,
    }))
}

/// How many steps are in each state, without those that were replayed.
fn counts(connection: &Connection, workflow: i64) -> Outcome<Vec<(State, i64)>> {
    let mut counts: Vec<(State, i64)> = Vec::new();
    let mut statement = connection.prepare_cached("SELECT seq FROM member WHERE workflow = ?1")?;
    let mut rows = statement.query([workflow])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let Some(body) = place::body(connection, seq)? else {
            continue;
        };
        let is_replayed: bool = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM done WHERE seq = ?1 AND replayed IS NOT NULL)",
            )?
            .query_row([seq], |row| row.get(0))?;
        if is_replayed {
            continue;
        }
        let state = place::locate(connection, &body)?.state();
        match counts.iter_mut().find(|(of, _)| *of == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    Ok(counts)
}
