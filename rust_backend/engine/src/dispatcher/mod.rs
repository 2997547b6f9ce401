//! One per worker: claims jobs ahead of the executors, hands them over, renews their leases, ends
//! them in time, and settles them.
//!
//! - [`machine`]: all decisions, as a pure state machine.
//! - [`handover`], [`board`]: where executor threads and the dispatcher thread meet.
//! - [`slot`], [`run`]: what an executor thread sees.
//! - [`driver`], [`watcher`], [`watchdog`]: the three threads.
//!
//! The dispatcher thread never holds a lock while it calls the store, so an executor that keeps the
//! Python interpreter while it asks for work never waits for a store that needs the interpreter.

mod board;
mod driver;
mod handover;
mod machine;
mod notice;
mod parker;
mod pool;
mod run;
mod slot;
mod stored_error;
mod watchdog;
mod watcher;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use self::handover::Handover;
use self::machine::{Config, Counters, Machine};
use self::notice::Notices;
pub use self::notice::{Notice, NoticeKind};
pub use self::parker::Bell;
use self::parker::Parker;
use self::pool::{PerPool, Pool};
pub use self::run::{Report, RunHandle};
pub use self::slot::{Slot, Taken};
pub use self::watchdog::WATCHDOG_EXIT_CODE;
use self::watchdog::Watchdog;
use self::watcher::Changes;
use crate::clock::{Clock, SystemClock};
use crate::error::{EngineError, Result};
use crate::model::{TaskPolicy, WorkerRegistration};
use crate::store::Store;

/// How a dispatcher behaves.
#[derive(Debug, Clone)]
pub struct DispatcherOptions {
    /// Longest time between two steps of upkeep, in milliseconds.
    pub maintain_interval_ms: i64,
    /// The process belongs to the worker: end it (code [`WATCHDOG_EXIT_CODE`]) 2 s after the drain
    /// time, or 2 s after the store has failed for good, whatever its threads are doing.
    pub owns_process: bool,
    /// How long running jobs may take to end when the worker has to stop because its threads are
    /// stuck, in milliseconds. A stop by request names its own time.
    pub drain_ms: i64,
    /// The executors of functions kill a run whose time is over, so that none gets stuck in it.
    pub kills_overdue: bool,
    /// The tasks that run on an event loop; all others run in threads.
    pub coroutines: Coroutines,
}

/// What of a worker runs on its event loop.
#[derive(Debug, Clone, Default)]
pub struct Coroutines {
    /// The names of the tasks.
    pub tasks: HashSet<String>,
    /// How many of their jobs are under way at a time.
    pub concurrency: usize,
}

impl Default for DispatcherOptions {
    fn default() -> Self {
        Self {
            maintain_interval_ms: 1_000,
            owns_process: false,
            drain_ms: 30_000,
            kills_overdue: false,
            coroutines: Coroutines::default(),
        }
    }
}

/// Counters since the start, and present levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub claimed: u64,
    pub started: u64,
    pub settled: u64,
    /// Reports and settlements that were refused.
    pub stale: u64,
    pub exchanges: u64,
    /// Runs at present.
    pub running: u64,
    /// Delivered jobs that have not started, at present.
    pub buffered: u64,
    /// How long ago the dispatcher thread last came round, in milliseconds. It does so about once a
    /// second for upkeep, and at least every ten; more means that the store does not answer.
    pub silent_ms: u64,
}

/// The scheduler of one worker. Dropping it stops it without a drain time.
pub struct Dispatcher {
    shared: Arc<Shared>,
    /// Taken by the start.
    machine: Mutex<Option<Machine>>,
}

struct Shared {
    store: Arc<dyn Store>,
    registration: WorkerRegistration,
    worker: Arc<str>,
    handover: Arc<Handover>,
    changes: Arc<Changes>,
    notices: Notices,
    counters: Mutex<Counters>,
    /// When the dispatcher thread last came round.
    seen_at: AtomicI64,
    /// The deadline of a stop that the dispatcher has not seen yet.
    stop: Mutex<Option<i64>>,
    watchdog: Option<Watchdog>,
    ended: AtomicBool,
}

