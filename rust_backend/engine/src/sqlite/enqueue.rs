//! Accepting jobs: a whole batch in one atom.
//!
//! Everything is read and checked first, item by item, against the store and the items before it;
//! only then is anything written.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::edges::{self, Edge, Fate};
use super::failure::Outcome;
use super::lanes::Lane;
use super::place::{self, Body};
use super::schema::key;
use super::transaction::Transaction;
use super::workflows;
use crate::error::EngineError;
use crate::id::{JobId, MAX_SEQUENCE};
use crate::model::{Dependency, Enqueued, MAX_PRIORITY, MIN_PRIORITY, NewJob, Target};
use crate::transitions::State;

/// The longest name of a task or a queue, in characters.
const NAME_LIMIT: usize = 255;
/// Due times must fit into the 48 bits that the order of ready jobs has for them.
pub(super) const TIME_LIMIT: i64 = 1 << 47;

/// A job that another one waits for, as far as it is known while planning.
#[derive(Debug, Clone)]
enum Parent {
    Stored {
        seq: i64,
        state: State,
    },
    /// An item of this batch that is going to be stored.
    Planned(usize),
}

/// What is going to happen to one item.
enum Plan {
    Duplicate(Known),
    /// `fate`: what the present states of its parents make of it.
    Store {
        parents: Vec<(Parent, Dependency)>,
        fate: Fate,
    },
}

/// A job that holds a key: already stored, or an earlier item of the batch.
#[derive(Clone, Copy)]
enum Known {
    Stored(JobId),
    Item(usize),
}

/// What the writing step knows of each item it has passed.
struct Written {
    seq: i64,
    id: JobId,
}

/// Refuse what no store could keep.
pub(super) fn validate(jobs: &[NewJob]) -> Result<(), EngineError> {
    for (index, job) in jobs.iter().enumerate() {
        let fail = |field: &str, problem: String| {
            Err(EngineError::invalid(
                format!("item {index}: {field}"),
                problem,
            ))
        };
        for (field, name) in [
            ("task", &job.task),
            ("queue", &job.queue),
            ("serializer", &job.serializer),
        ] {
            if let Some(problem) = name_problem(name) {
                return fail(field, problem);
            }
        }
        if !(MIN_PRIORITY..=MAX_PRIORITY).contains(&job.priority) {
            return fail(
                "priority",
                format!(
                    "{} is not between {MIN_PRIORITY} and {MAX_PRIORITY}",
                    job.priority
                ),
            );
        }
        let amounts = [
            ("delay_ms", Some(job.delay_ms)),
            ("eta_ms", job.eta_ms),
            ("expires_in_ms", job.expires_in_ms),
            ("expires_at_ms", job.expires_at_ms),
            ("max_retries", Some(job.max_retries)),
            ("max_crashes", Some(job.max_crashes)),
            ("timeout_ms", Some(job.timeout_ms)),
            ("result_ttl_ms", job.result_ttl_ms),
        ];
        for (field, value) in amounts {
            if let Some(value) = value.filter(|value| !(0..TIME_LIMIT).contains(value)) {
                return fail(
                    field,
                    format!("{value} is not between 0 and {}", TIME_LIMIT - 1),
                );
            }
        }
        if job.eta_ms.is_some() && job.delay_ms != 0 {
            return fail("eta_ms", "give it or delay_ms, not both".to_owned());
        }
        if job.expires_in_ms.is_some() && job.expires_at_ms.is_some() {
            return fail(
                "expires_at_ms",
                "give it or expires_in_ms, not both".to_owned(),
            );
        }
        if let Some(problem) = job.workflow.as_deref().and_then(name_problem) {
            return fail("workflow", problem);
        }
        for (field, value) in [
            ("unique_key", &job.unique_key),
            ("idempotency_key", &job.idempotency_key),
            ("concurrency_key", &job.concurrency_key),
        ] {
            if let Some(problem) = value.as_deref().and_then(key_problem) {
                return fail(field, problem);
            }
        }
        for dependency in &job.depends_on {
            if let Target::Earlier(position) = dependency.on
                && position >= index
            {
                return fail(
                    "depends_on",
                    format!("{position} is not an earlier item of the batch"),
                );
            }
        }
    }
    Ok(())
}

