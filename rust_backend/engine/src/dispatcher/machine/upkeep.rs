//! When the store's upkeep is due.

use std::cmp;

use super::outage::Outage;
use crate::model::MaintainReply;

/// Rows of each kind that one step may touch.
pub(super) const BUDGET: usize = 1_000;
/// The longest pause between steps that a store asked for and that did nothing.
const LONGEST_FRUITLESS_MS: i64 = 100;

/// The schedule of upkeep: at the start, when a job becomes due, and once in every interval.
#[derive(Debug)]
pub(super) struct Upkeep {
    interval_ms: i64,
    at: i64,
    /// No step before this: a store that says "now" again and again is not asked without end.
    not_before: i64,
    fruitless: u32,
    pub(super) outage: Outage,
}

impl Upkeep {
    pub(super) fn new(interval_ms: i64) -> Self {
        Self {
            interval_ms: cmp::max(interval_ms, 1),
            at: i64::MIN,
            not_before: i64::MIN,
            fruitless: 0,
            outage: Outage::default(),
        }
    }

    /// When the next step is due.
    pub(super) fn at(&self) -> i64 {
        self.outage
            .retry_at()
            .unwrap_or_else(|| cmp::max(self.at, self.not_before))
    }

    /// A job becomes due in `next_due_ms`.
    pub(super) fn due_in(&mut self, now: i64, next_due_ms: Option<i64>) {
        if let Some(left) = next_due_ms {
            self.at = cmp::min(self.at, now.saturating_add(left.max(0)));
        }
    }

    pub(super) fn done(&mut self, now: i64, reply: &MaintainReply) {
        self.outage.succeeded();
        self.at = now + self.interval_ms;
        self.due_in(now, reply.next_due_ms);
        let touched = [
            reply.promoted,
            reply.rescued,
            reply.expired,
            reply.pruned,
            reply.fired,
        ];
        if touched.iter().any(|rows| *rows >= BUDGET) {
            self.at = now;
        }
        let asked_again = reply.next_due_ms.is_some_and(|left| left <= 1);
        if asked_again && touched.iter().all(|rows| *rows == 0) {
            self.not_before = now + cmp::min(1 << self.fruitless.min(7), LONGEST_FRUITLESS_MS);
            self.fruitless += 1;
        } else {
            self.fruitless = 0;
        }
    }

    pub(super) fn failed(&mut self, now: i64) {
        self.outage.failed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_due_at_the_start_then_in_every_interval_or_when_a_job_is_due() {
        let mut upkeep = Upkeep::new(1_000);
        assert!(upkeep.at() <= 0);
        upkeep.done(0, &MaintainReply::default());
        assert_eq!(upkeep.at(), 1_000);
        upkeep.due_in(100, Some(50));
        assert_eq!(upkeep.at(), 150);
        upkeep.due_in(110, Some(500));
        assert_eq!(upkeep.at(), 150);
    }

    #[test]
    fn a_full_step_is_followed_by_another() {
        let mut upkeep = Upkeep::new(1_000);
        upkeep.done(
            7,
            &MaintainReply {
                promoted: BUDGET,
                ..MaintainReply::default()
            },
        );
        assert_eq!(upkeep.at(), 7);
    }

    #[test]
    fn a_store_that_always_says_now_is_asked_ever_more_slowly() {
        let mut upkeep = Upkeep::new(1_000);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            upkeep.done(
                now,
                &MaintainReply {
                    next_due_ms: Some(0),
                    ..MaintainReply::default()
                },
            );
            pauses.push(upkeep.at() - now);
            now = upkeep.at();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        upkeep.done(
            now,
            &MaintainReply {
                promoted: 1,
                ..MaintainReply::default()
            },
        );
        upkeep.due_in(now, Some(0));
        assert_eq!(upkeep.at(), now);
    }
}
