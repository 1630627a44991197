//! The file that says how values are encrypted at rest, and what happens when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use store::{Encryption, Store};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The file is read again so often, as upstream's API server does when it reloads by itself.
const REREAD: Duration = Duration::from_secs(60);

/// A configuration in force, and the text it was made from.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    pub(crate) encryption: Arc<Encryption>,
}

impl ConfigFile {
    /// Reads the file for the first time: a server whose file is wrong does not start.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read encryption configuration {}", path.display()))?;
        let encryption =
            Encryption::from_config(&text).with_context(|| format!("in {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text, encryption: Arc::new(encryption) })
    }

    /// Encrypts what was stored otherwise, and goes on doing so as the file changes.
    pub(crate) async fn follow(mut self, store: Store, shutdown: CancellationToken) {
        let mut reread = tokio::time::interval(REREAD);
        loop {
            self.reseal(&store).await;
            loop {
                tokio::select! {
                    _ = reread.tick() => {}
                    () = shutdown.cancelled() => return,
                }
                if self.reread().await {
                    break;
                }
            }
        }
    }

    async fn reseal(&self, store: &Store) {
        match store.reseal().await {
            Ok(0) => {}
            Ok(values) => info!(values, "stored values were encrypted anew"),
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "encrypt stored values anew");
            }
        }
    }

    /// Whether a new configuration came into force.
    async fn reread(&mut self) -> bool {
        let path = self.path.display();
        let text = match tokio::fs::read_to_string(&self.path).await {
            Ok(text) if text == self.text => return false,
            Ok(text) => text,
            Err(error) => {
                error!(%path, %error, "read encryption configuration; the old one stays in force");
                return false;
            }
        };
        self.text = text;
        match self.encryption.replace(&self.text) {
            Ok(()) => {
                info!(%path, "a new encryption configuration is in force");
                true
            }
            Err(error) => {
                error!(%path, %error, "the old encryption configuration stays in force");
                false
            }
        }
    }
}
