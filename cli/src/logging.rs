//! Log lines on standard error: one line an event, journald adds the time of its own.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `SKEG_LOG` takes tracing's directives (`info`, `kubelet=debug`).
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("SKEG_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
