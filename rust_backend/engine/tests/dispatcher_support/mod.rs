//! A store in memory and executor threads, for the tests of the dispatcher.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use taskito_engine::dispatcher::{
    Dispatcher, DispatcherOptions, Notice, NoticeKind, Report, RunHandle, Slot, Taken,
};
use taskito_engine::error::{EngineError, Result};
use taskito_engine::id::JobId;
use taskito_engine::model::{
    ClaimedJob, DeadLetterLimit, ExchangeReply, ExchangeRequest, Lease, MaintainReply, Outcome,
    Verdict, WorkerRegistration,
};
use taskito_engine::store::Store;

/// Jobs that wait, leases that live, and outcomes that were accepted.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    pub ready: VecDeque<ClaimedJob>,
    pub live: HashMap<Lease, ClaimedJob>,
    pub settled: HashMap<JobId, Vec<Outcome>>,
    pub stale: usize,
    pub registered: Vec<String>,
    pub unregistered: Vec<String>,
    pub exchanges: usize,
    pub largest_want: usize,
    /// What every call answers instead of doing anything.
    pub error: Option<EngineError>,
    /// So many of the next exchanges fail in a way that passes.
    pub failures: usize,
    pub panics: bool,
    /// What the slots have noted as started.
    pub marks: HashMap<usize, i64>,
    pub changes: u64,
    sequence: i64,
    token: i64,
}

impl MemoryStore {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Store jobs and ring.
    pub fn enqueue(&self, count: usize, timeout_ms: i64) -> Vec<JobId> {
        let mut state = self.lock();
        let ids = (0..count).map(|_| state.add(timeout_ms)).collect();
        state.changes += 1;
        drop(state);
        self.changed.notify_all();
        ids
    }

    /// Wait until this holds.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let began = Instant::now();
        while !condition(&self.lock()) {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "waited in vain: {what}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many jobs have ended, each of them exactly once.
    pub fn settled_once(&self) -> usize {
        let state = self.lock();
        assert!(state.settled.values().all(|outcomes| outcomes.len() == 1));
        state.settled.len()
    }

    fn check(state: &State) -> Result<()> {
        state.error.clone().map_or(Ok(()), Err)
    }
}

impl State {
    fn add(&mut self, timeout_ms: i64) -> JobId {
        self.sequence += 1;
        let id = JobId::new(0, self.sequence, 0);
        self.ready.push_back(ClaimedJob {
            lease: Lease { id, token: 0 },
            task: "task".to_owned(),
            queue: "default".to_owned(),
            payload: Arc::from(&b"payload"[..]),
            serializer: "msgpack".to_owned(),
            metadata: None,
            priority: 0,
            attempt: 0,
            max_retries: 0,
            timeout_ms,
            expires_in_ms: None,
            suspect: false,
            fire: None,
            inputs: Vec::new(),
        });
        id
    }

    fn claim(&mut self) -> Option<ClaimedJob> {
        let mut job = self.ready.pop_front()?;
        self.token += 1;
        job.lease.token = self.token;
        self.live.insert(job.lease, job.clone());
        Some(job)
    }

    fn settle(&mut self, lease: Lease, outcome: &Outcome) -> Verdict {
        let Some(job) = self.live.remove(&lease) else {
            self.stale += 1;
            return Verdict::Stale;
        };
        if matches!(outcome, Outcome::Release { .. }) {
            self.ready.push_back(job);
        } else {
            self.settled
                .entry(lease.id)
                .or_default()
                .push(outcome.clone());
        }
        Verdict::Ok
    }
}

impl Store for MemoryStore {
    fn register(&self, worker: &WorkerRegistration) -> Result<()> {
        let mut state = self.lock();
        Self::check(&state)?;
        state.registered.push(worker.id.clone());
        Ok(())
    }

    fn unregister(&self, worker: &str) -> Result<()> {
        let mut state = self.lock();
        Self::check(&state)?;
        state.unregistered.push(worker.to_owned());
        Ok(())
    }

    fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply> {
        let mut state = self.lock();
        assert!(!state.panics, "the store is broken");
        Self::check(&state)?;
        if state.failures > 0 && !request.settlements.is_empty() {
            state.failures -= 1;
            return Err(EngineError::Busy {
                path: "memory".into(),
                waited_ms: 1,
            });
        }
        state.exchanges += 1;
        state.largest_want = state.largest_want.max(request.want);
        let verdicts: Vec<_> = request
            .settlements
            .iter()
            .map(|settlement| state.settle(settlement.lease, &settlement.outcome))
            .collect();
        let lost = request
            .renewals
            .iter()
            .filter(|lease| !state.live.contains_key(lease))
            .copied()
            .collect();
        let jobs = (0..request.want).map_while(|_| state.claim()).collect();
        if !verdicts.is_empty() {
            state.changes += 1;
        }
        drop(state);
        self.changed.notify_all();
        Ok(ExchangeReply {
            verdicts,
            jobs,
            lost,
            ..ExchangeReply::default()
        })
    }

    fn maintain(&self, _budget: usize) -> Result<MaintainReply> {
        Self::check(&self.lock())?;
        Ok(MaintainReply::default())
    }

    fn wait(&self, since: u64, timeout: Duration) -> Result<u64> {
        let state = self.lock();
        let unchanged = |state: &mut State| state.changes == since;
        let waited = self.changed.wait_timeout_while(state, timeout, unchanged);
        let state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        Ok(state.changes)
    }

    fn mark_started(&self, _worker: &str, slot: usize, token: Option<i64>) {
        let mut state = self.lock();
        match token {
            Some(token) => state.marks.insert(slot, token),
            None => state.marks.remove(&slot),
        };
    }
}

/// A dispatcher of a worker with so many executors.
pub fn dispatcher(
    store: Arc<dyn Store>,
    concurrency: usize,
    options: &DispatcherOptions,
) -> Dispatcher {
    let registration = WorkerRegistration {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        pid: std::process::id(),
        host: "host".to_owned(),
        queues: None,
        tasks: vec!["task".to_owned()],
        lease_ms: 30_000,
        concurrency,
        schedules: vec![],
        limits: Vec::new(),
        dead_letters: DeadLetterLimit::default(),
    };
    Dispatcher::new(store, registration, Vec::new(), options)
}

/// A started dispatcher with the default options.
pub fn started(store: &Arc<MemoryStore>, concurrency: usize) -> Dispatcher {
    let store = Arc::clone(store) as Arc<dyn Store>;
    let dispatcher = dispatcher(store, concurrency, &DispatcherOptions::default());
    dispatcher.start().expect("the store accepts it");
    dispatcher
}

pub fn success() -> Report {
    Report::Success {
        result: Arc::from(&b"result"[..]),
        serializer: "msgpack".into(),
    }
}

/// One executor thread; it returns how many runs it had.
pub fn executor(
    mut slot: Slot,
    body: impl Fn(&RunHandle) -> Report + Send + 'static,
) -> JoinHandle<usize> {
    thread::spawn(move || {
        let (mut report, mut runs) = (None, 0);
        loop {
            match slot.try_next(report.take()) {
                Taken::Run(run) => {
                    runs += 1;
                    report = Some(body(&run));
                }
                Taken::Empty => slot.park(Duration::from_millis(100)),
                Taken::Stopped => return runs,
            }
        }
    })
}

/// All notices up to the last one.
pub fn notices(dispatcher: &Dispatcher) -> Vec<Notice> {
    let mut notices = Vec::new();
    loop {
        let notice = dispatcher
            .next_notice(Duration::from_secs(30))
            .expect("no notice came");
        let last = notice.kind == NoticeKind::Stopped;
        notices.push(notice);
        if last {
            return notices;
        }
    }
}

pub fn kinds(notices: &[Notice]) -> Vec<&'static str> {
    notices.iter().map(|notice| notice.kind.name()).collect()
}

/// Stop and end all threads; returns how many runs each had.
pub fn finish(dispatcher: &Dispatcher, executors: Vec<JoinHandle<usize>>) -> Vec<usize> {
    dispatcher.stop(5_000);
    executors
        .into_iter()
        .map(|executor| executor.join().expect("an executor failed"))
        .collect()
}
