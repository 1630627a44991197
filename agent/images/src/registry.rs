//! Talks to one registry about one image: manifests, and blobs into the content store.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol, LayerDescriptor,
    SizedStream,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Remote};
use tokio::io::AsyncWriteExt as _;

use crate::content::Content;
use crate::digest::Digest;
use crate::io::{blocking, failed};
use crate::manifests::{ACCEPTED, DOCUMENT_LIMIT_BYTES, Descriptor};
use crate::references::Reference;
use crate::{Credentials, ImageError};

/// How long to wait for a connection. The kubelet tries again later anyway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts at one blob; each goes on where the last one stopped.
const ATTEMPTS: u32 = 5;

/// Pause before the second attempt; doubled for each one after.
const PAUSE: Duration = Duration::from_millis(250);

/// What is heard of a pull while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The layers of the image, base first, with the sizes to be downloaded.
    Layers(Vec<(Digest, u64)>),
    /// So many bytes of a layer are here.
    Downloaded(Digest, u64),
    /// A layer is unpacked and ready.
    Unpacked(Digest),
}

/// Hears of progress. Called often; must not block.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Which registries are spoken to how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    /// `HOST[:PORT]` of registries without TLS; those on loopback need not be listed.
    pub(crate) plain_http: Vec<String>,
    /// PEM files with certificates of additional authorities.
    pub(crate) certificates: Vec<PathBuf>,
}

/// Why a registry did not give what was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Other credentials may help.
    Unauthorized(String),
    /// Trying again may help.
    Passing(String),
    /// Nothing will help.
    Final(String),
    /// It is our own disk.
    Disk(ImageError),
}

impl Refusal {
    pub(crate) fn into_error(self, reference: &Reference) -> ImageError {
        match self {
            Self::Disk(error) => error,
            Self::Unauthorized(reason) | Self::Passing(reason) | Self::Final(reason) => {
                ImageError::Pull { reference: reference.to_string(), reason }
            }
        }
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        Self::Disk(error)
    }
}

/// A session about one image with one set of credentials.
pub(crate) struct Registry {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
}

impl Registry {
    pub(crate) fn new(
        reference: &Reference,
        credentials: Option<&Credentials>,
        trust: &Trust,
    ) -> Result<Self, ImageError> {
        let registry = &reference.registry;
        let plain = trust.plain_http.contains(registry) || is_loopback(registry);
        let protocol = if plain { ClientProtocol::Http } else { ClientProtocol::Https };
        let read = |path: &PathBuf| -> Result<Certificate, ImageError> {
            let data = fs::read(path).map_err(failed("read", path))?;
            Ok(Certificate { encoding: CertificateEncoding::Pem, data })
        };
        let certificates = trust.certificates.iter().map(read).collect::<Result<_, _>>()?;
        let client = Client::new(ClientConfig {
            protocol,
            extra_root_certificates: certificates,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("skeg/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = credentials.map_or(RegistryAuth::Anonymous, |credentials| {
            RegistryAuth::Basic(credentials.username.clone(), credentials.password.clone())
        });
        Ok(Self { client, auth, reference: reference.clone() })
    }

    fn remote(&self, digest: Option<&Digest>) -> Remote {
        let Reference { registry, repository, tag, digest: own } = self.reference.clone();
        match (digest.cloned().or(own), tag) {
            (Some(digest), _) => Remote::with_digest(registry, repository, digest.into()),
            (None, tag) => {
                Remote::with_tag(registry, repository, tag.unwrap_or_else(|| "latest".to_owned()))
            }
        }
    }

    /// The manifest or index under the reference, or the one with this digest; checked.
    pub(crate) async fn document(&self, digest: Option<&Digest>) -> Result<Vec<u8>, Refusal> {
        let remote = self.remote(digest);
        let pulled = self.client.pull_manifest_raw(&remote, &self.auth, &ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|error| self.refusal(&error))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT_BYTES {
            return Err(Refusal::Final(format!("a manifest of {} bytes", bytes.len())));
        }
        if let Some(digest) = digest.or(self.reference.digest.as_ref())
            && Digest::of(&bytes) != *digest
        {
            return Err(Refusal::Final(format!("the manifest's digest is not {digest}")));
        }
        Ok(bytes.to_vec())
    }

    /// Fetches a blob into the content store, going on with what is there.
    pub(crate) async fn fetch(
        &self,
        content: &Arc<Content>,
        blob: &Descriptor,
        progress: &OnProgress,
    ) -> Result<(), Refusal> {
        let (lock, part) = {
            let (content, blob) = (Arc::clone(content), blob.clone());
            match blocking(move || claim(&content, &blob)).await? {
                Some(claimed) => claimed,
                None => return Ok(()),
            }
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result = async {
                self.download(&part, blob, progress).await?;
                let (content, part, digest) =
                    (Arc::clone(content), part.clone(), blob.digest.clone());
                blocking(move || content.adopt(&part, &digest)).await.map_err(|error| match error {
                    // It was cut off or altered on the way.
                    ImageError::Broken { reason, .. } => Refusal::Passing(reason),
                    error => Refusal::Disk(error),
                })
            };
            match result.await {
                Err(Refusal::Passing(reason)) if attempt < ATTEMPTS => {
                    tracing::debug!(blob = %blob.digest, attempt, reason, "will go on with a download");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
                }
                result => {
                    drop(lock);
                    return result;
                }
            }
        }
    }

    async fn download(
        &self,
        part: &Path,
        blob: &Descriptor,
        progress: &OnProgress,
    ) -> Result<(), Refusal> {
        let disk = |operation| {
            let part = part.to_owned();
            move |error| Refusal::Disk(failed(operation, &part)(error))
        };
        let file = tokio::fs::File::options().append(true).create(true).open(part).await;
        let mut file = file.map_err(disk("open"))?;
        let mut done = file.metadata().await.map_err(disk("look at"))?.len();
        if done > blob.size {
            file.set_len(0).await.map_err(disk("truncate"))?;
            done = 0;
        }
        let mut answer = if done == 0 {
            self.stream(blob).await?
        } else if done < blob.size {
            match self.stream_from(blob, done).await? {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    file.set_len(0).await.map_err(disk("truncate"))?;
                    done = 0;
                    stream
                }
            }
        } else {
            return Ok(());
        };
        // To the end, also beyond the last byte: the client checks the digest there.
        while let Some(chunk) = answer.stream.next().await {
            let chunk = chunk.map_err(|error| Refusal::Passing(chain(&error)))?;
            done += chunk.len() as u64;
            if done > blob.size {
                return Err(Refusal::Final(format!("{} is longer than it should be", blob.digest)));
            }
            file.write_all(&chunk).await.map_err(disk("write"))?;
            progress(Progress::Downloaded(blob.digest.clone(), done));
        }
        file.flush().await.map_err(disk("write"))?;
        if done < blob.size {
            return Err(Refusal::Passing(format!("{} was cut off at {done} bytes", blob.digest)));
        }
        Ok(())
    }

