//! Exponential waits with jitter.

use std::time::Duration;

/// Doubles from `first` up to `cap`; each wait is shortened by up to a fifth, at random, so that
/// clients that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let full = step(self.first, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - rand::random::<f64>() * 0.2)
    }

    /// Starts again at `first`.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after `failures` earlier failures, without jitter.
pub(crate) fn step(first: Duration, cap: Duration, failures: u32) -> Duration {
    // 2^20 times the first wait is past every cap in use; more would overflow.
    first.saturating_mul(1 << failures.min(20)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap_and_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let waits: Vec<u128> = (0..9).map(|_| backoff.next_wait().as_millis()).collect();
        for (wait, full) in waits.iter().zip([10, 20, 40, 80, 160, 320, 640, 1000, 1000]) {
            assert!((full * 4 / 5..=full).contains(wait), "{wait} for {full}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(10));
    }
}
