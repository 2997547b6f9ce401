//! What the tests of the store share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part; a panic is a failed test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use taskito_engine::clock::VirtualClock;
use taskito_engine::id::JobId;
use taskito_engine::model::{
    ClaimedJob, DeadLetterLimit, ErrorKind, ExchangeReply, ExchangeRequest, JobRecord, NewJob,
    Outcome, Settlement, TaskLimit, Verdict, WorkerRegistration,
};
use taskito_engine::sqlite::{SqliteOptions, SqliteStore};
use taskito_engine::store::Store;

/// A store on a virtual clock, and the folder that holds it.
pub struct Bench {
    pub store: Arc<SqliteStore>,
    pub clock: VirtualClock,
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::new(1_700_000_000_000);
        let path = folder.path().join("jobs.db");
        let options = SqliteOptions {
            clock: Arc::new(clock.clone()),
            ..SqliteOptions::file(path)
        };
        Self {
            store: SqliteStore::open(options).unwrap(),
            clock,
            folder,
        }
    }

    pub fn enqueue(&self, job: NewJob) -> JobId {
        self.store.enqueue(vec![job]).unwrap()[0].id
    }

    pub fn worker(&self) -> String {
        self.worker_for(&["task"])
    }

    pub fn worker_for(&self, tasks: &[&str]) -> String {
        self.limited_worker(tasks, Vec::new())
    }

    pub fn limited_worker(&self, tasks: &[&str], limits: Vec<TaskLimit>) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let id = format!("{:032x}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.store
            .register(&WorkerRegistration {
                id: id.clone(),
                pid: std::process::id(),
                host: "here".to_owned(),
                queues: None,
                tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
                lease_ms: 10_000,
                concurrency: 4,
                limits,
                dead_letters: DeadLetterLimit::default(),
                schedules: Vec::new(),
            })
            .unwrap();
        id
    }

    pub fn claim(&self, worker: &str, want: usize) -> Vec<ClaimedJob> {
        self.exchange(worker, Vec::new(), want).jobs
    }

    pub fn exchange(
        &self,
        worker: &str,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> ExchangeReply {
        let request = ExchangeRequest {
            worker: worker.to_owned(),
            settlements,
            want,
            ..ExchangeRequest::default()
        };
        self.store.exchange(&request).unwrap()
    }

    pub fn settle(&self, worker: &str, job: &ClaimedJob, outcome: Outcome) -> Verdict {
        let settlement = Settlement {
            lease: job.lease,
            outcome,
            started_ago_ms: Some(0),
        };
        self.exchange(worker, vec![settlement], 0).verdicts[0]
    }

    pub fn job(&self, id: JobId) -> JobRecord {
        self.store.get(&[id]).unwrap().remove(0).unwrap()
    }
}

pub fn job() -> NewJob {
    NewJob {
        task: "task".to_owned(),
        queue: "default".to_owned(),
        payload: b"payload"[..].into(),
        serializer: "msgpack".to_owned(),
        priority: 0,
        delay_ms: 0,
        eta_ms: None,
        expires_in_ms: None,
        expires_at_ms: None,
        max_retries: 3,
        max_crashes: 2,
        timeout_ms: 0,
        result_ttl_ms: None,
        unique_key: None,
        unique_until_start: false,
        idempotency_key: None,
        concurrency_key: None,
        id: None,
        metadata: None,
        fire: None,
        depends_on: Vec::new(),
        workflow: None,
    }
}

pub fn success() -> Outcome {
    Outcome::Success {
        result: b"result"[..].into(),
        serializer: "msgpack".into(),
    }
}

pub fn dead() -> Outcome {
    Outcome::Dead {
        error: b"error"[..].into(),
        kind: ErrorKind::Failure,
    }
}

pub fn retry(delay_ms: i64) -> Outcome {
    Outcome::Retry {
        error: b"error"[..].into(),
        kind: ErrorKind::Failure,
        delay_ms,
    }
}
