//! What the server has to be told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::admission::optional::AdmissionConfig;
use crate::audit::AuditConfig;

/// Configuration of an API server. There are no defaults here: the composition root has them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address under which clients reach the server: the endpoint of the `kubernetes` Service.
    pub advertise_address: IpAddr,
    /// Port of that address.
    pub advertise_port: u16,
    /// Ranges of cluster IPs: one, or one of each family with the primary first.
    pub service_cidrs: Vec<IpNet>,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The cluster CA's certificate, PEM; published in `kube-root-ca.crt` config maps and used to
    /// authenticate client certificates on the TLS listener (which the caller configures).
    pub cluster_ca_pem: String,
    /// Issuer of service-account tokens; also the default audience.
    pub service_account_issuer: String,
    /// Private key that signs service-account tokens: PKCS#8 PEM, P-256 or RSA.
    pub service_account_key_pem: String,
    /// Whether requests without credentials are let in as `system:anonymous`.
    pub anonymous: bool,
    /// Client side of TLS to kubelets: trusts the cluster CA, presents a certificate in
    /// `system:masters`.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// How long an Event is kept.
    pub event_ttl: Duration,
    /// What is chosen about admission.
    pub admission: AdmissionConfig,
    /// The audit log, if there is to be one.
    pub audit: Option<AuditConfig>,
    /// Text after the `+` of `gitVersion`.
    pub build: String,
}

impl Config {
    /// The address of the `kubernetes` Service: the first of the primary range.
    pub fn kubernetes_service_ip(&self) -> IpAddr {
        let primary = self.service_cidrs.first().expect("a service range is configured");
        match primary.network() {
            IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
            IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
        }
    }
}
