//! The default store: one SQLite file, shared by any number of processes of one host.
//!
//! | module | subject |
//! | --- | --- |
//! | `schema` | the tables, and which of them says where a job stands |
//! | `file`, `opening`, `writer` | the file in this process: registry, readers, the writer |
//! | `commit`, `transaction` | group commit, and what one transaction shares |
//! | `place`, `finish` | where a job stands; its end and what follows from it |
//! | `enqueue`, `exchange`, `claim`, `settle` | the hot path |
//! | `edges`, `workflows`, `replay` | what jobs wait for; the steps of a workflow; running again |
//! | `limits`, `keyed` | what may run at a time, and how often |
//! | `locks`, `dead_letters` | named locks; how many dead letters are kept |
//! | `upkeep`, `control`, `inspect` | time and dead workers; requests; reading |
//! | `schedules` | what fires when |
//! | `changes`, `checkpoint` | wake-ups; the write-ahead log |
//! | `costs` | how much work was done, for tests |

mod changes;
mod checkpoint;
mod claim;
mod commit;
mod control;
mod costs;
mod dead_letters;
mod edges;
mod enqueue;
mod exchange;
mod failure;
mod file;
mod finish;
mod inspect;
mod keyed;
mod lanes;
mod limits;
mod locks;
mod opening;
mod place;
mod random;
mod replay;
mod schedules;
mod schema;
mod session;
mod settle;
mod transaction;
mod upkeep;
mod workflows;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use self::commit::Sync;
pub use self::costs::Costs;
use self::file::DatabaseFile;
use self::limits::QueueChange;
use self::random::Random;
use self::session::Session;
use self::upkeep::{DeadWorker, Findings};
use crate::clock::{Clock, SystemClock};
use crate::error::{EngineError, Result};
use crate::id::JobId;
use crate::model::{
    Cancelled, Count, Enqueued, ExchangeReply, ExchangeRequest, JobRecord, Lease, LimitRecord,
    ListRequest, LockAnswer, LockLease, LockRecord, LockRequest, LogRecord, MaintainReply, NewJob,
    NewSchedule, Page, PurgeRequest, Rate, ReplayRequest, ScheduleRecord, Settlement, WorkerRecord,
    WorkerRegistration, WorkflowPage, WorkflowRecord,
};
use crate::platform::{self, Liveness, LivenessFile, PathRules};
use crate::store::{LockStore, Store};

/// The version of the bundled SQLite.
#[must_use]
pub fn version() -> &'static str {
    rusqlite::version()
}

/// What survives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What was acknowledged survives the loss of power.
    Full,
    /// What was acknowledged survives the crash of any process.
    Normal,
    /// Nothing is promised beyond a consistent file while the system keeps running.
    Off,
}

/// How to open a store.
#[derive(Clone)]
pub struct SqliteOptions {
    /// `None` is a private store in memory.
    pub path: Option<PathBuf>,
    pub namespace: String,
    pub durability: Durability,
    /// How long a write waits for another process's lock.
    pub busy_timeout: Duration,
    pub clock: Arc<dyn Clock>,
    /// Allow a file system whose locks may not work between hosts.
    pub allow_network: bool,
}

impl SqliteOptions {
    /// The defaults for a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::memory()
        }
    }

    /// The defaults for a private store in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            path: None,
            namespace: "default".to_owned(),
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
            allow_network: false,
        }
    }
}

/// One namespace of one SQLite file.
pub struct SqliteStore {
    file: Arc<DatabaseFile>,
    namespace: String,
    durability: Durability,
    clock: Arc<dyn Clock>,
    sessions: RwLock<HashMap<String, Arc<Session>>>,
    random: Arc<Random>,
    closed: AtomicBool,
}

impl SqliteStore {
    /// Open a store; a file that does not exist is created, its folder must exist.
    ///
    /// # Errors
    /// The file cannot be opened, belongs to another application or version, or the path is refused.
    pub fn open(options: SqliteOptions) -> Result<Arc<Self>> {
        if let Some(problem) = enqueue::name_problem(&options.namespace) {
            return Err(EngineError::invalid("namespace", problem));
        }
        let file = match &options.path {
            None => DatabaseFile::in_memory(options.busy_timeout)?,
            Some(path) => {
                let rules = PathRules {
                    allow_network: options.allow_network,
                    allow_symlink: false,
                };
                DatabaseFile::on_disk(path, rules, options.busy_timeout)?
            }
        };
        Ok(Arc::new(Self {
            file,
            namespace: options.namespace,
            durability: options.durability,
            clock: options.clock,
            sessions: RwLock::default(),
            random: Arc::new(Random::new()),
            closed: AtomicBool::new(false),
        }))
    }

