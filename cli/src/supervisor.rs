//! Components of the process: started in order, watched together. Any that ends, ends the process.

use std::future::Future;

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

/// The running components.
pub(crate) struct Supervisor {
    shutdown: CancellationToken,
    components: JoinSet<(&'static str, Result<()>)>,
}

impl Supervisor {
    /// Nothing is running yet; SIGTERM and SIGINT will ask for shutdown.
    pub(crate) fn new() -> Result<Self> {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
        let asked = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => info!("asked to stop by SIGTERM"),
                _ = interrupt.recv() => info!("asked to stop by SIGINT"),
            }
            asked.cancel();
        });
        Ok(Self { shutdown, components: JoinSet::new() })
    }

    /// The token that all components end with.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a component.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        component: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let span = info_span!("component", name);
        self.components.spawn(async move { (name, component.await) }.instrument(span));
    }

    /// Waits for shutdown or for the first component that ends by itself, then lets all others end.
    pub(crate) async fn wait(mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(joined) = self.components.join_next().await {
            let stopping = self.shutdown.is_cancelled();
            let ended = match joined {
                Ok((name, Ok(()))) if stopping => {
                    info!(component = name, "ended");
                    Ok(())
                }
                Ok((name, Ok(()))) => Err(anyhow!("{name} ended by itself")),
                Ok((name, Err(error))) => Err(error.context(name)),
                Err(error) => Err(anyhow!(error).context("a component panicked")),
            };
            // The first failure is the cause; what fails after it fails because of it.
            outcome = outcome.and(ended);
            self.shutdown.cancel();
        }
        outcome
    }
}
