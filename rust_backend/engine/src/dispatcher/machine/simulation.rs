//! A store and executors under virtual time, for the tests of the machine.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::handover::{Collected, Levels, Recall, Recalled};
use super::super::notice::Notice;
use super::super::pool::{PerPool, Pool};
use super::super::run::{Finished, Report, RunHandle, Started};
use super::pace::MOST_AHEAD;
use super::{Command, Config, Event, Machine, divide};
use crate::error::{EngineError, Result};
use crate::id::JobId;
use crate::model::{
    ClaimedJob, ExchangeReply, ExchangeRequest, Lease, MaintainReply, Outcome, Verdict,
};

pub(super) const LEASE_MS: i64 = 3_000;

/// What became of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Settled(&'static str),
    /// Settled too late.
    Refused,
    Lost,
}

/// A job of the simulated store.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) run_ms: i64,
    pub(super) timeout_ms: i64,
    pub(super) expires_in_ms: Option<i64>,
    pub(super) fails: bool,
    /// Its executor's process dies in it.
    pub(super) crashes: bool,
    pub(super) max_retries: i64,
    pub(super) queue: &'static str,
    /// It runs on the event loop.
    pub(super) coroutine: bool,
}

impl Template {
    fn task(&self) -> &'static str {
        if self.coroutine { "coroutine" } else { "task" }
    }
}

impl Default for Template {
    fn default() -> Self {
        let queue = "default";
        Self {
            run_ms: 1,
            timeout_ms: 0,
            expires_in_ms: None,
            fails: false,
            crashes: false,
            max_retries: 1,
            queue,
            coroutine: false,
        }
    }
}

struct Running {
    run: Arc<RunHandle>,
    started_at: i64,
    ends_at: i64,
}

/// One machine with everything around it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of a test"
)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) machine: Machine,
    pub(super) ready: VecDeque<(JobId, Template)>,
    /// Live leases with their end.
    pub(super) live: HashMap<Lease, i64>,
    pub(super) fates: BTreeMap<(JobId, i64), Vec<Fate>>,
    /// Runs that ended by themselves before anybody gave up on them.
    pub(super) reported: HashSet<Lease>,
    pub(super) templates: HashMap<JobId, Template>,
    pub(super) requests: Vec<ExchangeRequest>,
    pub(super) maintained: Vec<i64>,
    pub(super) notices: Vec<Notice>,
    pub(super) error: Option<EngineError>,
    pub(super) next_due_ms: Option<i64>,
    pub(super) unknown_tasks: Vec<String>,
    pub(super) paused: Vec<String>,
    pub(super) cancel: Vec<JobId>,
    pub(super) delivered: usize,
    pub(super) registered: usize,
    pub(super) unregistered: bool,
    /// The worker has to register before its next exchange.
    pub(super) forgotten: bool,
    pub(super) closed: bool,
    /// Executors take nothing while set.
    pub(super) frozen: bool,
    kills_overdue: bool,
    buffers: PerPool<VecDeque<Arc<RunHandle>>>,
    slots: Vec<Option<Running>>,
    pools: Vec<Pool>,
    retired: Vec<bool>,
    started: Vec<Started>,
    finished: Vec<Finished>,
    refused: Vec<(Arc<RunHandle>, super::super::run::Refusal)>,
    returned: Vec<usize>,
    calls: PerPool<u64>,
    next_token: i64,
}

impl World {
    /// A worker with so many threads.
    pub(super) fn new(slots: usize) -> Self {
        Self::with(slots, 0, false)
    }

    /// One whose threads kill a run that is over, and say nothing about it.
    pub(super) fn killing(slots: usize) -> Self {
        Self::with(slots, 0, true)
    }

    /// A worker with so many threads and so many places on an event loop.
    pub(super) fn with_loop(threads: usize, places: usize) -> Self {
        Self::with(threads, places, false)
    }