/// Why a task or a queue cannot have this name.
pub(super) fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() || name.chars().count() > NAME_LIMIT {
        Some(format!(
            "{:?} must have 1 to {NAME_LIMIT} characters, it has {}",
            shown(name),
            name.chars().count()
        ))
    } else if name.chars().any(char::is_control) {
        Some(format!("{:?} contains a control character", shown(name)))
    } else {
        None
    }
}

fn key_problem(key: &str) -> Option<String> {
    (key.is_empty() || key.len() > 1_024).then(|| {
        format!(
            "{:?} must have 1 to 1024 bytes, it has {}",
            shown(key),
            key.len()
        )
    })
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Store a validated batch.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
    jobs: &[NewJob],
) -> Outcome<Vec<Enqueued>> {
    let known = super::transaction::namespace(transaction.connection, namespace)?;
    let plans = Planner {
        transaction,
        namespace: known,
        keys: HashMap::new(),
        ids: HashMap::new(),
    }
    .plan(jobs)?;
    let namespace = super::transaction::ensure_namespace(transaction.connection, namespace)?;
    let mut written: Vec<Option<Written>> = Vec::with_capacity(jobs.len());
    let mut answers: Vec<Enqueued> = Vec::with_capacity(jobs.len());
    for (job, plan) in jobs.iter().zip(plans) {
        match plan {
            Plan::Duplicate(known) => {
                let id = match known {
                    Known::Stored(id) => id,
                    Known::Item(index) => answers[index].id,
                };
                answers.push(Enqueued {
                    id,
                    duplicate: true,
                });
                written.push(None);
            }
            Plan::Store { parents, fate } => {
                let stored = store(
                    transaction,
                    namespace,
                    now_ms,
                    random(),
                    job,
                    &Place {
                        parents: &parents,
                        fate,
                        written: &written,
                    },
                )?;
                answers.push(Enqueued {
                    id: stored.id,
                    duplicate: false,
                });
                written.push(Some(stored));
            }
        }
    }
    Ok(answers)
}

/// Checks a batch without writing anything.
struct Planner<'a, 'b> {
    transaction: &'a Transaction<'b>,
    namespace: Option<i64>,
    keys: HashMap<(i64, String), Known>,
    ids: HashMap<JobId, usize>,
}