    /// Give the handle back; later operations are refused, and who waits for a change is woken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.file.changes.bump();
    }

    /// Store a batch in one atom; one answer per item.
    ///
    /// # Errors
    /// An item is invalid, a dependency is unknown, or the store cannot be written: nothing is stored.
    pub fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        enqueue::validate(&jobs)?;
        if jobs.is_empty() {
            self.refuse_closed()?;
            return Ok(Vec::new());
        }
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let randoms: Vec<u64> = jobs.iter().map(|_| self.random.next()).collect();
        self.write(jobs.len(), self.acknowledged(), move |transaction| {
            let mut randoms = randoms.into_iter();
            let mut random = || randoms.next().unwrap_or_default();
            enqueue::run(transaction, &namespace, clock.wall_ms(), &mut random, &jobs)
        })
    }

    /// The whole records of these jobs; `None` for an unknown one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, ids: &[JobId]) -> Result<Vec<Option<JobRecord>>> {
        let steady_ms = self.clock.steady_ms();
        self.read(|connection, lanes| {
            inspect::get(connection, lanes, &self.namespace, ids, steady_ms)
        })
    }

    /// One page of jobs, newest first.
    ///
    /// # Errors
    /// The limit is out of range, or the store cannot be read.
    pub fn list(&self, request: &ListRequest) -> Result<Page> {
        if !(1..=10_000).contains(&request.limit) {
            let problem = format!("{} is not between 1 and 10000", request.limit);
            return Err(EngineError::invalid("limit", problem));
        }
        self.read(|connection, lanes| inspect::list(connection, lanes, &self.namespace, request))
    }

    /// How many jobs are in each state, by queue and task.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn counts(&self) -> Result<Vec<Count>> {
        self.read(|connection, lanes| inspect::counts(connection, lanes, &self.namespace))
    }

    /// The registered workers, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.read(|connection, _| inspect::workers(connection, &self.namespace))
    }

    /// One page of workflows, newest first.
    ///
    /// # Errors
    /// The limit is out of range, or the store cannot be read.
    pub fn workflows(&self, limit: usize, after: Option<i64>) -> Result<WorkflowPage> {
        if !(1..=10_000).contains(&limit) {
            let problem = format!("{limit} is not between 1 and 10000");
            return Err(EngineError::invalid("limit", problem));
        }
        self.read(|connection, _| workflows::list(connection, &self.namespace, limit, after))
    }

    /// One workflow; `None` if it has no jobs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn workflow(&self, id: &str) -> Result<Option<WorkflowRecord>> {
        self.read(|connection, _| workflows::get(connection, &self.namespace, id))
    }

    /// The log lines of a job, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn logs(&self, id: JobId) -> Result<Vec<LogRecord>> {
        self.read(|connection, _| inspect::logs(connection, &self.namespace, id))
    }

    /// Verify the file; facts about it, by name.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn check(&self) -> Result<Vec<(String, String)>> {
        self.file.check_place()?;
        self.read(|connection, lanes| inspect::check(connection, lanes))
    }

    /// What the connections of this process to the file have done since they were opened.
    ///
    /// # Errors
    /// The store is closed, or was opened before a fork.
    pub fn costs(&self) -> Result<Costs> {
        self.refuse_closed()?;
        self.file.costs()
    }

    /// Cancel jobs with all that depends on them; a running one is asked if `running`.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn cancel(&self, ids: Vec<JobId>, reason: String, running: bool) -> Result<Vec<Cancelled>> {
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        self.write(ids.len(), self.acknowledged(), move |transaction| {
            control::cancel(
                transaction,
                &namespace,
                &ids,
                &reason,
                running,
                clock.wall_ms(),
            )
        })
    }

    /// Delete finished jobs, oldest first; returns how many.
    ///
    /// # Errors
    /// A state is not a final one, or the store cannot be written.
    pub fn purge(&self, request: &PurgeRequest) -> Result<usize> {
        if let Some(state) = request.states.iter().find(|state| !state.is_final()) {
            return Err(EngineError::invalid(
                "states",
                format!("{state} is not a final state"),
            ));
        }
        for (field, value, least) in [
            ("limit", i64::try_from(request.limit).unwrap_or(i64::MAX), 1),
            ("older_than_ms", request.older_than_ms, 0),
        ] {
            if value < least {
                return Err(EngineError::invalid(
                    field,
                    format!("{value} is less than {least}"),
                ));
            }
        }
        let now_ms = self.clock.wall_ms();
        let found = self.read(|connection, lanes| {
            control::select_finished(connection, lanes, &self.namespace, request, now_ms)
        })?;
        if found.is_empty() {
            return Ok(0);
        }
        self.write(found.len(), self.unacknowledged(), move |transaction| {
            let mut deleted = 0;
            for seq in found {
                deleted += usize::from(control::delete(transaction, seq)?);
            }
            Ok(deleted)
        })
    }

    /// Enqueue finished jobs again as new ones; `None` where that is not possible.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn replay(&self, request: &ReplayRequest) -> Result<Vec<Option<JobId>>> {
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let request = request.clone();
        let randoms: Vec<u64> = request.ids.iter().map(|_| self.random.next()).collect();
        self.write(request.ids.len(), self.acknowledged(), move |transaction| {
            let mut randoms = randoms.into_iter();
            let mut random = || randoms.next().unwrap_or_default();
            replay::run(
                transaction,
                &namespace,
                &request,
                clock.wall_ms(),
                &mut random,
            )
        })
    }

    /// Let at most so many jobs of a queue start in a time; `None` ends that.
    ///
    /// # Errors
    /// The name or the rate is invalid, or the store cannot be written.
    pub fn limit_rate(&self, queue: &str, rate: Option<Rate>) -> Result<()> {
        if let Some(problem) = rate.as_ref().and_then(Rate::problem) {
            return Err(EngineError::invalid("rate", problem));
        }
        self.limit_queue(queue, QueueChange::Rate(rate))
    }

    /// Let at most so many jobs of a queue run at a time; `None` ends that.
    ///
    /// # Errors
    /// The name or the number is invalid, or the store cannot be written.
    pub fn limit_concurrency(&self, queue: &str, most: Option<i64>) -> Result<()> {
        if let Some(most) = most.filter(|most| *most < 1) {
            let problem = format!("{most} is less than 1");
            return Err(EngineError::invalid("max_concurrent", problem));
        }
        self.limit_queue(queue, QueueChange::Concurrency(most))
    }

    /// The limits in force, by kind and name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn limits(&self) -> Result<Vec<LimitRecord>> {
        let steady_ms = self.clock.steady_ms();
        self.read(
            |connection, lanes| match transaction::namespace(connection, &self.namespace)? {
                Some(namespace) => limits::list(connection, lanes, namespace, steady_ms),
                None => Ok(Vec::new()),
            },
        )
    }

    /// Take a named lock if nobody holds it.
    ///
    /// # Errors
    /// The request is invalid, or the store cannot be written.
    pub fn acquire_lock(&self, request: &LockRequest) -> Result<LockAnswer> {
        locks::validate(request)?;
        let steady_ms = self.clock.steady_ms();
        let held = self.read(|connection, _| {
            locks::held_for(connection, &self.namespace, &request.name, steady_ms)
        })?;
        if let Some(expires_in_ms) = held {
            return Ok(LockAnswer {
                token: None,
                expires_in_ms,
            });
        }
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let request = request.clone();
        self.write(1, self.acknowledged(), move |transaction| {
            locks::acquire(transaction, &namespace, &request, clock.steady_ms())
        })
    }

    /// Free a named lock; false if its time was over before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn release_lock(&self, name: &str, token: i64) -> Result<bool> {
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let name = name.to_owned();
        self.write(1, self.acknowledged(), move |transaction| {
            locks::release(transaction, &namespace, &name, token, clock.steady_ms())
        })
    }

    /// The named locks that are held, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn locks(&self) -> Result<Vec<LockRecord>> {
        let steady_ms = self.clock.steady_ms();
        self.read(|connection, _| locks::list(connection, &self.namespace, steady_ms))
    }

    /// Let no job of a queue be claimed until `resume`.
    ///
    /// # Errors
    /// The name is invalid, or the store cannot be written.
    pub fn pause(&self, queue: &str) -> Result<()> {
        self.set_paused(queue, true)
    }

    /// Undo `pause`.
    ///
    /// # Errors
    /// The name is invalid, or the store cannot be written.
    pub fn resume(&self, queue: &str) -> Result<()> {
        self.set_paused(queue, false)
    }

    /// The paused queues, sorted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn paused(&self) -> Result<Vec<String>> {
        self.read(
            |connection, _| match transaction::namespace(connection, &self.namespace)? {
                Some(namespace) => exchange::paused(connection, namespace),
                None => Ok(Vec::new()),
            },
        )
    }

    /// The workers that hold claimed jobs of a queue whose start they have not reported, sorted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn unstarted(&self, queue: &str) -> Result<Vec<String>> {
        self.read(|connection, lanes| inspect::unstarted(connection, lanes, &self.namespace, queue))
    }

    /// Store the progress of a run (the current one without a token); false if it is over.
    ///
    /// # Errors
    /// The value is not a percentage, or the store cannot be written.
    pub fn set_progress(&self, id: JobId, token: Option<i64>, percent: i64) -> Result<bool> {
        if !(0..=100).contains(&percent) {
            return Err(EngineError::invalid(
                "percent",
                format!("{percent} is not between 0 and 100"),
            ));
        }
        let namespace = self.namespace.clone();
        self.write(1, self.unacknowledged(), move |transaction| {
            control::set_progress(transaction, &namespace, id, token, percent)
        })
    }

    /// Append a line to the log of a run; false if it is over.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn append_log(&self, lease: Lease, level: &str, message: &str) -> Result<bool> {
        if let Some(problem) = enqueue::name_problem(level) {
            return Err(EngineError::invalid("level", problem));
        }
        let namespace = self.namespace.clone();
        let now_ms = self.clock.wall_ms();
        let (level, message) = (level.to_owned(), message.to_owned());
        self.write(1, self.unacknowledged(), move |transaction| {
            control::append_log(transaction, &namespace, lease, &level, &message, now_ms)
        })
    }

    fn limit_queue(&self, queue: &str, change: QueueChange) -> Result<()> {
        if let Some(problem) = enqueue::name_problem(queue) {
            return Err(EngineError::invalid("queue", problem));
        }
        let namespace = self.namespace.clone();
        let queue = queue.to_owned();
        let clock = Arc::clone(&self.clock);
        self.write(1, self.acknowledged(), move |transaction| {
            let steady_ms = clock.steady_ms();
            limits::set_of_queue(transaction, &namespace, &queue, change, steady_ms)
        })
    }

    fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        if let Some(problem) = enqueue::name_problem(queue) {
            return Err(EngineError::invalid("queue", problem));
        }
        let namespace = self.namespace.clone();
        let queue = queue.to_owned();
        self.write(1, self.acknowledged(), move |transaction| {
            control::set_paused(transaction, &namespace, &queue, paused)
        })
    }

    /// Take over what code declares: new schedules are added, known ones follow it and keep their
    /// history.
    ///
    /// # Errors
    /// A schedule is invalid, or the store cannot be written; nothing was changed.
    pub fn put_schedules(&self, declared: Vec<NewSchedule>) -> Result<()> {
        schedules::validate(&declared)?;
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        self.write(declared.len(), self.acknowledged(), move |transaction| {
            schedules::put(transaction, &namespace, &declared, clock.wall_ms())
        })
    }

    /// Every schedule, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn schedules(&self) -> Result<Vec<ScheduleRecord>> {
        self.read(
            |connection, _| match transaction::namespace(connection, &self.namespace)? {
                Some(namespace) => schedules::list(connection, namespace),
                None => Ok(Vec::new()),
            },
        )
    }

    /// Pause or resume schedules; false where there is none of that name.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_schedules_paused(&self, names: Vec<String>, paused: bool) -> Result<Vec<bool>> {
        self.with_schedules(names, move |transaction, id, now_ms| {
            schedules::set_paused(transaction, id, paused, now_ms)
        })
        .map(|found| found.into_iter().map(|one| one.is_some()).collect())
    }

    /// Delete schedules; their jobs stay. False where there is none of that name.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn delete_schedules(&self, names: Vec<String>) -> Result<Vec<bool>> {
        self.with_schedules(names, |transaction, id, _| {
            schedules::delete(transaction, id)
        })
        .map(|found| found.into_iter().map(|one| one.is_some()).collect())
    }

    /// Make a job of each schedule now; `None` where there is none of that name.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn trigger_schedules(&self, names: Vec<String>) -> Result<Vec<Option<JobId>>> {
        let random = Arc::clone(&self.random);
        self.with_schedules(names, move |transaction, id, now_ms| {
            schedules::trigger(transaction, id, now_ms, &mut || random.next())
        })
    }

    fn with_schedules<T: Send + 'static>(
        &self,
        names: Vec<String>,
        mut work: impl FnMut(&mut transaction::Transaction<'_>, i64, i64) -> failure::Outcome<T>
        + Send
        + 'static,
    ) -> Result<Vec<Option<T>>> {
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        self.write(names.len(), self.acknowledged(), move |transaction| {
            let mut answers = Vec::with_capacity(names.len());
            for name in names {
                let id = schedules::find(transaction.connection, &namespace, &name)?;
                let now_ms = clock.wall_ms();
                answers.push(match id {
                    Some(id) => Some(work(transaction, id, now_ms)?),
                    None => None,
                });
            }
            Ok(answers)
        })
    }

    fn session(&self, worker: &str) -> Result<Arc<Session>> {
        self.sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(worker)
            .cloned()
            .ok_or_else(|| EngineError::UnknownWorker(worker.to_owned()))
    }

    fn with_start_log(&self, worker: &str, note: impl FnOnce(&LivenessFile)) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = sessions
            .get(worker)
            .and_then(|session| session.liveness.as_ref())
        {
            note(log);
        }
    }

    /// The registered workers whose process is gone.
    fn find_dead(&self, findings: &Findings) -> Vec<DeadWorker> {
        let Some(folder) = self.file.folder() else {
            return Vec::new();
        };
        findings
            .workers
            .iter()
            .filter_map(|worker| match platform::probe(folder, &worker.id) {
                Ok(Liveness::Dead { started }) => Some(DeadWorker {
                    row: worker.row,
                    id: worker.id.clone(),
                    pid: worker.pid,
                    started: started.into_iter().map(u64::cast_signed).collect(),
                }),
                _ => None,
            })
            .collect()
    }

    /// How far a commit must have got that acknowledges something to somebody.
    const fn acknowledged(&self) -> Sync {
        match self.durability {
            Durability::Full => Sync::Full,
            Durability::Normal => Sync::Normal,
            Durability::Off => Sync::Off,
        }
    }

    /// The same for what may be lost together with the power: it only leads to doing it again.
    const fn unacknowledged(&self) -> Sync {
        match self.durability {
            Durability::Full | Durability::Normal => Sync::Normal,
            Durability::Off => Sync::Off,
        }
    }

    fn write<T, F>(&self, rows: usize, sync: Sync, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut transaction::Transaction<'_>) -> failure::Outcome<T> + Send + 'static,
    {
        self.refuse_closed()?;
        self.file.write(rows, sync, work)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection, &mut lanes::Lanes) -> failure::Outcome<T>,
    ) -> Result<T> {
        self.refuse_closed()?;
        self.file.read(work)
    }

    fn refuse_closed(&self) -> Result<()> {
        self.file.refuse_fork()?;
        if self.closed.load(Ordering::Acquire) {
            Err(EngineError::Closed)
        } else {
            Ok(())
        }
    }
}

