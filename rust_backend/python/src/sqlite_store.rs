//! `SqliteStore`: the native store. Arguments are read, the interpreter is released, the engine works,
//! the answer is built.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use taskito_engine::clock::{Clock, SystemClock};
use taskito_engine::id::JobId;
use taskito_engine::model::{Cancelled, Rate};
use taskito_engine::sqlite::{Durability, SqliteOptions, SqliteStore as EngineStore};
use taskito_engine::store::{LockStore, Store};

use crate::clock::VirtualClock;
use crate::convert::build::{ToPython, all};
use crate::convert::field::{Place, Value};
use crate::convert::ids::AskedIds;
use crate::convert::{
    exchange_reply, exchange_request, lease, locks, new_job, requests, schedule, worker,
};
use crate::errors;
use crate::gil::{self, Detached};

/// The path that means: a private store of this object.
const MEMORY: &str = ":memory:";

/// One SQLite file and one namespace in it. Every method releases the interpreter.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct SqliteStore {
    store: Detached<Arc<EngineStore>>,
}

impl SqliteStore {
    /// The engine's store, for the keeper of locks.
    pub(crate) fn lock_store(&self) -> Arc<dyn LockStore> {
        Arc::<EngineStore>::clone(&self.store)
    }

    /// The engine's store, for the dispatcher.
    pub(crate) fn engine_store(&self) -> Arc<dyn Store> {
        Arc::<EngineStore>::clone(&self.store)
    }
}

