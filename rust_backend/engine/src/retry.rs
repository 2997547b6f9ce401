//! When a failed attempt is tried again.

use crate::model::TaskPolicy;

/// The delay before the retry that follows `attempt` (counted from 0), in milliseconds.
///
/// Exponential back-off with a cap and additive jitter:
/// `min(max_retry_delay, retry_backoff * 2^attempt) + jitter`, where jitter is uniform in
/// `0..=retry_jitter_ms`. With explicit delays the `attempt`-th one is used and the last one
/// repeats. `random` is a number in `0.0..1.0` that the caller draws.
#[must_use]
pub fn retry_delay_ms(policy: &TaskPolicy, attempt: i64, random: f64) -> i64 {
    let base = match policy.retry_delays_ms.as_deref() {
        Some([]) => 0,
        Some(delays) => {
            let last = delays.len() - 1;
            delays[usize::try_from(attempt.max(0)).map_or(last, |index| index.min(last))]
        }
        None => doubled(policy.retry_backoff_ms, attempt),
    };
    base.clamp(0, policy.max_retry_delay_ms.max(0)) + jitter_ms(policy.retry_jitter_ms, random)
}

/// `start * 2^attempt`, saturating.
fn doubled(start: i64, attempt: i64) -> i64 {
    let exponent = u32::try_from(attempt.clamp(0, 62)).unwrap_or(62);
    start.saturating_mul(1_i64 << exponent)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a jitter is a few hundred milliseconds; a lost fraction does not matter"
)]
fn jitter_ms(bound: i64, random: f64) -> i64 {
    (bound.max(0) as f64 * random.clamp(0.0, 1.0)).round() as i64
}