impl Dispatcher {
    /// A dispatcher that has not started yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registration: WorkerRegistration,
        policies: Vec<TaskPolicy>,
        options: &DispatcherOptions,
    ) -> Self {
        let coroutines = &options.coroutines;
        let machine = Machine::new(Config {
            worker: registration.id.clone(),
            lease_ms: registration.lease_ms,
            concurrency: PerPool::each(|pool| match pool {
                Pool::Functions => registration
                    .concurrency
                    .saturating_sub(coroutines.concurrency),
                Pool::Coroutines => coroutines.concurrency,
            }),
            tasks: machine::divide(&registration.tasks, &coroutines.tasks),
            coroutines: coroutines.tasks.clone(),
            policies: policies
                .into_iter()
                .map(|policy| (policy.task.clone(), policy))
                .collect(),
            maintain_interval_ms: options.maintain_interval_ms,
            drain_ms: options.drain_ms,
            kills_overdue: options.kills_overdue,
            // Jitter only has to differ between workers.
            seed: getrandom::u64().unwrap_or_else(|_| u64::from(registration.pid)),
        });
        let shared = Shared {
            store,
            worker: registration.id.as_str().into(),
            registration,
            handover: Arc::new(Handover::new(Arc::new(SystemClock))),
            changes: Arc::default(),
            notices: Notices::default(),
            counters: Mutex::default(),
            seen_at: AtomicI64::new(SystemClock.steady_ms()),
            stop: Mutex::default(),
            watchdog: options
                .owns_process
                .then(|| Watchdog::new(watchdog::end_process)),
            ended: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            machine: Mutex::new(Some(machine)),
        }
    }

    /// Register the worker and begin.
    ///
    /// # Errors
    /// Whatever the store's `register` answers; or the dispatcher was started or stopped before.
    pub fn start(&self) -> Result<()> {
        let machine = self
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(machine) = machine else {
            let problem = "it was started or stopped before; make a new one";
            return Err(EngineError::invalid("dispatcher", problem));
        };
        let shared = &self.shared;
        if let Err(error) = shared.store.register(&shared.registration) {
            *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine);
            return Err(error);
        }
        let message = format!("worker {} started", shared.worker);
        shared
            .notices
            .push(Notice::new(NoticeKind::Started, message));
        if let Err(error) = driver::start(Arc::clone(shared), machine) {
            shared.end();
            shared.store.unregister(&shared.registration.id)?;
            return Err(error);
        }
        watcher::start(
            &shared.changes,
            Arc::clone(&shared.store),
            Arc::clone(&shared.handover),
        )
        .inspect_err(|_| self.stop(0))
    }

    /// Make the place of one more executor thread; its first [`Slot::try_next`] counts as capacity.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.add_slot(Pool::Functions, Parker::default())
    }

    /// Make the place of one more job on the event loop that listens to `bell`.
    ///
    /// The loop serves all its slots together: when the bell rings, it clears it and asks with its
    /// free slots, in any order, until one of them gets nothing.
    #[must_use]
    pub fn loop_slot(&self, bell: &Arc<Bell>) -> Slot {
        self.add_slot(Pool::Coroutines, Parker::Loop(Arc::clone(bell)))
    }

    fn add_slot(&self, pool: Pool, parker: Parker) -> Slot {
        let shared = &self.shared;
        Slot::new(
            Arc::clone(&shared.handover),
            Arc::clone(&shared.store),
            Arc::clone(&shared.worker),
            pool,
            parker,
        )
    }

    /// Start nothing any more, give back what has not started, let the rest end for `drain_ms`.
    ///
    /// Returns at once; the notice [`NoticeKind::Stopped`] tells the end. A further call can only
    /// shorten the time.
    pub fn stop(&self, drain_ms: i64) {
        let drain_ms = drain_ms.max(0);
        let shared = &self.shared;
        let never_started = self
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .is_some();
        if never_started {
            let message = "the worker was stopped before it started";
            shared
                .notices
                .push(Notice::new(NoticeKind::Stopped, message));
            return shared.end();
        }
        shared.request_stop(shared.handover.now().saturating_add(drain_ms));
        shared.arm_watchdog(Duration::from_millis(drain_ms.unsigned_abs()));
        shared.handover.close();
    }

    /// Wait for the next notice; `None` when `timeout` went by.
    #[must_use]
    pub fn next_notice(&self, timeout: Duration) -> Option<Notice> {
        self.shared.notices.next(timeout)
    }

    /// Counters and levels.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let counters = *self
            .shared
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let levels = self.shared.handover.levels();
        Statistics {
            claimed: counters.claimed,
            started: levels.iter().map(|levels| levels.taken).sum(),
            settled: counters.settled,
            stale: counters.stale,
            exchanges: counters.exchanges,
            running: levels.iter().map(|levels| levels.running as u64).sum(),
            buffered: levels.iter().map(|levels| levels.buffered as u64).sum(),
            silent_ms: self.shared.silent_ms(),
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        if !self.shared.ended.load(Ordering::Acquire) {
            self.stop(0);
        }
    }
}

impl Shared {
    /// How long ago the dispatcher thread last came round.
    fn silent_ms(&self) -> u64 {
        let seen_at = self.seen_at.load(Ordering::Relaxed);
        let silent_ms = self.handover.now().saturating_sub(seen_at);
        u64::try_from(silent_ms).unwrap_or(0)
    }

    fn request_stop(&self, deadline: i64) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        *stop = Some(stop.map_or(deadline, |present| present.min(deadline)));
    }

    /// The deadline of a stop that was asked for since the last call.
    fn stop_request(&self) -> Option<i64> {
        self.stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn arm_watchdog(&self, drain: Duration) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.arm(drain);
        }
    }

    /// It is over: executors end, the watcher ends.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.handover.close();
        self.changes.end();
    }
}

/// Start a named thread.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_owned()).spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("no thread {name:?} can be started: {error}");
            Err(EngineError::Backend {
                message,
                fatal: true,
                source: Some(Arc::new(error)),
            })
        }
    }
}