#[pymethods]
impl SqliteStore {
    /// Open or create the file; ``":memory:"`` is a private store of this object.
    #[staticmethod]
    #[pyo3(signature = (
        path,
        namespace = "default",
        durability = "full",
        busy_timeout_ms = 10_000,
        clock = None,
        allow_network = false,
    ))]
    fn open(
        py: Python<'_>,
        path: &str,
        namespace: &str,
        durability: &str,
        busy_timeout_ms: i64,
        clock: Option<&VirtualClock>,
        allow_network: bool,
    ) -> PyResult<Self> {
        let clock: Arc<dyn Clock> = match clock {
            Some(clock) => Arc::new(clock.clock.clone()),
            None => Arc::new(SystemClock),
        };
        let options = SqliteOptions {
            path: (path != MEMORY).then(|| PathBuf::from(path)),
            namespace: namespace.to_owned(),
            durability: read_durability(py, durability)?,
            busy_timeout: read_busy_timeout(py, busy_timeout_ms)?,
            clock,
            allow_network,
        };
        let store = gil::detached(py, || EngineStore::open(options))?;
        Ok(Self {
            store: Detached::new(store),
        })
    }

    /// Give the file back. Later operations raise ``QueueClosedError``; closing twice is fine.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.store.close());
    }

    /// Store a batch of jobs in one atom, and answer for each item, in order.
    fn enqueue<'py>(
        &self,
        py: Python<'py>,
        jobs: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let jobs = new_job::read_batch(jobs)?;
        let enqueued = gil::detached(py, || self.store.enqueue(jobs))?;
        all(py, &enqueued)
    }

    /// Announce a worker before its first exchange.
    fn register(&self, py: Python<'_>, worker: &Bound<'_, PyAny>) -> PyResult<()> {
        let worker = worker::read(worker)?;
        gil::detached(py, || self.store.register(&worker))
    }

    /// Take a worker away; what it still holds is given back without using an attempt.
    fn unregister(&self, py: Python<'_>, worker: &str) -> PyResult<()> {
        gil::detached(py, || self.store.unregister(worker))
    }

    /// Settle, renew and claim for one worker, in that order, in one atom.
    fn exchange<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asked = exchange_request::read(request)?;
        let reply = gil::detached(py, || self.store.exchange(&asked.request))?;
        exchange_reply::to_python(py, reply, &asked.is_settled, asked.lost)
    }

    /// Do one bounded step of upkeep, at most ``budget`` rows of each kind.
    fn maintain<'py>(&self, py: Python<'py>, budget: i64) -> PyResult<Bound<'py, PyAny>> {
        // A negative number is refused like zero.
        let budget = usize::try_from(budget).unwrap_or(0);
        gil::detached(py, || self.store.maintain(budget))?.to_python(py)
    }

    /// Block until something changed after ``since`` or for ``timeout`` seconds.
    fn wait(&self, py: Python<'_>, since: u64, timeout: f64) -> PyResult<u64> {
        let mut present = since;
        gil::wait(py, gil::timeout(py, timeout)?, |slice| {
            present = self.store.wait(since, slice)?;
            Ok((present != since).then_some(()))
        })?;
        Ok(present)
    }

    /// Return the whole record of each job, None for an id that does not exist here.
    fn get<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let (is_id, known) = AskedIds::read(ids, "ids")?.split();
        let records = gil::detached(py, || self.store.get(&known))?;
        AskedIds::spread(&is_id, records, &None)
            .iter()
            .map(|record| {
                record
                    .as_ref()
                    .map(|record| record.to_python(py))
                    .transpose()
            })
            .collect()
    }

    /// Return a page of jobs, newest first.
    fn list<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = requests::list(request)?;
        gil::detached(py, || self.store.list(&request))?.to_python(py)
    }

    /// Return how many jobs are in each state, by queue and task; zero counts may be left out.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        all(py, &gil::detached(py, || self.store.counts())?)
    }

    /// Return the registered workers, oldest first.
    fn workers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        all(py, &gil::detached(py, || self.store.workers())?)
    }

    /// Cancel jobs and, in the same atom, all that depends on them; one verdict per id.
    fn cancel<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let request = requests::cancel(request)?;
        let (is_id, known) = request.ids.split();
        let cancelled = gil::detached(py, || {
            self.store.cancel(known, request.reason, request.running)
        })?;
        all(
            py,
            &AskedIds::spread(&is_id, cancelled, &Cancelled::Refused),
        )
    }

    /// Delete finished jobs, oldest first, and return how many.
    fn purge(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<usize> {
        match requests::purge(request)? {
            Some(request) => gil::detached(py, || self.store.purge(&request)),
            None => Ok(0),
        }
    }

    /// Enqueue each finished job again as a new job; None for an id that does not qualify.
    fn replay(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Vec<Option<String>>> {
        let (is_id, request) = requests::replay(request)?;
        if request.once && is_id.contains(&false) {
            // All of them or none, and one of them cannot be.
            return Ok(vec![None; is_id.len()]);
        }
        let replayed = gil::detached(py, || self.store.replay(&request))?;
        let new_ids = AskedIds::spread(&is_id, replayed, &None);
        Ok(new_ids
            .into_iter()
            .map(|id| id.map(|id| id.to_string()))
            .collect())
    }

    /// Let at most so many jobs of this queue start in a time; None ends that.
    #[pyo3(signature = (queue, rate))]
    fn limit_rate(
        &self,
        py: Python<'_>,
        queue: &str,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let rate = rate.map(Rate::read).transpose()?;
        gil::detached(py, || self.store.limit_rate(queue, rate))
    }

    /// Let at most so many jobs of this queue run at a time; None ends that.
    #[pyo3(signature = (queue, max_concurrent))]
    fn limit_concurrency(
        &self,
        py: Python<'_>,
        queue: &str,
        max_concurrent: Option<i64>,
    ) -> PyResult<()> {
        gil::detached(py, || self.store.limit_concurrency(queue, max_concurrent))
    }

    /// Return the limits in force, by kind and name.
    fn limits<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        all(py, &gil::detached(py, || self.store.limits())?)
    }

    /// Take a named lock if nobody holds it.
    fn acquire_lock<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = locks::read_request(request)?;
        gil::detached(py, || self.store.acquire_lock(&request))?.to_python(py)
    }

    /// Let locks last for their full time from now; False for one whose time is over.
    fn extend_locks(&self, py: Python<'_>, leases: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
        let leases = locks::read_leases(leases)?;
        gil::detached(py, || self.store.extend_locks(&leases))
    }

    /// Free a named lock; False if its time was over before.
    fn release_lock(&self, py: Python<'_>, name: &str, token: i64) -> PyResult<bool> {
        gil::detached(py, || self.store.release_lock(name, token))
    }

    /// Return the named locks that are held, by name.
    fn locks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        all(py, &gil::detached(py, || self.store.locks())?)
    }

    /// Let no job of this queue be claimed until ``resume``.
    fn pause(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        gil::detached(py, || self.store.pause(queue))
    }

    /// Undo ``pause``.
    fn resume(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        gil::detached(py, || self.store.resume(queue))
    }

    /// Return the names of the paused queues, sorted.
    fn paused(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        gil::detached(py, || self.store.paused())
    }

    /// Return the workers with claimed jobs of this queue that have not started, as far as is known.
    fn unstarted(&self, py: Python<'_>, queue: &str) -> PyResult<Vec<String>> {
        gil::detached(py, || self.store.unstarted(queue))
    }

    /// Store the progress of a running job; False if that lease is over.
    fn set_progress(
        &self,
        py: Python<'_>,
        id: &str,
        token: Option<i64>,
        percent: i64,
    ) -> PyResult<bool> {
        match JobId::parse(id) {
            Some(id) => gil::detached(py, || self.store.set_progress(id, token, percent)),
            None => Ok(false),
        }
    }

    /// Append a line to the log of a running job; False if that lease is over.
    fn append_log(
        &self,
        py: Python<'_>,
        lease: &Bound<'_, PyAny>,
        level: &str,
        message: &str,
    ) -> PyResult<bool> {
        match lease::read(lease, Place::Whole)? {
            Some(lease) => gil::detached(py, || self.store.append_log(lease, level, message)),
            None => Ok(false),
        }
    }

    /// Return the log lines of a job, oldest first.
    fn logs<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        match JobId::parse(id) {
            Some(id) => all(py, &gil::detached(py, || self.store.logs(id))?),
            None => Ok(Vec::new()),
        }
    }

    /// Take over schedules as code declares them.
    fn put_schedules(&self, py: Python<'_>, schedules: &Bound<'_, PyAny>) -> PyResult<()> {
        let declared = schedule::read_batch(schedules)?;
        gil::detached(py, || self.store.put_schedules(declared))
    }

    /// Return every schedule, by name.
    fn schedules<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        all(py, &gil::detached(py, || self.store.schedules())?)
    }

    /// Pause or resume schedules; False where there is none of that name.
    fn set_schedules_paused(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        paused: bool,
    ) -> PyResult<Vec<bool>> {
        gil::detached(py, || self.store.set_schedules_paused(names, paused))
    }

    /// Delete schedules; False where there is none of that name.
    fn delete_schedules(&self, py: Python<'_>, names: Vec<String>) -> PyResult<Vec<bool>> {
        gil::detached(py, || self.store.delete_schedules(names))
    }

    /// Make a job of each schedule now; None where there is none of that name.
    fn trigger_schedules(
        &self,
        py: Python<'_>,
        names: Vec<String>,
    ) -> PyResult<Vec<Option<String>>> {
        let made = gil::detached(py, || self.store.trigger_schedules(names))?;
        Ok(made
            .into_iter()
            .map(|id| id.map(|id| id.to_string()))
            .collect())
    }

    /// Return a page of workflows, newest first.
    #[pyo3(signature = (limit, after))]
    fn workflows<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        after: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        gil::detached(py, || self.store.workflows(limit, after))?.to_python(py)
    }

    /// Return one workflow, None if it has no jobs.
    fn workflow<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        gil::detached(py, || self.store.workflow(id))?
            .map(|record| record.to_python(py))
            .transpose()
    }

    /// Verify the file (``quick_check``, schema, counts); facts for ``taskito check``.
    fn check<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let facts = PyDict::new(py);
        for (name, fact) in gil::detached(py, || self.store.check())? {
            facts.set_item(name, fact)?;
        }
        Ok(facts)
    }

    /// What the connections of this process have done since they were opened, by name.
    fn costs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let costs = PyDict::new(py);
        for (name, number) in gil::detached(py, || self.store.costs())?.named() {
            costs.set_item(name, number)?;
        }
        Ok(costs)
    }
}

fn read_durability(py: Python<'_>, durability: &str) -> PyResult<Durability> {
    match durability {
        "full" => Ok(Durability::Full),
        "normal" => Ok(Durability::Normal),
        "off" => Ok(Durability::Off),
        other => {
            let message = format!("durability: '{other}' must be 'full', 'normal' or 'off'");
            Err(errors::configuration(py, message))
        }
    }
}

fn read_busy_timeout(py: Python<'_>, milliseconds: i64) -> PyResult<Duration> {
    u64::try_from(milliseconds)
        .map(Duration::from_millis)
        .map_err(|_| {
            let message = format!("busy_timeout_ms: {milliseconds} must be 0 or more");
            errors::configuration(py, message)
        })
}
