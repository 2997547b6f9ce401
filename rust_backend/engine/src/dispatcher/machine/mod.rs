//! The decisions of a dispatcher, as a pure state machine: events in, commands out.
//!
//! It does no I/O, reads no clock and starts no thread; every instant is a parameter, in steady
//! milliseconds. The driver collects what the executors did, hands that in, performs the commands it
//! gets back, hands in their results, and sleeps until [`Machine::wake_at`].
//!
//! Invariants:
//! - Every lease that the store granted is in `leases` until the store answers a settlement of it,
//!   refuses its renewal, or the worker has to stop.
//! - A settlement leaves `unstored` only with the store's answer.
//! - Nothing is delivered or wanted after [`Event::Stop`].
//! - One call of the store at most per [`Event::Collected`].

mod exchanges;
mod leases;
mod outage;
mod pace;
mod pool;
mod settling;
mod shutdown;
mod upkeep;
mod zombies;

#[cfg(test)]
mod endings;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;

use std::cmp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use self::exchanges::Unstored;
use self::leases::Leases;
use self::outage::Outage;
use self::pool::PoolState;
pub(super) use self::pool::divide;
use self::shutdown::Phase;
use self::upkeep::{BUDGET, Upkeep};
use self::zombies::Zombies;
use super::handover::{Collected, Recall, Recalled, SleepHints};
use super::notice::{Notice, NoticeKind};
use super::pool::{PerPool, Pool};
use super::run::RunHandle;
use crate::error::{EngineError, Result};
use crate::model::{ExchangeReply, ExchangeRequest, Lease, MaintainReply, TaskPolicy};

/// So many outcomes are sent at once.
const GROUP: usize = 64;
/// The first outcome of a group waits no longer than this for others.
const GROUP_MS: i64 = 2;
/// A start is reported at the latest after this time, if nothing else is.
const STARTS_MS: i64 = 1_000;
/// While all slots are busy, a changed store is asked for requests this often.
const CONTROL_MS: i64 = 50;

/// What does not change while a worker runs.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) worker: String,
    pub(super) lease_ms: i64,
    pub(super) concurrency: PerPool<usize>,
    /// The tasks that run on the event loop.
    pub(super) coroutines: HashSet<String>,
    /// The tasks to ask the store for, for each pool; `None` means all.
    pub(super) tasks: PerPool<Option<Arc<[String]>>>,
    pub(super) policies: HashMap<String, TaskPolicy>,
    pub(super) maintain_interval_ms: i64,
    /// How long running jobs may take to end when the worker has to stop by itself.
    pub(super) drain_ms: i64,
    /// A run whose time is over is killed, so it leaves no thread stuck in it.
    pub(super) kills_overdue: bool,
    /// Starts the sequence of retry jitters.
    pub(super) seed: u64,
}

/// What happens to a dispatcher.
#[derive(Debug)]
pub(super) enum Event {
    /// What the executors did; the machine decides what is due now.
    Collected(Collected),
    /// Something changed in the store.
    Changed,
    /// The answer to [`Command::Exchange`], with the request.
    Exchanged(ExchangeRequest, Result<ExchangeReply>),
    /// The answer to [`Command::Maintain`].
    Maintained(Result<MaintainReply>),
    /// The answer to [`Command::Recall`].
    Recalled(Recall, Recalled),
    /// The answer to [`Command::Register`].
    Registered(Result<()>),
    /// The answer to [`Command::Unregister`].
    Unregistered(Result<()>),
    /// Somebody wants the worker to end; running jobs have until `deadline`.
    Stop { deadline: i64 },
}

/// What a dispatcher is to do.
#[derive(Debug)]
pub(super) enum Command {
    Exchange(ExchangeRequest),
    Maintain {
        budget: usize,
    },
    /// Announce the worker again: the store has forgotten it.
    Register,
    Unregister,
    Deliver(Vec<Arc<RunHandle>>),
    Recall(Recall),
    /// Let no run start any more; the process has until `deadline` if it belongs to the worker.
    Close {
        deadline: i64,
    },
    Notify(Notice),
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) claimed: u64,
    pub(super) settled: u64,
    pub(super) stale: u64,
    pub(super) exchanges: u64,
}