impl Planner<'_, '_> {
    fn plan(mut self, jobs: &[NewJob]) -> Outcome<Vec<Plan>> {
        let mut plans: Vec<Plan> = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let parents = self.parents(job, &plans)?;
            if let Some(known) = self.holder(job)? {
                plans.push(Plan::Duplicate(known));
            } else {
                let fate =
                    Fate::of(parents.iter().map(|(parent, dependency)| {
                        (dependency.condition, state_of(parent, &plans))
                    }));
                self.claim_keys(job, index, fate.is_over());
                plans.push(Plan::Store { parents, fate });
            }
        }
        Ok(plans)
    }

    /// Who already holds the id or one of the keys of this item.
    fn holder(&self, job: &NewJob) -> Outcome<Option<Known>> {
        if let Some(id) = job.id {
            if let Some(index) = self.ids.get(&id) {
                return Ok(Some(Known::Item(*index)));
            }
            if let Some(namespace) = self.namespace
                && place::find(self.transaction.connection, namespace, id)?.is_some()
            {
                return Ok(Some(Known::Stored(id)));
            }
        }
        for (kind, value) in keys(job) {
            if let Some(known) = self.keys.get(&(kind, value.to_owned())) {
                return Ok(Some(*known));
            }
            let Some(namespace) = self.namespace else {
                continue;
            };
            let held: Option<[u8; 16]> = self
                .transaction
                .connection
                .prepare_cached(
                    "SELECT job.id FROM held_key JOIN job ON job.seq = held_key.seq
                     WHERE namespace = ?1 AND kind = ?2 AND key = ?3",
                )?
                .query_row(params![namespace, kind, value], |row| row.get(0))
                .optional()?;
            if let Some(id) = held {
                return Ok(Some(Known::Stored(JobId(id))));
            }
        }
        Ok(None)
    }

    fn claim_keys(&mut self, job: &NewJob, index: usize, lost: bool) {
        for (kind, value) in keys(job) {
            if lost && kind == key::UNIQUE {
                // Free again before the next item is looked at.
                continue;
            }
            self.keys
                .insert((kind, value.to_owned()), Known::Item(index));
        }
        if let Some(id) = job.id {
            self.ids.insert(id, index);
        }
    }

    fn parents(&self, job: &NewJob, plans: &[Plan]) -> Outcome<Vec<(Parent, Dependency)>> {
        let mut parents = Vec::with_capacity(job.depends_on.len());
        for dependency in &job.depends_on {
            let parent = match dependency.on {
                Target::Earlier(index) => match &plans[index] {
                    Plan::Store { .. } | Plan::Duplicate(Known::Item(_)) => {
                        Parent::Planned(origin(plans, index))
                    }
                    Plan::Duplicate(Known::Stored(id)) => self.stored(*id)?,
                },
                Target::Id(id) => match self.ids.get(&id) {
                    Some(index) => Parent::Planned(*index),
                    None => self.stored(id)?,
                },
            };
            parents.push((parent, *dependency));
        }
        Ok(parents)
    }

    fn stored(&self, id: JobId) -> Outcome<Parent> {
        let unknown = || EngineError::UnknownJob {
            field: "depends_on",
            id: id.to_string(),
        };
        let connection = self.transaction.connection;
        let namespace = self.namespace.ok_or_else(unknown)?;
        let seq = place::find(connection, namespace, id)?.ok_or_else(unknown)?;
        let body = place::body(connection, seq)?.ok_or_else(unknown)?;
        let state = place::locate(connection, &body)?.state();
        Ok(Parent::Stored { seq, state })
    }
}

fn state_of(parent: &Parent, plans: &[Plan]) -> State {
    match parent {
        Parent::Stored { state, .. } => *state,
        Parent::Planned(index) => match plans[*index] {
            Plan::Store { fate, .. } if fate.is_over() => State::Cancelled,
            _ => State::Ready,
        },
    }
}

/// The item that really is stored for an item that may be a duplicate of an earlier one.
fn origin(plans: &[Plan], index: usize) -> usize {
    match plans[index] {
        Plan::Duplicate(Known::Item(earlier)) => earlier,
        _ => index,
    }
}

fn keys(job: &NewJob) -> impl Iterator<Item = (i64, &str)> {
    let unique = job.unique_key.as_deref().map(|value| (key::UNIQUE, value));
    let idempotency = job
        .idempotency_key
        .as_deref()
        .map(|value| (key::IDEMPOTENCY, value));
    unique.into_iter().chain(idempotency)
}

