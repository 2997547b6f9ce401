//! Sleep of one executor thread.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A token that ends a sleep; given early, it ends the next sleep at once.
///
/// Not `std::thread::park`, whose token other code in the same thread may consume.
#[derive(Debug, Default)]
pub(super) struct Parker {
    token: Mutex<bool>,
    given: Condvar,
}

impl Parker {
    /// Sleep until [`Parker::unpark`] or `timeout`.
    pub(super) fn park(&self, timeout: Duration) {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut token, _) = self
            .given
            .wait_timeout_while(token, timeout, |given| !*given)
            .unwrap_or_else(PoisonError::into_inner);
        *token = false;
    }

    pub(super) fn unpark(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.given.notify_one();
    }
}
