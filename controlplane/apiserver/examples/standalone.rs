//! An API server by itself, for trying it out and for replaying recorded cases: a store in memory,
//! a fresh CA, a kubeconfig for an administrator.
//!
//! `standalone KUBECONFIG [PORT]`

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Config};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let kubeconfig = args.next().ok_or("usage: standalone KUBECONFIG [PORT]")?;
    let port: u16 = args.next().map_or(Ok(0), |text| text.parse())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let port = listener.local_addr()?.port();

    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, "kubernetes-ca");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let (server_pem, server_key) =
        leaf(&issuer, "kube-apiserver", "", ExtendedKeyUsagePurpose::ServerAuth)?;
    let (admin_pem, admin_key) =
        leaf(&issuer, "admin", "system:masters", ExtendedKeyUsagePurpose::ClientAuth)?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let roots = Arc::new(roots);
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        roots.clone(),
        provider.clone(),
    )
    .allow_unauthenticated()
    .build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(server_key.as_bytes())?,
        )?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let kubelet_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(admin_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(admin_key.as_bytes())?,
        )?;

    let shutdown = CancellationToken::new();
    let config = Config {
        advertise_address: "127.0.0.1".parse()?,
        advertise_port: port,
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        node_ports: (30000, 32767),
        cluster_domain: "cluster.local".into(),
        cluster_ca_pem: ca_pem.clone(),
        service_account_issuer: "https://kubernetes.default.svc".into(),
        service_account_key_pem: KeyPair::generate()?.serialize_pem(),
        anonymous: true,
        kubelet_tls: Arc::new(kubelet_tls),
        event_ttl: Duration::from_secs(3600),
        admission: apiserver::admission::optional::AdmissionConfig::default(),
        audit: None,
        build: "skeg".into(),
    };
    let store = store::Store::in_memory().await;
    let started = std::time::Instant::now();
    let server = ApiServer::start(config, store, kinds::builtin(), shutdown.clone()).await?;
    eprintln!("started in {:?} on port {port}", started.elapsed());
    std::fs::write(&kubeconfig, kubeconfig_text(port, &ca_pem, &admin_pem, &admin_key))?;
    server.serve(listener, Arc::new(tls), shutdown).await?;
    Ok(())
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    organisation: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    if !organisation.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organisation);
    }
    params.subject_alt_names =
        vec![SanType::IpAddress("127.0.0.1".parse()?), SanType::DnsName("localhost".try_into()?)];
    params.extended_key_usages = vec![usage];
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn kubeconfig_text(port: u16, ca: &str, certificate: &str, key: &str) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: skeg\n\
         clusters:\n- name: skeg\n  cluster:\n    server: https://127.0.0.1:{port}\n    \
         certificate-authority-data: {}\n\
         users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\n\
         contexts:\n- name: skeg\n  context:\n    cluster: skeg\n    user: admin\n",
        encode(ca),
        encode(certificate),
        encode(key),
    )
}
