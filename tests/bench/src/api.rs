//! One connection to an API server: TLS, HTTP/1.1, kept open. Nothing between it and the socket, so
//! that the measurement is of the server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to reach an API server, from a kubeconfig in JSON with everything inside.
#[derive(Clone)]
pub(crate) struct Server {
    authority: String,
    tls: Arc<rustls::ClientConfig>,
}

/// One open connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

fn field(value: &Value, pointer: &str) -> Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_string).with_context(|| format!("no {pointer} in the kubeconfig"))
}

fn pem(value: &Value, pointer: &str) -> Result<Vec<u8>> {
    STANDARD.decode(field(value, pointer)?).with_context(|| format!("decode {pointer}"))
}

impl Server {
    /// Reads a kubeconfig.
    pub(crate) fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let config: Value = serde_json::from_slice(&text).context("parse the kubeconfig")?;
        let url = field(&config, "/clusters/0/cluster/server")?;
        let mut roots = rustls::RootCertStore::empty();
        let ca = pem(&config, "/clusters/0/cluster/certificate-authority-data")?;
        for certificate in CertificateDer::pem_slice_iter(&ca) {
            roots.add(certificate?)?;
        }
        let chain = pem(&config, "/users/0/user/client-certificate-data")?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem(&config, "/users/0/user/client-key-data")?)?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let authority = url.strip_prefix("https://").context("an https URL")?.to_string();
        Ok(Self { authority, tls: Arc::new(tls) })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.authority).await.context("connect")?;
        stream.set_nodelay(true)?;
        let host = self.authority.split(':').next().context("a host")?.to_string();
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(ServerName::try_from(host)?, stream)
            .await
            .context("TLS")?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, authority: self.authority.clone() })
    }
}

impl Connection {
    /// Sends a request and reads the whole answer; anything but 2xx is an error.
    pub(crate) async fn send(
        &mut self,
        method: http::Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, &self.authority)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
