//! The two kinds of executors that a worker has, each with its own free places.

use std::ops::{Index, IndexMut};

/// Who runs a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Pool {
    /// Threads, or the threads that each look after a child process: one job at a time.
    #[default]
    Functions,
    /// The event loop, on which many jobs are under way in one thread.
    Coroutines,
}

impl Pool {
    pub(super) const ALL: [Self; 2] = [Self::Functions, Self::Coroutines];
}

/// One of something for each pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PerPool<T>([T; 2]);

impl<T> PerPool<T> {
    pub(super) fn each(make: impl FnMut(Pool) -> T) -> Self {
        Self(Pool::ALL.map(make))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<Pool> for PerPool<T> {
    type Output = T;

    fn index(&self, pool: Pool) -> &T {
        &self.0[pool as usize]
    }
}

impl<T> IndexMut<Pool> for PerPool<T> {
    fn index_mut(&mut self, pool: Pool) -> &mut T {
        &mut self.0[pool as usize]
    }
}
