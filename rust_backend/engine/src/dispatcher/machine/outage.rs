//! When to try a failing store again.

use crate::error::EngineError;

const FIRST_DELAY_MS: i64 = 10;
const LONGEST_DELAY_MS: i64 = 1_000;

/// One kind of call that may be failing at present.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    delay_ms: i64,
    retry_at: i64,
}

impl Outage {
    /// The call has failed in a way that passes.
    pub(super) fn failed(&mut self, now: i64) {
        let delay_ms = self.failing.as_ref().map_or(FIRST_DELAY_MS, |failing| {
            (failing.delay_ms * 2).min(LONGEST_DELAY_MS)
        });
        self.failing = Some(Failing {
            delay_ms,
            retry_at: now + delay_ms,
        });
    }

    pub(super) fn succeeded(&mut self) {
        self.failing = None;
    }

    pub(super) fn lasts(&self) -> bool {
        self.failing.is_some()
    }

    /// When to try again; `None` while the call works.
    pub(super) fn retry_at(&self) -> Option<i64> {
        self.failing.as_ref().map(|failing| failing.retry_at)
    }
}

/// What the owner is told about a failure.
pub(super) fn describe(error: &EngineError) -> String {
    format!("the store failed and is tried again until it works: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_a_second() {
        let mut outage = Outage::default();
        let mut delays = Vec::new();
        for _ in 0..9 {
            outage.failed(0);
            delays.push(outage.retry_at().unwrap());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        outage.succeeded();
        assert_eq!(outage.retry_at(), None);
        outage.failed(5);
        assert_eq!(outage.retry_at(), Some(15));
    }
}