    fn with(threads: usize, places: usize, kills_overdue: bool) -> Self {
        let known = ["task", "coroutine"].map(str::to_owned);
        let coroutines = known[1..].iter().filter(|_| places > 0).cloned().collect();
        let pools = [(Pool::Functions, threads), (Pool::Coroutines, places)];
        let pools: Vec<_> = pools
            .into_iter()
            .flat_map(|(pool, count)| std::iter::repeat_n(pool, count))
            .collect();
        let slots = pools.len();
        let machine = Machine::new(Config {
            worker: "worker".to_owned(),
            lease_ms: LEASE_MS,
            concurrency: PerPool::each(|pool| match pool {
                Pool::Functions => threads,
                Pool::Coroutines => places,
            }),
            tasks: divide(&known, &coroutines),
            coroutines,
            policies: HashMap::new(),
            maintain_interval_ms: 1_000,
            drain_ms: 500,
            kills_overdue,
            seed: 1,
        });
        Self {
            now: 1_000_000,
            machine,
            ready: VecDeque::new(),
            live: HashMap::new(),
            fates: BTreeMap::new(),
            reported: HashSet::new(),
            templates: HashMap::new(),
            requests: Vec::new(),
            maintained: Vec::new(),
            notices: Vec::new(),
            error: None,
            next_due_ms: None,
            unknown_tasks: Vec::new(),
            paused: Vec::new(),
            cancel: Vec::new(),
            delivered: 0,
            registered: 0,
            unregistered: false,
            forgotten: false,
            closed: false,
            frozen: false,
            kills_overdue,
            buffers: PerPool::default(),
            slots: (0..slots).map(|_| None).collect(),
            pools,
            retired: vec![false; slots],
            started: Vec::new(),
            finished: Vec::new(),
            refused: Vec::new(),
            returned: Vec::new(),
            calls: PerPool::default(),
            next_token: 0,
        }
    }

