//! The server's keys and certificates: what is signed for whom.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::pki::{Authority, Identity, Leaf, Serving, certificates, roots, service_account_key};
use crate::settings::Config;

/// Certificates are looked at this often while running; a third of a year is left when one is
/// made anew.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that is kept in `DATA_DIR/server/pki`.
pub(crate) struct Identities {
    folder: PathBuf,
    pub(crate) authority: Arc<Authority>,
    /// Signs service-account tokens.
    pub(crate) service_account_key_pem: String,
    names: Vec<String>,
    node_name: String,
    node_ip: IpAddr,
}

impl Identities {
    /// Loads or makes them. `service_ip` is the address of the `kubernetes` Service.
    pub(crate) fn open(config: &Config, service_ip: IpAddr) -> Result<Self> {
        let folder = config.data_dir.join("server/pki");
        Ok(Self {
            authority: Arc::new(Authority::open(&folder)?),
            service_account_key_pem: service_account_key(&folder)?,
            names: serving_names(config, service_ip),
            node_name: config.node_name.clone(),
            node_ip: config.node_ip,
            folder,
        })
    }

    fn leaf(&self, file: &str, user: &str, groups: &[&str], names: &[String]) -> Result<Identity> {
        let leaf = Leaf {
            common_name: user.into(),
            organizations: groups.iter().map(ToString::to_string).collect(),
            names: names.to_vec(),
        };
        self.authority
            .leaf(file, &leaf, SystemTime::now())
            .with_context(|| format!("certificate {}", self.folder.join(file).display()))
    }

    /// The API's serving certificate.
    pub(crate) fn api_serving(&self) -> Result<Identity> {
        self.leaf("api-server", "kube-apiserver", &[], &self.names)
    }

    /// The administrator.
    pub(crate) fn admin(&self) -> Result<Identity> {
        self.leaf("admin", "kubernetes-admin", &["system:masters"], &[])
    }

    /// The kubelet's serving certificate on this node.
    pub(crate) fn kubelet_serving(&self) -> Result<Identity> {
        let names = [self.node_name.clone(), self.node_ip.to_string()];
        let user = format!("system:node:{}", self.node_name);
        self.leaf("kubelet-serving", &user, &["system:nodes"], &names)
    }

    /// TLS by which the API reaches kubelets.
    pub(crate) fn kubelet_client_tls(&self) -> Result<Arc<rustls::ClientConfig>> {
        let user = "system:kube-apiserver-kubelet-client";
        let identity = self.leaf("kubelet-client", user, &["system:masters"], &[])?;
        client_tls(self.authority.certificate_pem(), &identity)
    }

    /// Makes serving certificates anew before they end, and exchanges them, until shutdown.
    pub(crate) async fn keep_current(
        self,
        api: Arc<Serving>,
        kubelet: Arc<Serving>,
        shutdown: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let renewed = self
                .api_serving()
                .and_then(|identity| api.exchange(&identity))
                .and_then(|()| self.kubelet_serving())
                .and_then(|identity| kubelet.exchange(&identity));
            match renewed {
                Ok(()) => info!("serving certificates are current"),
                Err(error) => warn!("failed to renew serving certificates: {error:#}"),
            }
        }
    }
}

/// TLS of a client that trusts the cluster and shows an identity.
pub(crate) fn client_tls(
    authority_pem: &str,
    identity: &Identity,
) -> Result<Arc<rustls::ClientConfig>> {
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).context("parse a key")?;
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots(authority_pem)?)
        .with_client_auth_cert(certificates(&identity.certificate_pem)?, key)
        .context("use a client certificate")?;
    Ok(Arc::new(config))
}

/// Every name under which the API is reached.
fn serving_names(config: &Config, service_ip: IpAddr) -> Vec<String> {
    let service = "kubernetes";
    let mut names: BTreeSet<String> = [
        service.to_string(),
        format!("{service}.default"),
        format!("{service}.default.svc"),
        format!("{service}.default.svc.{}", config.cluster_domain),
        "localhost".into(),
        config.node_name.clone(),
        Ipv4Addr::LOCALHOST.to_string(),
        service_ip.to_string(),
        config.node_ip.to_string(),
    ]
    .into();
    names.extend(config.tls_san.iter().cloned());
    names.into_iter().collect()
}
