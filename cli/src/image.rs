//! `skeg image`: the node's image store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use images::{Credentials, Digest, Image, ImageStore, Images, OnProgress, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::settings::Folders;

/// Subcommands of `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes every image out of an archive (`docker save` or OCI layout; plain, gzip or zstd).
    Import {
        #[command(flatten)]
        place: Where,
        /// The archive.
        file: PathBuf,
    },
    /// Pulls an image from a registry.
    Pull(Pull),
    /// Lists the images.
    Ls(Where),
    /// Removes an image by name or id.
    Rm {
        #[command(flatten)]
        place: Where,
        /// Name or id.
        reference: String,
    },
}

/// What to pull, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    place: Where,
    /// Name of the image.
    reference: String,
    /// Speaks plain HTTP to the registry.
    #[arg(long)]
    plain_http: bool,
    /// User name for the registry.
    #[arg(long, requires = "password")]
    username: Option<String>,
    /// Password or token for the registry.
    #[arg(long, env = "SKEG_REGISTRY_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

/// Which node.
#[derive(Debug, Args)]
pub(crate) struct Where {
    #[command(flatten)]
    folders: Folders,
}

/// The image store's folder below the data folder.
pub(crate) fn folder(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("images")
}

impl Where {
    async fn open(&self, plain_http: Vec<String>) -> Result<ImageStore> {
        let folder = folder(&self.folders.data());
        let config =
            images::Config { plain_http_registries: plain_http, ..images::Config::new(&folder) };
        ImageStore::open(config)
            .await
            .with_context(|| format!("open the image store in {}", folder.display()))
    }
}

/// Carries out a subcommand.
pub(crate) async fn run(command: &Command) -> Result<()> {
    match command {
        Command::Import { place, file } => {
            let store = place.open(Vec::new()).await?;
            let images =
                store.import(file).await.with_context(|| format!("import {}", file.display()))?;
            images.iter().try_for_each(show)
        }
        Command::Pull(pull) => run_pull(pull).await,
        Command::Ls(place) => {
            let images = place.open(Vec::new()).await?.list().await.context("list images")?;
            images.iter().try_for_each(show)
        }
        Command::Rm { place, reference } => {
            let store = place.open(Vec::new()).await?;
            store.remove(reference).await.with_context(|| format!("remove {reference}"))
        }
    }
}

async fn run_pull(pull: &Pull) -> Result<()> {
    let registry = pull.reference.split('/').next().unwrap_or_default().to_string();
    let plain_http = if pull.plain_http { vec![registry] } else { Vec::new() };
    let store = pull.place.open(plain_http).await?;
    let credentials: Vec<Credentials> = pull
        .username
        .iter()
        .zip(&pull.password)
        .map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.clone(),
        })
        .collect();
    let bar = ProgressBar::new(0);
    let style = "{bytes}/{total_bytes} {wide_bar} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(style).context("progress line")?);
    let image =
        store.pull_with_progress(&pull.reference, &credentials, reporter(bar.clone())).await;
    bar.finish_and_clear();
    show(&image.with_context(|| format!("pull {}", pull.reference))?)
}

/// Moves the line as bytes arrive.
fn reporter(bar: ProgressBar) -> OnProgress {
    let here: Mutex<BTreeMap<Digest, u64>> = Mutex::default();
    Arc::new(move |progress| match progress {
        Progress::Layers(layers) => bar.set_length(layers.iter().map(|(_, bytes)| bytes).sum()),
        Progress::Downloaded(layer, bytes) => {
            let mut here = here.lock();
            here.insert(layer, bytes);
            bar.set_position(here.values().sum());
        }
        Progress::Unpacked(_) => {}
    })
}

fn show(image: &Image) -> Result<()> {
    let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
    let id = image.id.trim_start_matches("sha256:");
    let mib = image.size_bytes.div_ceil(1 << 20);
    crate::print_line(&format!("{id:.12}  {mib:>6} MiB  {}", names.join(" ")))
}
