//! Named locks: held until their time on the steady clock is over, each under a token of its own.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::transaction::{self, Transaction};
use crate::error::EngineError;
use crate::model::{LockAnswer, LockLease, LockRecord, LockRequest};

/// The longest time that a lock is held without an extension: a day.
const LONGEST_MS: i64 = 86_400_000;

/// Refuse a lock that cannot be kept.
pub(super) fn validate(request: &LockRequest) -> Result<(), EngineError> {
    for (field, name) in [("name", &request.name), ("owner", &request.owner)] {
        if let Some(problem) = super::enqueue::name_problem(name) {
            return Err(EngineError::invalid(field, problem));
        }
    }
    validate_ttl(request.ttl_ms)
}

/// Refuse a time that is none, or too long.
pub(super) fn validate_ttl(ttl_ms: i64) -> Result<(), EngineError> {
    if (1..=LONGEST_MS).contains(&ttl_ms) {
        return Ok(());
    }
    let problem = format!("{ttl_ms} is not between 1 and {LONGEST_MS}");
    Err(EngineError::invalid("ttl_ms", problem))
}

/// How long somebody still holds a lock; `None` if nobody does.
pub(super) fn held_for(
    connection: &Connection,
    namespace: &str,
    name: &str,
    steady_ms: i64,
) -> Outcome<Option<i64>> {
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(None);
    };
    let deadline_ms: Option<i64> = connection
        .prepare_cached("SELECT deadline_ms FROM named_lock WHERE namespace = ?1 AND name = ?2")?
        .query_row(params![namespace, name], |row| row.get(0))
        .optional()?;
    Ok(deadline_ms
        .map(|deadline_ms| deadline_ms - steady_ms)
        .filter(|left| *left > 0))
}

/// Take a lock that nobody holds.
pub(super) fn acquire(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    request: &LockRequest,
    steady_ms: i64,
) -> Outcome<LockAnswer> {
    let connection = transaction.connection;
    if let Some(left) = held_for(connection, namespace, &request.name, steady_ms)? {
        return Ok(LockAnswer {
            token: None,
            expires_in_ms: left,
        });
    }
    let namespace = transaction::ensure_namespace(connection, namespace)?;
    let token = transaction.next_token()?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO named_lock VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            namespace,
            request.name,
            token,
            request.owner,
            steady_ms.saturating_add(request.ttl_ms)
        ])?;
    Ok(LockAnswer {
        token: Some(token),
        expires_in_ms: request.ttl_ms,
    })
}

/// Let locks last for their full time from now; false for one whose time is over.
pub(super) fn extend(
    transaction: &Transaction<'_>,
    namespace: &str,
    locks: &[LockLease],
    steady_ms: i64,
) -> Outcome<Vec<bool>> {
    let connection = transaction.connection;
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(vec![false; locks.len()]);
    };
    let mut statement = connection.prepare_cached(
        "UPDATE named_lock SET deadline_ms = ?4
         WHERE namespace = ?1 AND name = ?2 AND token = ?3 AND deadline_ms > ?5",
    )?;
    let mut held = Vec::with_capacity(locks.len());
    for lock in locks {
        let deadline_ms = steady_ms.saturating_add(lock.ttl_ms);
        let changed = statement.execute(params![
            namespace,
            lock.name,
            lock.token,
            deadline_ms,
            steady_ms
        ])?;
        held.push(changed > 0);
    }
    Ok(held)
}

/// Free a lock; false if its time was over before.
pub(super) fn release(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    name: &str,
    token: i64,
    steady_ms: i64,
) -> Outcome<bool> {
    let connection = transaction.connection;
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(false);
    };
    let deadline_ms: Option<i64> = connection
        .prepare_cached(
            "DELETE FROM named_lock WHERE namespace = ?1 AND name = ?2 AND token = ?3
             RETURNING deadline_ms",
        )?
        .query_row(params![namespace, name, token], |row| row.get(0))
        .optional()?;
    transaction.ring();
    Ok(deadline_ms.is_some_and(|deadline_ms| deadline_ms > steady_ms))
}

/// The locks that are held, by name.
pub(super) fn list(
    connection: &Connection,
    namespace: &str,
    steady_ms: i64,
) -> Outcome<Vec<LockRecord>> {
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare_cached(
        "SELECT name, token, owner, deadline_ms FROM named_lock
         WHERE namespace = ?1 AND deadline_ms > ?2 ORDER BY name",
    )?;
    let locks = statement
        .query_map([namespace, steady_ms], |row| {
            Ok(LockRecord {
                name: row.get(0)?,
                token: row.get(1)?,
                owner: row.get(2)?,
                expires_in_ms: row.get::<_, i64>(3)? - steady_ms,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(locks)
}

/// Delete what holders that died have left behind; nobody can tell the difference.
pub(super) fn forget_expired(
    transaction: &Transaction<'_>,
    steady_ms: i64,
    budget: usize,
) -> Outcome<()> {
    transaction
        .connection
        .prepare_cached(
            "DELETE FROM named_lock WHERE (namespace, name) IN
             (SELECT namespace, name FROM named_lock WHERE deadline_ms <= ?1 LIMIT ?2)",
        )?
        .execute(params![
            steady_ms,
            i64::try_from(budget).unwrap_or(i64::MAX)
        ])?;
    Ok(())
}
