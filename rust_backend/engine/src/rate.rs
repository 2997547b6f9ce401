//! Token buckets in whole numbers, so that a limit holds to the millisecond and never drifts.
//!
//! A rate of `count` per `period_ms` with room for `burst` tokens lets any window of `w`
//! milliseconds hold at most `burst + floor(count * w / period_ms)` starts. A token is worth
//! `period_ms` units and `count` units flow in per millisecond, so that no fraction is ever lost.
//! The bucket is the "virtual scheduling" form of the generic cell rate algorithm (ITU-T I.371).

use crate::model::Rate;

/// The largest `count` and `burst`, and the longest period: their product stays far below 2^63.
pub const MAX_COUNT: i64 = 1_000_000;
pub const MAX_PERIOD_MS: i64 = 366 * 24 * 60 * 60 * 1_000;

/// How full the bucket of one limit was, and when that was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// In units; a token is worth `period_ms` of them.
    pub level: i64,
    /// Steady time.
    pub at_ms: i64,
}

impl Rate {
    const fn capacity(&self) -> i64 {
        self.burst * self.period_ms
    }

    /// What is wrong with the numbers, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        for (name, value, most) in [
            ("count", self.count, MAX_COUNT),
            ("burst", self.burst, MAX_COUNT),
            ("period_ms", self.period_ms, MAX_PERIOD_MS),
        ] {
            if !(1..=most).contains(&value) {
                return Some(format!("{name} {value} is not between 1 and {most}"));
            }
        }
        None
    }
}

impl Bucket {
    /// A bucket that nobody has taken from yet.
    #[must_use]
    pub const fn full(rate: &Rate, now_ms: i64) -> Self {
        Self {
            level: rate.capacity(),
            at_ms: now_ms,
        }
    }

    /// The bucket at a later time. A time before the last one, as after a boot, adds nothing: the
    /// steady clock has begun anew, and what really passed is unknown.
    #[must_use]
    pub fn at(self, rate: &Rate, now_ms: i64) -> Self {
        let passed = now_ms.saturating_sub(self.at_ms).max(0);
        let level = self
            .level
            .saturating_add(rate.count.saturating_mul(passed))
            .min(rate.capacity());
        Self {
            level,
            at_ms: now_ms,
        }
    }

    /// Whole tokens, at the time of the bucket.
    #[must_use]
    pub const fn tokens(self, rate: &Rate) -> i64 {
        self.level / rate.period_ms
    }

    /// Without so many tokens; the caller has made sure that they are there.
    #[must_use]
    pub const fn less(self, rate: &Rate, tokens: i64) -> Self {
        Self {
            level: self.level - tokens * rate.period_ms,
            ..self
        }
    }

    /// How long after the time of the bucket until it holds a token.
    #[must_use]
    pub const fn wait_ms(self, rate: &Rate) -> i64 {
        let missing = rate.period_ms - self.level;
        if missing <= 0 {
            0
        } else {
            (missing + rate.count - 1) / rate.count
        }
    }

    /// The bucket under another rate: the tokens stay, so that a change of the limit is no gift.
    #[must_use]
    pub fn under(self, old: &Rate, new: &Rate, now_ms: i64) -> Self {
        let tokens = self.at(old, now_ms).tokens(old).min(new.burst);
        Self {
            level: tokens * new.period_ms,
            at_ms: now_ms,
        }
    }
}