fn store(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    now_ms: i64,
    random: u64,
    job: &NewJob,
    place: &Place<'_>,
) -> Outcome<Written> {
    let connection = transaction.connection;
    let seq = transaction.next_sequence()?;
    debug_assert!(seq <= MAX_SEQUENCE);
    let id = job.id.unwrap_or_else(|| JobId::new(now_ms, seq, random));
    let lane = transaction.lanes.number(
        connection,
        Lane {
            namespace,
            queue: job.queue.clone(),
            task: job.task.clone(),
            keyed: job.concurrency_key.is_some(),
        },
    )?;
    let edges = place.edges();
    let due_ms = first_due(job, place.fate, now_ms);
    let (inputs, on_failure) = edges::needs(&edges);
    let workflow = match &job.workflow {
        Some(name) => Some(workflows::ensure(connection, namespace, name, now_ms)?),
        None => None,
    };
    let expires_ms = job
        .expires_at_ms
        .or_else(|| job.expires_in_ms.map(|after| now_ms.saturating_add(after)));
    connection
        .prepare_cached(
            "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                                     ?15, ?16, NULL, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)",
        )?
        .execute(params![
            seq,
            id.0,
            lane,
            job.priority,
            now_ms,
            due_ms,
            job.delay_ms,
            job.max_retries,
            job.max_crashes,
            job.timeout_ms,
            expires_ms,
            job.result_ttl_ms,
            job.unique_key,
            job.unique_until_start,
            job.idempotency_key,
            job.concurrency_key,
            job.fire.as_ref().map(|fire| &fire.schedule),
            job.fire.as_ref().map(|fire| fire.at_ms),
            inputs,
            on_failure,
            workflow,
            job.serializer,
            job.metadata.as_deref(),
            &job.payload[..],
        ])?;
    write_keys(transaction, namespace, seq, job)?;
    edges::insert(connection, seq, &edges)?;
    if let Some(workflow) = workflow {
        workflows::join(connection, workflow, seq)?;
    }
    let body = Body {
        seq,
        id,
        lane,
        priority: job.priority,
        created_ms: now_ms,
        due_ms,
        delay_ms: job.delay_ms,
        max_crashes: job.max_crashes,
        expires_ms,
        result_ttl_ms: job.result_ttl_ms,
        unique_key: job.unique_key.clone(),
        unique_until_start: job.unique_until_start,
        concurrency_key: job.concurrency_key.clone(),
        inputs,
        on_failure,
        detour: None,
    };
    let reason = place.reason(transaction, &edges)?;
    transaction.settle_in(&body, place.fate, due_ms, now_ms, &reason)?;
    Ok(Written { seq, id })
}

/// When a new job may start, as far as is known.
fn first_due(job: &NewJob, fate: Fate, now_ms: i64) -> i64 {
    match job.eta_ms {
        Some(eta) => eta.max(now_ms),
        // A delay of a job with parents counts from the end of the last one.
        None if matches!(fate, Fate::Waits(_)) => now_ms,
        None => now_ms.saturating_add(job.delay_ms).min(TIME_LIMIT),
    }
}

fn write_keys(
    transaction: &Transaction<'_>,
    namespace: i64,
    seq: i64,
    job: &NewJob,
) -> Outcome<()> {
    for (kind, value) in keys(job) {
        transaction
            .connection
            .prepare_cached("INSERT INTO held_key VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![namespace, kind, value, seq])?;
    }
    if let Some(id) = job.id {
        transaction
            .connection
            .prepare_cached("INSERT INTO given_id VALUES (?1, ?2, ?3)")?
            .execute(params![namespace, id.0, seq])?;
    }
    Ok(())
}

/// Where a new job stands among the jobs that it waits for.
struct Place<'a> {
    parents: &'a [(Parent, Dependency)],
    fate: Fate,
    written: &'a [Option<Written>],
}

impl Place<'_> {
    fn edges(&self) -> Vec<Edge> {
        self.parents
            .iter()
            .filter_map(|(parent, dependency)| {
                let parent = match parent {
                    Parent::Stored { seq, .. } => *seq,
                    Parent::Planned(index) => self.written.get(*index)?.as_ref()?.seq,
                };
                Some(Edge {
                    parent,
                    condition: dependency.condition,
                    input: dependency.input,
                })
            })
            .collect()
    }

    /// Why the job can never run, if one of its parents rules it out.
    fn reason(&self, transaction: &Transaction<'_>, edges: &[Edge]) -> Outcome<String> {
        let Fate::Lost(position) = self.fate else {
            return Ok(String::new());
        };
        edges::blame_parent(transaction.connection, edges[position].parent)
    }
}
