//! Token buckets hold to the formula, and give no less than it allows.

use proptest::prelude::*;
use taskito_engine::model::Rate;
use taskito_engine::rate::{Bucket, MAX_COUNT, MAX_PERIOD_MS};

fn rate() -> impl Strategy<Value = Rate> {
    (1..20_i64, 1..5_000_i64, 1..20_i64).prop_map(|(count, period_ms, burst)| Rate {
        count,
        period_ms,
        burst,
    })
}

/// Take what is wanted at each step, as far as the bucket has it; returns the times of all takes.
fn play(rate: &Rate, steps: &[(i64, i64)]) -> Vec<i64> {
    let mut now_ms = 1_000;
    let mut bucket = Bucket::full(rate, now_ms);
    let mut taken = Vec::new();
    for (pause_ms, wanted) in steps {
        now_ms += pause_ms;
        bucket = bucket.at(rate, now_ms);
        for _ in 0..(*wanted).min(bucket.tokens(rate)) {
            bucket = bucket.less(rate, 1);
            taken.push(now_ms);
        }
    }
    taken
}

fn is_allowed(rate: &Rate, taken: &[i64]) -> bool {
    (0..taken.len()).all(|first| {
        (first..taken.len()).all(|last| {
            let window = taken[last] - taken[first];
            let held = i64::try_from(last - first + 1).unwrap_or(i64::MAX);
            held <= rate.burst + rate.count * window / rate.period_ms
        })
    })
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_formula(
        rate in rate(),
        steps in prop::collection::vec((0..3_000_i64, 0..6_i64), 0..60),
    ) {
        let taken = play(&rate, &steps);
        prop_assert!(is_allowed(&rate, &taken), "{taken:?}");
    }

    #[test]
    fn what_the_formula_allows_is_there(
        rate in rate(),
        steps in prop::collection::vec((0..3_000_i64, 0..6_i64), 1..40),
    ) {
        for end in 1..=steps.len() {
            let (before, after) = (play(&rate, &steps[..end - 1]), play(&rate, &steps[..end]));
            let got = i64::try_from(after.len() - before.len()).unwrap_or(i64::MAX);
            let now_ms = 1_000 + steps[..end].iter().map(|(pause_ms, _)| pause_ms).sum::<i64>();
            let more = [after, vec![now_ms]].concat();
            prop_assert!(got == steps[end - 1].1 || !is_allowed(&rate, &more), "{more:?}");
        }
    }

    #[test]
    fn after_the_wait_there_is_a_token_and_not_before(
        rate in rate(),
        taken in 1..20_i64,
        passed in 0..5_000_i64,
    ) {
        let full = Bucket::full(&rate, 0);
        let bucket = full.less(&rate, taken.min(rate.burst)).at(&rate, passed);
        let wait_ms = bucket.wait_ms(&rate);
        prop_assert!(bucket.at(&rate, passed + wait_ms).tokens(&rate) >= 1);
        if wait_ms > 0 {
            prop_assert_eq!(bucket.at(&rate, passed + wait_ms - 1).tokens(&rate), 0);
        }
    }

    #[test]
    fn the_largest_numbers_fit(passed in any::<i64>(), count in 1..=MAX_COUNT) {
        let rate = Rate { count, period_ms: MAX_PERIOD_MS, burst: MAX_COUNT };
        let bucket = Bucket::full(&rate, 0).less(&rate, MAX_COUNT).at(&rate, passed);
        prop_assert!((0..=MAX_COUNT).contains(&bucket.tokens(&rate)));
    }

    #[test]
    fn another_rate_adds_no_tokens(old in rate(), new in rate(), taken in 0..20_i64) {
        let bucket = Bucket::full(&old, 0).less(&old, taken.min(old.burst));
        let changed = bucket.under(&old, &new, 0);
        prop_assert_eq!(changed.tokens(&new), bucket.tokens(&old).min(new.burst));
    }
}

#[test]
fn a_clock_that_began_anew_adds_nothing() {
    let rate = Rate {
        count: 1,
        period_ms: 10,
        burst: 2,
    };
    let bucket = Bucket::full(&rate, 5_000).less(&rate, 2).at(&rate, 100);
    assert_eq!(bucket.tokens(&rate), 0);
    assert_eq!(bucket.at(&rate, 110).tokens(&rate), 1);
}