    async fn stream(&self, blob: &Descriptor) -> Result<SizedStream, Refusal> {
        let layer = LayerDescriptor { digest: blob.digest.as_str(), urls: &None };
        let stream = self.client.pull_blob_stream(&self.remote(None), &layer).await;
        stream.map_err(|error| self.refusal(&error))
    }

    async fn stream_from(&self, blob: &Descriptor, offset: u64) -> Result<BlobResponse, Refusal> {
        let layer = LayerDescriptor { digest: blob.digest.as_str(), urls: &None };
        let remote = self.remote(None);
        let stream = self.client.pull_blob_stream_partial(&remote, &layer, offset, None).await;
        stream.map_err(|error| self.refusal(&error))
    }

    /// Says in a sentence for people what the registry did.
    fn refusal(&self, error: &OciDistributionError) -> Refusal {
        let registry = &self.reference.registry;
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => Refusal::Unauthorized(format!(
                "{registry} refused access: pull access denied, or the repository does not exist"
            )),
            OciDistributionError::RegistryError { envelope, .. } => {
                let code =
                    |wanted: &OciErrorCode| envelope.errors.iter().any(|e| e.code == *wanted);
                let messages: Vec<&str> = envelope.errors.iter().map(|e| &*e.message).collect();
                let said = messages.join("; ");
                if code(&OciErrorCode::Unauthorized) || code(&OciErrorCode::Denied) {
                    Refusal::Unauthorized(format!("{registry} refused access: {said}"))
                } else if code(&OciErrorCode::ManifestUnknown) || code(&OciErrorCode::NameUnknown) {
                    Refusal::Final("not found".to_owned())
                } else if code(&OciErrorCode::Toomanyrequests) {
                    Refusal::Passing(format!("{registry} says: {said}"))
                } else {
                    Refusal::Final(format!("{registry} says: {said}"))
                }
            }
            OciDistributionError::ServerError { code: 404, .. } => {
                Refusal::Final("not found".to_owned())
            }
            OciDistributionError::ServerError { code, message, .. } => {
                let message: String = message.trim().chars().take(200).collect();
                let reason = format!("{registry} answered {code}: {message}");
                if *code >= 500 { Refusal::Passing(reason) } else { Refusal::Final(reason) }
            }
            OciDistributionError::RequestError(error) => {
                Refusal::Passing(format!("cannot reach registry {registry}: {}", root(error)))
            }
            OciDistributionError::IoError(error) => Refusal::Passing(chain(error)),
            other => Refusal::Final(chain(other)),
        }
    }
}

/// The part file of a blob, locked against other processes; none if the blob is there by now.
fn claim(content: &Content, blob: &Descriptor) -> Result<Option<(fs::File, PathBuf)>, ImageError> {
    let part = content.part(&blob.digest);
    loop {
        if content.has_blob(&blob.digest, blob.size) {
            return Ok(None);
        }
        let file = fs::File::options().append(true).create(true).open(&part);
        let file = file.map_err(failed("open", &part))?;
        file.lock().map_err(failed("lock", &part))?;
        // Whoever had the lock before may have finished the file and moved it away.
        let ours = file.metadata().map_err(failed("look at", &part))?.ino();
        if fs::metadata(&part).is_ok_and(|there| there.ino() == ours) {
            return Ok(Some((file, part)));
        }
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause: `Connection refused (os error 111)`.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_on_loopback_need_no_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1:5000", "localhost.example", "[fe80::1]:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