    /// Put jobs into the store and ring.
    pub(super) fn enqueue(&mut self, count: usize, template: &Template) -> Vec<JobId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let sequence = i64::try_from(self.templates.len()).unwrap() + 1;
            let id = JobId::new(self.now, sequence, 0);
            self.templates.insert(id, template.clone());
            self.ready.push_back((id, template.clone()));
            ids.push(id);
        }
        self.handle(Event::Changed);
        ids
    }

    /// Let another worker take over a lease.
    pub(super) fn steal(&mut self, lease: Lease) {
        self.live.remove(&lease);
    }

    pub(super) fn stop(&mut self, drain_ms: i64) {
        self.closed = true;
        self.handle(Event::Stop {
            deadline: self.now + drain_ms,
        });
    }

    /// Let time pass, with everything that happens in it.
    pub(super) fn run_for(&mut self, milliseconds: i64) {
        let end = self.now + milliseconds;
        loop {
            self.execute();
            self.settle_down();
            if self.now >= end {
                return;
            }
            let next_end = self
                .slots
                .iter()
                .flatten()
                .map(|running| running.ends_at)
                .min();
            let next = self
                .machine
                .wake_at()
                .min(next_end.unwrap_or(i64::MAX))
                .min(end);
            self.now = next.max(self.now + 1);
        }
    }

    /// Until the machine wants to sleep. It must not ask for attention without end.
    pub(super) fn settle_down(&mut self) {
        for round in 0.. {
            assert!(round < 200, "the machine spins at {}", self.now);
            let collected = self.collect();
            self.handle(Event::Collected(collected));
            if self.machine.is_over() || (self.machine.wake_at() > self.now && !self.execute()) {
                return;
            }
        }
    }

    fn collect(&mut self) -> Collected {
        Collected {
            started: std::mem::take(&mut self.started),
            finished: std::mem::take(&mut self.finished),
            refused: std::mem::take(&mut self.refused),
            returned: std::mem::take(&mut self.returned),
            levels: PerPool::each(|pool| self.levels_of(pool)),
        }
    }

    /// How full the pool of threads is.
    pub(super) fn levels(&self) -> Levels {
        self.levels_of(Pool::Functions)
    }

    pub(super) fn levels_of(&self, pool: Pool) -> Levels {
        let in_service = |index: &usize| self.pools[*index] == pool && !self.retired[*index];
        let present = (0..self.slots.len()).filter(in_service).count();
        let running = (0..self.slots.len())
            .filter(in_service)
            .filter(|slot| self.slots[*slot].is_some())
            .count();
        Levels {
            buffered: self.buffers[pool].len(),
            present,
            running,
            parked: 0,
            calls: self.calls[pool],
            taken: 0,
        }
    }

    /// End what is over and start what can start; false if nothing of it happened.
    pub(super) fn execute(&mut self) -> bool {
        let mut happened = false;
        for slot in 0..self.slots.len() {
            loop {
                if self.slots[slot]
                    .as_ref()
                    .is_some_and(|running| running.ends_at > self.now)
                {
                    break;
                }
                if let Some(Running {
                    run, started_at, ..
                }) = self.slots[slot].take()
                {
                    happened = true;
                    let ended = self.kills_overdue || run.pool() == Pool::Coroutines;
                    let killed = ended && run.abandoned();
                    let report = (!killed).then(|| self.report(run.lease().id));
                    let ended_at = self.now;
                    if !run.abandoned() {
                        self.reported.insert(run.lease());
                    }
                    self.started.retain(|start| start.lease != run.lease());
                    self.finished.push(Finished {
                        run,
                        slot,
                        started_at,
                        ended_at,
                        report,
                    });
                    if self.retired[slot] {
                        self.returned.push(slot);
                    }
                }
                if self.closed || self.frozen || self.retired[slot] || !self.start(slot) {
                    break;
                }
                happened = true;
            }
        }
        happened
    }

    fn start(&mut self, slot: usize) -> bool {
        let pool = self.pools[slot];
        self.calls[pool] += 1;
        while let Some(run) = self.buffers[pool].pop_front() {
            if let Some(refusal) = run.refusal(self.now) {
                self.refused.push((run, refusal));
                continue;
            }
            let template = &self.templates[&run.lease().id];
            let ends_at = self.now + template.run_ms;
            self.started.push(Started {
                lease: run.lease(),
                slot,
                at: self.now,
            });
            self.slots[slot] = Some(Running {
                run,
                started_at: self.now,
                ends_at,
            });
            return true;
        }
        false
    }

    fn report(&self, id: JobId) -> Report {
        let template = &self.templates[&id];
        if template.fails || template.crashes {
            let kind = if template.crashes {
                crate::model::ErrorKind::Crash
            } else {
                crate::model::ErrorKind::Failure
            };
            return Report::Failure {
                error: Arc::from(&b"e"[..]),
                kind,
                retry: true,
                delay_ms: None,
            };
        }
        Report::Success {
            result: Arc::from(&b"r"[..]),
            serializer: "msgpack".into(),
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let mut commands: VecDeque<_> = self.machine.handle(self.now, event).into();
        while let Some(command) = commands.pop_front() {
            if let Some(event) = self.perform(command) {
                commands.extend(self.machine.handle(self.now, event));
            }
        }
    }

    fn perform(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Exchange(request) => {
                let result = self.exchange(&request);
                self.requests.push(request.clone());
                return Some(Event::Exchanged(request, result));
            }
            Command::Maintain { .. } => {
                self.maintained.push(self.now);
                let result = self.error.clone().map_or_else(|| Ok(self.upkeep()), Err);
                return Some(Event::Maintained(result));
            }
            Command::Register => {
                self.registered += 1;
                self.forgotten = false;
                return Some(Event::Registered(Ok(())));
            }
            Command::Unregister => {
                self.unregistered = true;
                return Some(Event::Unregistered(self.error.clone().map_or(Ok(()), Err)));
            }
            Command::Recall(recall) => {
                let recalled = self.recall(&recall);
                return Some(Event::Recalled(recall, recalled));
            }
            Command::Deliver(runs) => {
                assert!(!self.closed, "delivered after the stop");
                self.delivered += runs.len();
                for run in runs {
                    self.buffers[run.pool()].push_back(run);
                }
            }
            Command::Close { .. } => self.closed = true,
            Command::Notify(notice) => self.note(notice),
        }
        None
    }

    fn note(&mut self, notice: Notice) {
        if notice.kind == super::NoticeKind::Lost {
            // The lost run is the latest of its job that has no fate yet.
            let id = notice.job_id.unwrap();
            let open = self
                .fates
                .range_mut((id, 0)..=(id, i64::MAX))
                .find(|(_, fate)| fate.is_empty());
            open.unwrap().1.push(Fate::Lost);
        }
        self.notices.push(notice);
    }

    fn upkeep(&self) -> MaintainReply {
        let unknown_tasks = self.unknown_tasks.clone();
        MaintainReply {
            next_due_ms: self.next_due_ms,
            unknown_tasks,
            ..MaintainReply::default()
        }
    }

    fn exchange(&mut self, request: &ExchangeRequest) -> Result<ExchangeReply> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.forgotten {
            return Err(EngineError::UnknownWorker(request.worker.clone()));
        }
        let verdicts = request
            .settlements
            .iter()
            .map(|settlement| self.settle(settlement.lease, &settlement.outcome))
            .collect();
        let mut lost = Vec::new();
        for lease in &request.renewals {
            match self.live.get_mut(lease) {
                Some(end) => {
                    assert!(*end > self.now, "renewed {} ms late", self.now - *end);
                    *end = self.now + LEASE_MS;
                }
                None => lost.push(*lease),
            }
        }
        self.check_want(request);
        let tasks = request.tasks.as_deref();
        let jobs = (0..request.want).map_while(|_| self.claim(tasks)).collect();
        let cancel_requests = self.cancel.clone();
        let paused = self.paused.clone();
        Ok(ExchangeReply {
            verdicts,
            jobs,
            lost,
            cancel_requests,
            paused,
            next_due_ms: self.next_due_ms,
        })
    }

    fn settle(&mut self, lease: Lease, outcome: &Outcome) -> Verdict {
        let fate = self
            .fates
            .get_mut(&(lease.id, lease.token))
            .expect("a lease of ours");
        if self.live.remove(&lease).is_none() {
            fate.push(Fate::Refused);
            return Verdict::Stale;
        }
        fate.push(Fate::Settled(name(outcome)));
        if matches!(outcome, Outcome::Release { .. }) {
            self.ready
                .push_back((lease.id, self.templates[&lease.id].clone()));
        }
        Verdict::Ok
    }

    /// A worker holds no more than its free slots and a bounded buffer can use.
    fn check_want(&self, request: &ExchangeRequest) {
        let names = |name: &str| {
            request
                .tasks
                .as_ref()
                .is_some_and(|tasks| tasks.contains(&name.to_owned()))
        };
        let pool = if names("coroutine") {
            Pool::Coroutines
        } else {
            Pool::Functions
        };
        let (want, levels) = (request.want, self.levels_of(pool));
        let free = levels.present - levels.running;
        assert!(
            want + levels.buffered <= free + MOST_AHEAD || want == 0,
            "{want}, {levels:?}"
        );
    }

    fn claim(&mut self, tasks: Option<&[String]>) -> Option<ClaimedJob> {
        let open = |(_, template): &(JobId, Template)| {
            !self.paused.contains(&template.queue.into())
                && tasks.is_none_or(|tasks| tasks.iter().any(|task| task == template.task()))
        };
        let (id, template) = self.ready.remove(self.ready.iter().position(open)?)?;
        self.next_token += 1;
        let lease = Lease {
            id,
            token: self.next_token,
        };
        self.live.insert(lease, self.now + LEASE_MS);
        self.fates.insert((id, lease.token), Vec::new());
        Some(ClaimedJob {
            lease,
            task: template.task().to_owned(),
            queue: template.queue.to_owned(),
            payload: Arc::from(&b""[..]),
            serializer: "msgpack".to_owned(),
            metadata: None,
            priority: 0,
            attempt: 0,
            max_retries: template.max_retries,
            timeout_ms: template.timeout_ms,
            expires_in_ms: template.expires_in_ms,
            fire: None,
            suspect: false,
            inputs: Vec::new(),
        })
    }

    fn recall(&mut self, recall: &Recall) -> Recalled {
        let chosen = |run: &RunHandle| match recall {
            Recall::Unstarted => true,
            Recall::Pool(pool) => run.pool() == *pool,
            Recall::Queues(queues) => queues.contains(&run.job().queue),
            Recall::Cancelled(leases) | Recall::Lost(leases) => leases.contains(&run.lease()),
            Recall::TimedOut(_) | Recall::Interrupted => false,
        };
        let mut unstarted = Vec::new();
        for buffer in self.buffers.iter_mut() {
            let (taken, kept): (Vec<_>, Vec<_>) = buffer.drain(..).partition(|run| chosen(run));
            *buffer = kept.into();
            unstarted.extend(taken);
        }
        let mut running = Vec::new();
        for (slot, active) in self.slots.iter().enumerate() {
            let Some(Running { run, .. }) = active else {
                continue;
            };
            match recall {
                Recall::Cancelled(leases) if leases.contains(&run.lease()) => run.request_cancel(),
                Recall::Lost(leases) if leases.contains(&run.lease()) => run.abandon(),
                Recall::TimedOut(leases) if leases.contains(&(slot, run.lease())) => {
                    run.abandon();
                    self.retired[slot] = true;
                }
                Recall::Interrupted if !run.abandoned() => run.abandon(),
                _ => continue,
            }
            running.push((slot, Arc::clone(run)));
        }
        Recalled { unstarted, running }
    }
}

/// The name of an outcome, for comparisons.
pub(super) fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success { .. } => "success",
        Outcome::Retry { .. } => "retry",
        Outcome::Dead { .. } => "dead",
        Outcome::Cancelled { .. } => "cancelled",
        Outcome::Snooze { .. } => "snooze",
        Outcome::Release { interrupted: true } => "interrupted",
        Outcome::Release { interrupted: false } => "release",
    }
}

/// An error that passes.
pub(super) fn busy() -> EngineError {
    EngineError::Busy {
        path: "q.db".into(),
        waited_ms: 1,
    }
}
