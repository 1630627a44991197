//! How a joining node gets its certificates: by the CertificateSigningRequest API.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::KeyPair;

use super::{Identity, Leaf, files, leaf_params, write_private};

/// A node's client certificate.
pub(crate) const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// A node's serving certificate.
pub(crate) const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// How long a request may stay undecided. The server approves by itself within milliseconds.
const DECISION_BOUND: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The identity kept as `name.crt` and `name.key` in `folder`, if it still serves.
pub(crate) fn kept(folder: &Path, name: &str, leaf: &Leaf, now: SystemTime) -> Option<Identity> {
    let certificate_pem = files::read(&folder.join(format!("{name}.crt"))).ok()?;
    let key_pem = files::read(&folder.join(format!("{name}.key"))).ok()?;
    files::lasts(&certificate_pem, leaf, now).then_some(Identity { certificate_pem, key_pem })
}

/// Asks the cluster to sign a certificate for `leaf`, waits for it, and keeps it.
pub(crate) async fn request(
    client: &kube::Client,
    folder: &Path,
    name: &str,
    leaf: &Leaf,
    signer: &str,
) -> Result<Identity> {
    let key = KeyPair::generate().context("make a key")?;
    let params = leaf_params(leaf, SystemTime::now())?;
    let request = params.serialize_request(&key).context("make a signing request")?;
    let request = request.pem().context("print the signing request")?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let usage = if signer == CLIENT_SIGNER { "client auth" } else { "server auth" };
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("node-".into()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: signer.into(),
            usages: Some(vec!["digital signature".into(), usage.into()]),
            ..Default::default()
        },
        status: None,
    };
    let made = api
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("ask for a certificate of {signer}"))?;
    let made_name = made.metadata.name.context("a request has a name")?;
    let certificate_pem = tokio::time::timeout(DECISION_BOUND, decided(&api, &made_name))
        .await
        .with_context(|| format!("nobody has signed request {made_name}"))??;
    let identity = Identity { certificate_pem, key_pem: key.serialize_pem() };
    write_private(&folder.join(format!("{name}.key")), &identity.key_pem)?;
    files::write(&folder.join(format!("{name}.crt")), &identity.certificate_pem)?;
    Ok(identity)
}

async fn decided(api: &Api<CertificateSigningRequest>, name: &str) -> Result<String> {
    loop {
        let request = api.get(name).await.with_context(|| format!("read request {name}"))?;
        let status = request.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            return String::from_utf8(certificate.0).context("a certificate is PEM");
        }
        for condition in status.conditions.unwrap_or_default() {
            if condition.type_ == "Denied" || condition.type_ == "Failed" {
                bail!(
                    "request {name} was {}: {}",
                    condition.type_,
                    condition.message.unwrap_or_default()
                );
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