/// The state of one dispatcher.
#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    phase: Phase,
    leases: Leases,
    unstored: VecDeque<Unstored>,
    /// Runs whose start the store does not know yet.
    starts: Vec<Lease>,
    first_start_at: i64,
    /// How soon a start is reported: whoever pauses a queue waits until nothing of it is claimed and
    /// not started.
    starts_within_ms: i64,
    pools: PerPool<PoolState>,
    /// The pool that the last exchange asked for.
    asked: Pool,
    upkeep: Upkeep,
    outage: Outage,
    /// The store has changed since the last exchange.
    changed: bool,
    last_exchange_at: i64,
    /// Exchanges in a row that did nothing.
    fruitless: u32,
    maintained_last: bool,
    /// Registrations since the last exchange that worked; `None` if none is wanted.
    register: Register,
    zombies: Zombies,
    unknown_tasks: HashSet<String>,
    undeclared_schedules: HashSet<String>,
    /// Why the worker stops, if not by request.
    fatal: Option<EngineError>,
    random: u64,
    counters: Counters,
    commands: Vec<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Known,
    /// The store has forgotten this worker.
    Wanted,
    /// Announced again; forgotten once more means that something is wrong.
    Repeated,
}

impl Machine {
    pub(super) fn new(config: Config) -> Self {
        Self {
            phase: Phase::Running,
            leases: Leases::new(config.lease_ms),
            unstored: VecDeque::new(),
            starts: Vec::new(),
            first_start_at: 0,
            starts_within_ms: STARTS_MS,
            pools: PerPool::default(),
            asked: Pool::default(),
            upkeep: Upkeep::new(config.maintain_interval_ms),
            outage: Outage::default(),
            changed: false,
            last_exchange_at: i64::MIN / 2,
            fruitless: 0,
            maintained_last: false,
            register: Register::Known,
            zombies: Zombies::default(),
            unknown_tasks: HashSet::new(),
            undeclared_schedules: HashSet::new(),
            fatal: None,
            random: config.seed,
            counters: Counters::default(),
            commands: Vec::new(),
            config,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the last notice was given and nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether nothing but a change of the store can bring new jobs.
    pub(super) fn wants_changes(&self) -> bool {
        self.pools.iter().all(|pool| !pool.backlog)
    }

    /// The store may have jobs for any pool.
    fn expect_jobs(&mut self) {
        for pool in self.pools.iter_mut() {
            pool.backlog = true;
        }
    }

    /// Take in what has happened; returns what is to be done, in order.
    pub(super) fn handle(&mut self, now: i64, event: Event) -> Vec<Command> {
        if self.phase != Phase::Ended {
            match event {
                Event::Collected(collected) => {
                    self.take_in(now, collected);
                    self.decide(now);
                }
                Event::Changed => {
                    self.changed = true;
                    self.expect_jobs();
                }
                Event::Exchanged(request, result) => self.exchanged(now, request, result),
                Event::Maintained(result) => self.maintained(now, result),
                Event::Recalled(recall, recalled) => self.recalled(now, &recall, &recalled),
                Event::Registered(result) => self.registered(now, result),
                Event::Unregistered(result) => self.unregistered(result),
                Event::Stop { deadline } => self.drain(deadline, None),
            }
        }
        std::mem::take(&mut self.commands)
    }

    /// When the executors are to be looked at again, if nothing happens before.
    pub(super) fn wake_at(&self) -> i64 {
        if self.phase != Phase::Running && self.leases.is_empty() {
            return i64::MIN;
        }
        let mut at = cmp::min(self.call_at(), self.phase.deadline());
        if self.phase.keeps_upkeep() {
            at = cmp::min(at, self.upkeep.at());
        }
        if self.phase == Phase::Running {
            at = cmp::min(at, self.zombies.at());
        }
        if let Some(timeout) = self.leases.next_timeout() {
            at = cmp::min(at, timeout);
        }
        let gives_back = self.pools.iter().filter_map(PoolState::gives_back_at).min();
        cmp::min(at, gives_back.unwrap_or(i64::MAX))
    }

    /// What is to wake the dispatcher earlier.
    pub(super) fn sleep_hints(&self) -> SleepHints {
        SleepHints {
            wake_at: self.wake_at(),
            group: GROUP.saturating_sub(self.unstored.len()).max(1),
            first: self.unstored.is_empty(),
            quiet: self.outage.lasts(),
            pools: PerPool::each(|pool| self.pools[pool].hints(self.phase == Phase::Running)),
        }
    }

    /// Do what is due: at most one call of the store.
    fn decide(&mut self, now: i64) {
        self.expel_overdue(now);
        self.check_zombies(now);
        self.give_back_stalled(now);
        self.advance_phase(now);
        if matches!(self.phase, Phase::Unregistering | Phase::Ended) {
            return;
        }
        let exchange_due = self.call_at() <= now;
        let upkeep_due = self.phase.keeps_upkeep() && self.upkeep.at() <= now;
        if upkeep_due && !(exchange_due && self.maintained_last) {
            self.maintained_last = true;
            self.commands.push(Command::Maintain { budget: BUDGET });
        } else if exchange_due {
            self.maintained_last = false;
            if self.register == Register::Wanted {
                return self.commands.push(Command::Register);
            }
            let request = self.request(now);
            self.commands.push(Command::Exchange(request));
        }
    }

    /// When the next exchange is due, or the registration that has to come before it.
    fn call_at(&self) -> i64 {
        match self.register {
            Register::Known | Register::Repeated => self.exchange_at(),
            Register::Wanted => self.outage.retry_at().unwrap_or(i64::MIN),
        }
    }

    fn take_in(&mut self, now: i64, collected: Collected) {
        for pool in Pool::ALL {
            let levels = collected.levels[pool];
            let ended = collected.finished.iter();
            let times = ended
                .filter(|ended| ended.run.pool() == pool)
                .map(|ended| ended.ended_at - ended.started_at);
            self.pools[pool].observe(now, levels, times);
        }
        for slot in &collected.returned {
            self.zombies.remove(*slot);
        }
        for start in collected.started {
            if self.leases.started(start) {
                if self.starts.is_empty() {
                    self.first_start_at = start.at;
                }
                self.starts.push(start.lease);
            }
        }
        for finished in collected.finished {
            self.report(now, finished);
        }
        for (run, refusal) in collected.refused {
            self.refuse(now, &run, refusal);
        }
        self.leases.refresh(now);
    }

    fn give_back_stalled(&mut self, now: i64) {
        for pool in Pool::ALL {
            if self.pools[pool].gives_back(now) {
                self.commands.push(Command::Recall(Recall::Pool(pool)));
            }
        }
    }

    fn maintained(&mut self, now: i64, result: Result<MaintainReply>) {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return self.failed(&error, |machine| machine.upkeep.failed(now)),
        };
        self.recovered(|machine| machine.upkeep.done(now, &reply));
        self.expect_jobs();
        self.report_schedules(reply.undeclared_schedules);
        for task in reply.unknown_tasks {
            if self.unknown_tasks.insert(task.clone()) {
                let message = format!(
                    "jobs wait for the task {task:?}, which no worker knows; start a worker that \
                     registers it"
                );
                let notice = Notice::new(NoticeKind::UnknownTask, message);
                self.notify(Notice {
                    task: Some(task),
                    ..notice
                });
            }
        }
    }

    /// Tell of schedules that do not fire since their code is gone.
    fn report_schedules(&mut self, undeclared: Vec<String>) {
        for name in undeclared {
            if !self.undeclared_schedules.insert(name.clone()) {
                continue;
            }
            let message = format!(
                "the schedule {name:?} does not fire, since no worker declares it; start a worker \
                 whose code has it, or delete it"
            );
            self.notify(Notice::new(NoticeKind::UndeclaredSchedule, message));
        }
    }

    fn registered(&mut self, now: i64, result: Result<()>) {
        match result {
            Ok(()) => {
                self.register = Register::Repeated;
                self.changed = true;
            }
            Err(error) => self.failed(&error, |machine| machine.outage.failed(now)),
        }
    }

    /// A call of the store has failed: note it, or stop if it can never succeed.
    fn failed(&mut self, error: &EngineError, note: impl FnOnce(&mut Self)) {
        if !error.is_passing() {
            return self.give_up(error.clone());
        }
        let known = self.outage.lasts() || self.upkeep.outage.lasts();
        note(self);
        if !known {
            self.notify(Notice::new(NoticeKind::Storage, outage::describe(error)));
        }
    }

    /// A call of the store has worked.
    fn recovered(&mut self, note: impl FnOnce(&mut Self)) {
        let failing = self.outage.lasts() || self.upkeep.outage.lasts();
        note(self);
        if failing && !self.outage.lasts() && !self.upkeep.outage.lasts() {
            self.notify(Notice::new(
                NoticeKind::StorageRecovered,
                "the store works again",
            ));
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.commands.push(Command::Notify(notice));
    }
}
