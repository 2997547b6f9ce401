//! How much work to hold in front of the executors.

use std::cmp;

/// The buffer holds about this much work, in milliseconds of the recent rate.
const AHEAD_MS: f64 = 20.0;
/// No more than this many jobs wait in front of the executors.
pub(super) const MOST_AHEAD: usize = 1_000;
/// A rate is measured over at least this long.
const WINDOW_MS: i64 = 10;

/// The recent rate of the executors.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Finished runs per millisecond, over the time in which there was work.
    rate: f64,
    /// Milliseconds that a run takes.
    run_ms: f64,
    window_ms: i64,
    window_runs: u32,
    last: Option<i64>,
}

impl Pace {
    /// Count runs that ended since the last call.
    ///
    /// `busy` tells whether there was work all that time; idle time says nothing about a rate.
    pub(super) fn observe(&mut self, now: i64, busy: bool, run_times: impl Iterator<Item = i64>) {
        let mut runs = 0_u32;
        for run_ms in run_times {
            let weight = if self.rate == 0.0 && self.window_runs == 0 && runs == 0 {
                1.0
            } else {
                0.06
            };
            self.run_ms += weight * (float(run_ms) - self.run_ms);
            runs += 1;
        }
        let passed = self.last.map_or(0, |last| now - last);
        self.last = Some(now);
        if !busy && runs == 0 {
            return;
        }
        self.window_runs = self.window_runs.saturating_add(runs);
        self.window_ms += passed;
        if self.window_ms >= WINDOW_MS {
            let sample = f64::from(self.window_runs) / float(self.window_ms);
            self.rate = if self.rate == 0.0 {
                sample
            } else {
                f64::midpoint(self.rate, sample)
            };
            (self.window_ms, self.window_runs) = (0, 0);
        }
    }

    /// Believe nothing about the rate until more runs have ended.
    pub(super) fn forget(&mut self) {
        *self = Self {
            last: self.last,
            run_ms: self.run_ms,
            ..Self::default()
        };
    }

    /// How many jobs to hold beyond those that free slots can start at once.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number; the fraction is dropped on purpose"
    )]
    pub(super) fn prefetch(&self) -> usize {
        if self.run_ms > AHEAD_MS {
            return 0;
        }
        cmp::min((self.rate * AHEAD_MS) as usize, MOST_AHEAD)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of one run or one window"
)]
fn float(milliseconds: i64) -> f64 {
    milliseconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(pace: &mut Pace, steps: i64, step_ms: i64, runs: usize, run_ms: i64) {
        let mut now = pace.last.unwrap_or(0);
        for _ in 0..steps {
            now += step_ms;
            pace.observe(now, true, std::iter::repeat_n(run_ms, runs));
        }
    }

    #[test]
    fn nothing_is_fetched_ahead_before_anything_ran() {
        assert_eq!(Pace::default().prefetch(), 0);
    }

    #[test]
    fn fast_jobs_are_fetched_for_twenty_milliseconds() {
        let mut pace = Pace::default();
        steady(&mut pace, 100, 1, 10, 0);
        assert!(
            (190..=210).contains(&pace.prefetch()),
            "{}",
            pace.prefetch()
        );
        steady(&mut pace, 100, 1, 500, 0);
        assert_eq!(pace.prefetch(), MOST_AHEAD);
    }

    #[test]
    fn slow_jobs_are_never_fetched_ahead() {
        let mut pace = Pace::default();
        steady(&mut pace, 100, 10, 5, 25);
        assert_eq!(pace.prefetch(), 0);
    }

    #[test]
    fn idle_time_does_not_lower_the_rate() {
        let mut pace = Pace::default();
        steady(&mut pace, 100, 1, 10, 0);
        let before = pace.prefetch();
        for second in 1..10 {
            pace.observe(100 + second * 1_000, false, std::iter::empty());
        }
        assert_eq!(pace.prefetch(), before);
    }

    #[test]
    fn a_forgotten_rate_is_learnt_again() {
        let mut pace = Pace::default();
        steady(&mut pace, 100, 1, 10, 0);
        pace.forget();
        assert_eq!(pace.prefetch(), 0);
        steady(&mut pace, 100, 1, 10, 0);
        assert!(pace.prefetch() > 100);
    }
}
