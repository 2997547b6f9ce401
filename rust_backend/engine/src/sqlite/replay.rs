//! Running finished jobs again, as new jobs with the same body.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::edges::{self, Edge, Fate};
use super::failure::Outcome;
use super::place::{self, final_code};
use super::transaction::{self, Transaction};
use super::workflows;
use crate::id::JobId;
use crate::model::ReplayRequest;
use crate::transitions::State;

/// Enqueue finished jobs again; `None` where that is not possible.
///
/// What a job takes as input, it takes again. Of what else it waited for, only the jobs of the same
/// request count: the new job waits for their new runs.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    request: &ReplayRequest,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<Vec<Option<JobId>>> {
    let nothing = vec![None; request.ids.len()];
    let Some(namespace) = transaction::namespace(transaction.connection, namespace)? else {
        return Ok(nothing);
    };
    if request.once {
        for id in &request.ids {
            if find(transaction.connection, namespace, *id, request)?.is_none() {
                return Ok(nothing);
            }
        }
    }
    let mut renewed = HashMap::new();
    let mut answers = Vec::with_capacity(request.ids.len());
    for id in &request.ids {
        let old = find(transaction.connection, namespace, *id, request)?;
        answers.push(match old {
            Some(old) => Some(one(
                transaction,
                &mut renewed,
                namespace,
                old,
                now_ms,
                random(),
            )?),
            None => None,
        });
    }
    Ok(answers)
}

/// The row of a job that can be run again as the request wants it.
fn find(
    connection: &Connection,
    namespace: i64,
    id: JobId,
    request: &ReplayRequest,
) -> Outcome<Option<i64>> {
    let Some(seq) = place::find(connection, namespace, id)? else {
        return Ok(None);
    };
    let finished: Option<(i64, bool, i64)> = connection
        .prepare_cached(
            "SELECT state, replayed IS NOT NULL, inputs FROM done JOIN job ON job.seq = done.seq
             WHERE done.seq = ?1",
        )?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((state, is_replayed, inputs)) = finished else {
        return Ok(None);
    };
    if is_replayed && (request.once || request.dead_only)
        || request.dead_only && state != final_code(State::Dead)
    {
        return Ok(None);
    }
    if inputs > 0 {
        let (kept, _) = edges::needs(&edges::of_child(connection, seq)?);
        if kept < inputs {
            return Ok(None);
        }
    }
    Ok(Some(seq))
}

fn one(
    transaction: &mut Transaction<'_>,
    renewed: &mut HashMap<i64, i64>,
    namespace: i64,
    old: i64,
    now_ms: i64,
    random: u64,
) -> Outcome<JobId> {
    let connection = transaction.connection;
    let mut kept: Vec<Edge> = Vec::new();
    for edge in edges::of_child(connection, old)? {
        let parent = match renewed.get(&edge.parent) {
            Some(parent) => *parent,
            None if edge.input => latest(connection, namespace, edge.parent)?,
            None => continue,
        };
        kept.push(Edge { parent, ..edge });
    }
    let mut states = Vec::with_capacity(kept.len());
    for edge in &kept {
        let state = match place::body(connection, edge.parent)? {
            Some(body) => place::locate(connection, &body)?.state(),
            None => State::Cancelled,
        };
        states.push((edge.condition, state));
    }
    let fate = Fate::of(states.into_iter());
    let (_, on_failure) = edges::needs(&kept);
    let seq = transaction.next_sequence()?;
    let new = JobId::new(now_ms, seq, random);
    // Keys stay with the old job: the new one is asked for by name, it cannot be a duplicate.
    connection
        .prepare_cached(
            "INSERT INTO job SELECT ?2, ?3, lane, priority, ?4, ?4, 0, max_retries, max_crashes,
                    timeout_ms, NULL, result_ttl_ms, NULL, 0, NULL, concurrency_key, id, schedule, fire_ms, inputs, ?5,
                    workflow, serializer, metadata, payload
             FROM job WHERE seq = ?1",
        )?
        .execute(params![old, seq, new.0, now_ms, on_failure])?;
    connection
        .prepare_cached("UPDATE done SET replayed = ?2 WHERE seq = ?1")?
        .execute(params![old, new.0])?;
    edges::insert(connection, seq, &kept)?;
    let workflow: Option<i64> = connection
        .prepare_cached("SELECT workflow FROM job WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    if let Some(workflow) = workflow {
        workflows::join(connection, workflow, seq)?;
    }
    renewed.insert(old, seq);
    if let Some(body) = place::body(connection, seq)? {
        let reason = match fate {
            Fate::Lost(position) => edges::blame_parent(connection, kept[position].parent)?,
            _ => String::new(),
        };
        transaction.settle_in(&body, fate, now_ms, now_ms, &reason)?;
    }
    Ok(new)
}

/// The job that runs this one again, and again, if it is still stored; else the job itself.
fn latest(connection: &Connection, namespace: i64, seq: i64) -> Outcome<i64> {
    let mut last = seq;
    loop {
        let replayed: Option<[u8; 16]> = connection
            .prepare_cached("SELECT replayed FROM done WHERE seq = ?1")?
            .query_row([last], |row| row.get(0))
            .optional()?
            .flatten();
        match replayed {
            Some(id) => match place::find(connection, namespace, JobId(id))? {
                Some(next) if next > last => last = next,
                _ => return Ok(last),
            },
            None => return Ok(last),
        }
    }
}
