//! The image store of a node, put together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use crate::content::{Content, UNFINISHED_AGE_LIMIT};
use crate::io::{blocking, broken, failed_nix, same};
use crate::records::Record;
use crate::references::Reference;
use crate::registry::{OnProgress, Trust};
use crate::{Credentials, Image, ImageError, Images, Snapshot, archive, overlay, pull};

/// How an image store is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store's folder, on a file system that overlayfs can use as an upper layer.
    pub root: PathBuf,
    /// `HOST[:PORT]` of registries that speak plain HTTP. Those on loopback need not be listed.
    pub plain_http_registries: Vec<String>,
    /// PEM files with certificates of authorities to trust besides the system's.
    pub registry_certificates: Vec<PathBuf>,
    /// References of images that garbage collection leaves alone.
    pub pinned: Vec<String>,
}

impl Config {
    /// A store in a folder, with nothing special.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            plain_http_registries: Vec::new(),
            registry_certificates: Vec::new(),
            pinned: Vec::new(),
        }
    }
}

/// Pulls are shared by those who ask for the same thing with the same rights.
type PullKey = (Reference, Vec<(String, String)>);
type SharedPull = Shared<BoxFuture<'static, Result<Record, Arc<ImageError>>>>;

/// The images of a node. Several processes may use one folder at a time. Clones share it.
#[derive(Clone)]
pub struct ImageStore {
    content: Arc<Content>,
    trust: Arc<Trust>,
    pinned: Arc<BTreeSet<String>>,
    pulls: Arc<Mutex<HashMap<PullKey, SharedPull>>>,
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").field("root", &self.content.root()).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens the store in a folder, making it if need be; removes what an earlier run left
    /// unfinished.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::Broken`], and [`ImageError::InvalidReference`] for pinned
    /// ones.
    pub async fn open(config: Config) -> Result<Self, ImageError> {
        // The registry client takes the process's TLS provider; whoever comes first installs it.
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut pinned = BTreeSet::new();
        for reference in &config.pinned {
            pinned.extend(reference.parse::<Reference>()?.tagged());
        }
        let root =
            std::path::absolute(&config.root).map_err(crate::io::failed("find", &config.root))?;
        let content = blocking(move || {
            let content = Content::open(root)?;
            content.drop_incomplete()?;
            sweep(&content, UNFINISHED_AGE_LIMIT)?;
            Ok(content)
        })
        .await?;
        Ok(Self {
            content: Arc::new(content),
            trust: Arc::new(Trust {
                plain_http: config.plain_http_registries,
                certificates: config.registry_certificates,
            }),
            pinned: Arc::new(pinned),
            pulls: Arc::default(),
        })
    }

    /// Pulls an image and tells how it goes.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub async fn pull_with_progress(
        &self,
        reference: &str,
        credentials: &[Credentials],
        progress: OnProgress,
    ) -> Result<Image, ImageError> {
        let reference: Reference = reference.parse()?;
        let record =
            pull::pull(&self.content, &reference, credentials, &self.trust, &progress).await?;
        Ok(record.image(&self.pinned))
    }

    /// Imports every image of an archive (`docker save`, OCI layout; plain, gzip or zstd). If any of
    /// it is broken nothing changes.
    ///
    /// # Errors
    /// [`ImageError::Broken`] naming the file and what is wrong with it, [`ImageError::Io`].
    pub async fn import(&self, file: &Path) -> Result<Vec<Image>, ImageError> {
        let file = file.to_owned();
        let records = self.work(move |content| archive::import(content, &file)).await;
        if records.is_err() {
            self.work(|content| sweep(content, Duration::ZERO)).await?;
        }
        Ok(records?.iter().map(|record| record.image(&self.pinned)).collect())
    }

    /// Writes an image to an archive that Docker and containerd read too.
    ///
    /// # Errors
    /// [`ImageError::NotPresent`], [`ImageError::Io`], [`ImageError::Broken`].
    pub async fn export(&self, reference: &str, file: &Path) -> Result<(), ImageError> {
        let (reference, file) = (reference.to_owned(), file.to_owned());
        self.work(move |content| archive::export(content, &content.need(&reference)?, &file)).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Content) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let content = Arc::clone(&self.content);
        blocking(move || work(&content)).await
    }

    /// The pull under way for this, or a new one; it goes on if its callers lose interest.
    fn shared_pull(&self, reference: Reference, credentials: &[Credentials]) -> SharedPull {
        let rights = credentials.iter().map(|c| (c.username.clone(), c.password.clone())).collect();
        let key: PullKey = (reference, rights);
        let mut pulls = self.pulls.lock();
        if let Some(pull) = pulls.get(&key) {
            return pull.clone();
        }
        let (store, credentials, own) = (self.clone(), credentials.to_vec(), key.clone());
        let task = tokio::spawn(async move {
            let quiet: OnProgress = Arc::new(|_| {});
            let result =
                pull::pull(&store.content, &own.0, &credentials, &store.trust, &quiet).await;
            store.pulls.lock().remove(&own);
            result.map_err(Arc::new)
        });
        let result = task.map(|joined| {
            joined.unwrap_or_else(|error| {
                Err(Arc::new(broken("pull", format!("its task stopped: {error}"))))
            })
        });
        let pull = result.boxed().shared();
        pulls.insert(key, pull.clone());
        pull
    }
}

/// Removes what nothing names any more and is at least so old, unless something is being added.
fn sweep(content: &Content, age: Duration) -> Result<(), ImageError> {
    let Some(_lock) = content.try_sweeping()? else { return Ok(()) };
    let mut keep: HashSet<String> = overlay::layers_in_use(content)?;
    for record in content.all()? {
        keep.extend(record.needs());
    }
    content.sweep(&keep, age)
}

impl Images for ImageStore {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        let reference = reference.to_owned();
        async move {
            let found = self.work(move |content| content.find(&reference)).await?;
            Ok(found.map(|record| record.image(&self.pinned)))
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Image, ImageError>> {
        async move {
            let pull = self.shared_pull(reference.parse()?, credentials);
            let record = pull.await.map_err(|error| same(&error))?;
            Ok(record.image(&self.pinned))
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        async move {
            let records = self.work(Content::all).await?;
            Ok(records.iter().map(|record| record.image(&self.pinned)).collect())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        let reference = reference.to_owned();
        self.work(move |content| {
            content.unregister(&reference)?;
            sweep(content, Duration::ZERO)
        })
        .boxed()
    }

    fn mount<'a>(
        &'a self,
        image_id: &'a str,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Snapshot, ImageError>> {
        let (image, container) = (image_id.to_owned(), container_id.to_owned());
        self.work(move |content| {
            // Nothing may be swept between looking at the record and writing down what is used.
            let _adding = content.adding()?;
            overlay::mount(content, &image, &container)
        })
        .boxed()
    }

    fn unmount<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        let container = container_id.to_owned();
        self.work(move |content| {
            let image = overlay::unmount(content, &container)?;
            match image.map(|id| content.find(id.as_str())).transpose()? {
                // The last user of an image that was removed meanwhile.
                Some(None) => sweep(content, Duration::ZERO),
                Some(Some(_)) | None => Ok(()),
            }
        })
        .boxed()
    }

    fn disk_bytes(&self) -> Result<(u64, u64), ImageError> {
        let root = self.content.root();
        let found = nix::sys::statvfs::statvfs(root).map_err(failed_nix("look at", root))?;
        let unit = found.fragment_size();
        // What is reserved for root cannot be filled, and so is no capacity.
        let capacity = found.blocks() - found.blocks_free() + found.blocks_available();
        Ok((capacity * unit, found.blocks_available() * unit))
    }
}
