//! The place of one executor: a thread, or one of many on an event loop.

use std::sync::Arc;
use std::time::Duration;

use super::handover::Handover;
use super::parker::Parker;
use super::pool::Pool;
use super::run::{Report, RunHandle};
use crate::store::Store;

/// What a slot got when it asked for work.
#[derive(Debug)]
pub enum Taken {
    /// Run this and report how it ended with the next call.
    Run(Arc<RunHandle>),
    /// Nothing to do: [`Slot::park`], then ask again.
    Empty,
    /// End this thread: the worker stops, or the slot was replaced after a timeout.
    Stopped,
}

/// The place of one executor. Dropping it during a run counts as a failed attempt.
pub struct Slot {
    handover: Arc<Handover>,
    store: Arc<dyn Store>,
    worker: Arc<str>,
    parker: Arc<Parker>,
    index: usize,
    /// The run whose start the store has noted for this slot.
    marked: Option<i64>,
}

impl Slot {
    pub(super) fn new(
        handover: Arc<Handover>,
        store: Arc<dyn Store>,
        worker: Arc<str>,
        pool: Pool,
        parker: Parker,
    ) -> Self {
        let parker = Arc::new(parker);
        let index = handover.add_slot(pool, Arc::clone(&parker));
        Self {
            handover,
            store,
            worker,
            parker,
            index,
            marked: None,
        }
    }

    /// The number by which notices name this slot. Used again after the slot is dropped.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Report how the last run ended (`None` at first) and take the next one.
    ///
    /// Never blocks on anything long. A missing report after a run counts as a failed attempt; a
    /// report without a run is ignored.
    pub fn try_next(&mut self, report: Option<Report>) -> Taken {
        self.mark_end();
        let taken = self.handover.next(self.index, report);
        if let Taken::Run(run) = &taken {
            let started = run.lease().token;
            self.store
                .mark_started(&self.worker, self.index, Some(started));
            self.marked = Some(started);
        } else {
            self.unmark();
        }
        taken
    }

    /// Report how the last run ended without taking another one.
    ///
    /// For an executor that cannot start anything for a while, because its process is replaced.
    /// Until its next [`Slot::try_next`] it does not count as capacity. False if that would be
    /// answered by [`Taken::Stopped`]: there is no need to prepare for it.
    pub fn report(&mut self, report: Option<Report>) -> bool {
        self.mark_end();
        let goes_on = self.handover.pause(self.index, report);
        self.unmark();
        goes_on
    }

    /// Sleep until there may be work, at most for `timeout`.
    pub fn park(&self, timeout: Duration) {
        self.parker.park(timeout);
    }

    /// Before the report is handed in, so that no moment is without a note of the run.
    fn mark_end(&self) {
        if let Some(token) = self.marked {
            self.store.mark_ended(&self.worker, token);
        }
    }

    fn unmark(&mut self) {
        if self.marked.take().is_some() {
            self.store.mark_started(&self.worker, self.index, None);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.mark_end();
        self.unmark();
        self.handover.drop_slot(self.index);
    }
}
