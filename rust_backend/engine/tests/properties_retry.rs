//! The spacing of retries.

use proptest::prelude::*;
use taskito_engine::model::TaskPolicy;
use taskito_engine::retry::retry_delay_ms;

fn policy() -> impl Strategy<Value = TaskPolicy> {
    let delays = prop::option::of(prop::collection::vec(0..10_000_000_i64, 0..6));
    (0..1_000_000_i64, delays, 0..10_000_000_i64, 0..10_000_i64).prop_map(
        |(retry_backoff_ms, retry_delays_ms, max_retry_delay_ms, retry_jitter_ms)| TaskPolicy {
            task: "task".to_owned(),
            retry_backoff_ms,
            retry_delays_ms,
            max_retry_delay_ms,
            retry_jitter_ms,
        },
    )
}

proptest! {
    #[test]
    fn a_delay_is_never_negative_and_never_above_the_cap_and_the_jitter(
        policy in policy(),
        attempt in any::<i64>(),
        random in 0.0..1.0_f64,
    ) {
        let delay = retry_delay_ms(&policy, attempt, random);
        prop_assert!(delay >= 0);
        prop_assert!(delay <= policy.max_retry_delay_ms + policy.retry_jitter_ms);
    }

    #[test]
    fn without_explicit_delays_the_base_doubles_up_to_the_cap(
        policy in policy(),
        attempt in 0..80_i64,
    ) {
        let policy = TaskPolicy { retry_delays_ms: None, ..policy };
        let factor = 2_i128.pow(u32::try_from(attempt).unwrap());
        let doubled = i128::from(policy.retry_backoff_ms) * factor;
        let expected = doubled.min(i128::from(policy.max_retry_delay_ms));
        prop_assert_eq!(i128::from(retry_delay_ms(&policy, attempt, 0.0)), expected);
    }

    #[test]
    fn explicit_delays_are_used_in_order_and_the_last_repeats(
        policy in policy(),
        delays in prop::collection::vec(0..10_000_000_i64, 1..6),
        attempt in 0..20_usize,
    ) {
        let expected = delays[attempt.min(delays.len() - 1)].min(policy.max_retry_delay_ms);
        let policy = TaskPolicy { retry_delays_ms: Some(delays), ..policy };
        prop_assert_eq!(retry_delay_ms(&policy, i64::try_from(attempt).unwrap(), 0.0), expected);
    }

    #[test]
    fn the_delays_of_a_job_never_shrink_without_jitter(policy in policy()) {
        let policy = TaskPolicy { retry_delays_ms: None, ..policy };
        let delays: Vec<_> = (0..70).map(|attempt| retry_delay_ms(&policy, attempt, 0.0)).collect();
        prop_assert!(delays.is_sorted());
    }

    #[test]
    fn jitter_only_adds_and_grows_with_the_random_number(
        policy in policy(),
        attempt in 0..70_i64,
        (low, high) in (0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(a, b)| (a.min(b), a.max(b))),
    ) {
        let base = retry_delay_ms(&policy, attempt, 0.0);
        let (near, far) = (retry_delay_ms(&policy, attempt, low), retry_delay_ms(&policy, attempt, high));
        prop_assert!(base <= near && near <= far);
        prop_assert!(far - base <= policy.retry_jitter_ms);
    }

    #[test]
    fn extreme_values_do_not_overflow(
        backoff in any::<i64>(),
        cap in any::<i64>(),
        attempt in any::<i64>(),
    ) {
        let policy = TaskPolicy {
            task: "task".to_owned(),
            retry_backoff_ms: backoff,
            retry_delays_ms: None,
            max_retry_delay_ms: cap,
            retry_jitter_ms: 0,
        };
        let delay = retry_delay_ms(&policy, attempt, 0.5);
        prop_assert!(delay >= 0 && delay <= cap.max(0));
    }
}

#[test]
fn an_empty_list_of_delays_retries_at_once() {
    let policy = TaskPolicy {
        task: "task".to_owned(),
        retry_backoff_ms: 1_000,
        retry_delays_ms: Some(Vec::new()),
        max_retry_delay_ms: 1_000,
        retry_jitter_ms: 0,
    };
    assert_eq!(retry_delay_ms(&policy, 3, 0.9), 0);
}
