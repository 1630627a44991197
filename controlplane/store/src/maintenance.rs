//! What a store needs done now and then.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::error::WriteError;
use crate::store::Store;

/// How often expired keys are swept. Events live an hour, so nobody misses half a minute.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Sweeps between two compactions, and so the age up to which the past is kept: five minutes, as in
/// a Kubernetes API server on etcd.
const SWEEPS_PER_COMPACTION: u32 = 10;

impl Store {
    /// Sweeps expired keys, and forgets the past beyond five minutes, until shutdown. One task of
    /// this runs per store. `clock` gives seconds since 1970.
    pub async fn maintain(self, clock: impl Fn() -> u64 + Send, shutdown: CancellationToken) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = 0;
        let mut compact_to = self.revision();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.expire(clock()).await {
                Ok(_) => {}
                Err(WriteError::Closed) => return,
                Err(error) => warn("sweep expired keys", &error),
            }
            sweeps += 1;
            if sweeps == SWEEPS_PER_COMPACTION {
                sweeps = 0;
                self.compact(compact_to);
                compact_to = self.revision();
                if let Err(error) = self.compact_disk().await {
                    warn("compact the store", &error);
                }
            }
        }
    }
}

fn warn(operation: &str, error: &WriteError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "could not {operation}; will try again"
    );
}
