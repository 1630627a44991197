//! Where a webhook is, and who vouches for it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::ObjectExt;
use serde_json::Value;

use super::Error;

const HTTPS_PORT: u16 = 443;

/// A place to post to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub(super) place: Place,
    /// Starts with a slash; without a query.
    path: String,
    /// Certificates that the webhook's own must lead to, PEM; `None` for the machine's.
    pub(super) ca_bundle: Option<Arc<[u8]>>,
}

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A host by name or address.
    Host { host: String, port: u16 },
    /// A Service of the cluster.
    Service { namespace: String, name: String, port: u16 },
}

impl Target {
    /// Reads a `WebhookClientConfig`, of admission or of conversion alike.
    ///
    /// # Errors
    /// [`Error::Config`] for one that names no place.
    pub fn from_client_config(config: &Value) -> Result<Self, Error> {
        let ca_bundle = match config.str_at(&["caBundle"]) {
            "" => None,
            text => {
                let bytes = STANDARD.decode(text).map_err(|error| {
                    Error::Config(format!("unable to load root certificates: {error}"))
                })?;
                Some(bytes.into())
            }
        };
        if let Some(service) = config.at(&["service"]) {
            let port = service.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok());
            let path = service.str_at(&["path"]);
            return Ok(Self {
                place: Place::Service {
                    namespace: service.str_at(&["namespace"]).to_owned(),
                    name: service.str_at(&["name"]).to_owned(),
                    port: port.unwrap_or(HTTPS_PORT),
                },
                path: format!("/{}", path.trim_start_matches('/')),
                ca_bundle,
            });
        }
        match config.str_at(&["url"]) {
            "" => {
                Err(Error::Config("webhook configuration must have either service or URL".into()))
            }
            url => Self::from_url(url, ca_bundle),
        }
    }

    /// Reads an `https` URL.
    ///
    /// # Errors
    /// [`Error::Config`] for another one.
    pub fn from_url(url: &str, ca_bundle: Option<Arc<[u8]>>) -> Result<Self, Error> {
        let wrong = || Error::Config(format!("unparsable webhook URL: {url}"));
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            place: Place::Host {
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(HTTPS_PORT),
            },
            path: uri.path().to_owned(),
            ca_bundle,
        })
    }

    /// The name that the certificate must be for.
    pub(super) fn server_name(&self) -> String {
        match &self.place {
            Place::Host { host, .. } => host.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    /// The value of `Host`, and the middle of the URL.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Host { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == HTTPS_PORT { host } else { format!("{host}:{port}") }
            }
            Place::Service { namespace, name, port } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The path, and in its query how long the answer is waited for.
    pub(super) fn path_with(&self, timeout: Duration) -> String {
        let secs = timeout.as_secs_f64();
        if timeout < Duration::from_secs(1) {
            return format!("{}?timeout={}ms", self.path, timeout.as_millis());
        }
        format!("{}?timeout={secs}s", self.path)
    }
}