impl LockStore for SqliteStore {
    fn extend_locks(&self, leases: &[LockLease]) -> Result<Vec<bool>> {
        for lease in leases {
            locks::validate_ttl(lease.ttl_ms)?;
        }
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let leases = leases.to_vec();
        self.write(leases.len(), self.unacknowledged(), move |transaction| {
            locks::extend(transaction, &namespace, &leases, clock.steady_ms())
        })
    }
}

impl Store for SqliteStore {
    fn register(&self, worker: &WorkerRegistration) -> Result<()> {
        session::validate(worker)?;
        // The liveness file comes first: who sees the row must find its lock held.
        let liveness = match self.file.folder() {
            Some(folder) => Some(create_liveness(folder, &worker.id)?),
            None => None,
        };
        let registration = worker.clone();
        let namespace = self.namespace.clone();
        let clock = Arc::clone(&self.clock);
        let (row, namespace) = self.write(1, self.unacknowledged(), move |transaction| {
            session::insert(
                transaction,
                &registration,
                &namespace,
                clock.wall_ms(),
                clock.steady_ms(),
            )
        })?;
        let session = Arc::new(Session::new(worker, row, namespace, liveness));
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worker.id.clone(), session);
        Ok(())
    }

    fn unregister(&self, worker: &str) -> Result<()> {
        let Ok(session) = self.session(worker) else {
            return Ok(());
        };
        let (row, id) = (session.row, session.id.clone());
        let clock = Arc::clone(&self.clock);
        self.write(1, self.unacknowledged(), move |transaction| {
            upkeep::release_all(transaction, row, &id, clock.wall_ms())
        })?;
        let removed = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(worker);
        drop(session);
        if let Some(liveness) = removed
            .and_then(Arc::into_inner)
            .and_then(|session| session.liveness)
        {
            // A file that stays behind is removed by whoever sees that it is not locked.
            let _ = liveness.remove();
        }
        Ok(())
    }

    fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply> {
        let session = self.session(&request.worker)?;
        exchange::validate(request)?;
        if !exchange::writes(request) {
            let (now_ms, steady_ms) = (self.clock.wall_ms(), self.clock.steady_ms());
            let idle = self.read(|connection, lanes| {
                exchange::without_work(connection, lanes, &session, request, now_ms, steady_ms)
            })?;
            if let Some(reply) = idle {
                return Ok(reply);
            }
        }
        let sync = if request.settlements.is_empty() {
            self.unacknowledged()
        } else {
            self.acknowledged()
        };
        let rows = request.settlements.len() + request.renewals.len() + request.want;
        let clock = Arc::clone(&self.clock);
        let request = request.clone();
        self.write(rows, sync, move |transaction| {
            exchange::run(
                transaction,
                &session,
                &request,
                clock.wall_ms(),
                clock.steady_ms(),
            )
        })
    }

    fn maintain(&self, budget: usize) -> Result<MaintainReply> {
        if budget == 0 {
            return Err(EngineError::invalid("budget", "0 is less than 1"));
        }
        self.file.check_place()?;
        let (now_ms, steady_ms) = (self.clock.wall_ms(), self.clock.steady_ms());
        let findings = self.read(|connection, lanes| {
            upkeep::look(connection, lanes, &self.namespace, now_ms, steady_ms)
        })?;
        let dead = self.find_dead(&findings);
        let mut reply = MaintainReply {
            next_due_ms: findings.next_due_ms,
            ..MaintainReply::default()
        };
        if findings.work || !dead.is_empty() {
            let clock = Arc::clone(&self.clock);
            let step = dead.clone();
            let random = Arc::clone(&self.random);
            reply = self.write(budget, self.unacknowledged(), move |transaction| {
                upkeep::run(transaction, &step, &*clock, budget, &mut || random.next())
            })?;
        }
        if let Some(folder) = self.file.folder() {
            for worker in &dead {
                // Somebody else may have done it; what cannot be removed is tried again by no one,
                // and does no harm: the worker's row is gone.
                let _ = platform::forget(folder, &worker.id);
            }
        }
        reply.unknown_tasks = findings.unknown_tasks;
        reply.undeclared_schedules = findings.undeclared_schedules;
        Ok(reply)
    }

    fn wait(&self, since: u64, timeout: Duration) -> Result<u64> {
        self.refuse_closed()?;
        self.file.wait(since, timeout)
    }

    fn mark_started(&self, worker: &str, slot: usize, token: Option<i64>) {
        // Beyond the log, a start is only known once an exchange has reported it.
        if slot >= ENDED_RUNS {
            return;
        }
        self.with_start_log(worker, |log| match token {
            Some(token) => log.set(slot, token.cast_unsigned()),
            None => log.clear(slot),
        });
    }

    fn mark_ended(&self, worker: &str, token: i64) {
        self.with_start_log(worker, |log| {
            log.set(ended_place(token), token.cast_unsigned());
        });
    }

    fn mark_settled(&self, worker: &str, settlements: &[Settlement]) {
        self.with_start_log(worker, |log| {
            for settlement in settlements {
                log.clear(ended_place(settlement.lease.token));
            }
        });
    }
}

/// The first place of the start log for runs that have ended and are not settled yet; below it, one
/// for each executor slot.
const ENDED_RUNS: usize = platform::START_LOG_SLOTS / 2;

/// Where an ended run is noted. Two of them may share a place, if far more wait for their settlement
/// than an outage lets pile up; then the death of the worker finds only one of the two.
fn ended_place(token: i64) -> usize {
    let places = platform::START_LOG_SLOTS - ENDED_RUNS;
    ENDED_RUNS + usize::try_from(token).unwrap_or_default() % places
}

/// The file that tells others whether this worker lives; its name is the worker's id.
fn create_liveness(folder: &Path, id: &str) -> Result<LivenessFile> {
    LivenessFile::create(folder, id).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => session::taken(id),
        _ => EngineError::Path {
            path: folder.to_path_buf(),
            problem: error.to_string(),
        },
    })
}
