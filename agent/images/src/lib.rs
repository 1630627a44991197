//! Image references, registries, the content store, and root file systems made from layers.
//!
//! `references.rs`, `manifests.rs`, `credentials.rs` and the plan in `gc.rs` are pure. `registry.rs`
//! and `archive/` bring blobs into the folder that `content.rs` describes, `layers.rs` and
//! `unpack.rs` make folders of them, `overlay.rs` mounts those, `store.rs` puts it together.

mod archive;
mod content;
mod credentials;
mod digest;
#[cfg(feature = "test-support")]
pub mod fake;
pub mod gc;
mod io;
mod layers;
mod manifests;
mod overlay;
mod paths;
mod pull;
mod records;
mod references;
mod registry;
mod store;
#[cfg(test)]
mod tests;
mod unpack;
pub mod user;

pub use credentials::Keyring;
pub use digest::Digest;
pub use references::Reference;
pub use registry::{OnProgress, Progress};
pub use store::{Config, ImageStore};

use std::path::PathBuf;

use futures::future::BoxFuture;

/// Credentials for a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Digest of the image's config: `sha256:…`.
    pub id: String,
    /// Names with tags: `docker.io/library/busybox:1.36`.
    pub tags: Vec<String>,
    /// Names with manifest digests: `docker.io/library/busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Size of the unpacked layers in bytes.
    pub size_bytes: u64,
    /// What the image says about how to run it.
    pub config: ImageConfig,
    /// Not removed by garbage collection.
    pub pinned: bool,
}

/// The run-time part of an image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `User`: name or id, with an optional group.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: String,
}

/// Root file system of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The mounted, writable root.
    pub rootfs: PathBuf,
}

/// What went wrong with an image. The kubelet turns these into `ErrImagePull`,
/// `InvalidImageName` and `ErrImageNeverPull`.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference cannot be parsed.
    #[error("image reference {reference:?}: {reason}")]
    InvalidReference {
        /// What was asked for.
        reference: String,
        /// Why it is not one.
        reason: String,
    },
    /// The image is not in the store.
    #[error("image {reference} is not present")]
    NotPresent {
        /// What was asked for.
        reference: String,
    },
    /// The registry refused, failed or could not be reached.
    #[error("pull {reference}: {reason}")]
    Pull {
        /// What was asked for.
        reference: String,
        /// What happened, for people.
        reason: String,
    },
    /// An archive or a blob is damaged.
    #[error("read image {what}: {reason}")]
    Broken {
        /// File, blob or reference.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// The operation in words.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// The image store, as the kubelet sees it.
pub trait Images: Send + Sync + 'static {
    /// The image a reference names, if it is in the store.
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>>;
    /// Pulls an image; concurrent pulls of one reference share the work. Credentials are tried in
    /// order, then none.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Image, ImageError>>;
    /// Every image, by id.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>>;
    /// Removes an image (by id or reference) and the layers nobody else uses.
    fn remove<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<(), ImageError>>;
    /// Mounts a fresh writable root for a container, or returns the one it has.
    fn mount<'a>(
        &'a self,
        image_id: &'a str,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Snapshot, ImageError>>;
    /// Unmounts and removes a container's root. Succeeds if there is none.
    fn unmount<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), ImageError>>;
    /// Capacity and free bytes of the file system under the store, for garbage collection.
    fn disk_bytes(&self) -> Result<(u64, u64), ImageError>;
}
