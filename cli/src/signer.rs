//! Signs what nodes and administrators ask for by CertificateSigningRequests.
//!
//! A node's own requests (client and serving certificate) are approved here if they ask for no more
//! than that node may have; others are signed once somebody has approved them.
//!
//! Source of behaviour: kubernetes `pkg/controller/certificates/{approver,signer}` and
//! `pkg/apis/certificates/helpers.go`, v1.36.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use informer::{Change, Source, reflect};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use crate::pki::Authority;
use crate::pki::enroll::{CLIENT_SIGNER, SERVING_SIGNER};
use crate::token::NODE_BOOTSTRAPPERS;

/// Certificates of any client, once approved.
const ANY_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// A request lasts at most as long as our own leaves.
const LIFE_MAX_SECS: i32 = 365 * 24 * 60 * 60;
/// Upstream's shortest.
const LIFE_MIN_SECS: i32 = 600;

/// What a request asks for, out of its PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    common_name: String,
    organizations: Vec<String>,
    has_names: bool,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Approve,
    Sign,
    Leave,
}

/// Approves and signs until shutdown.
pub(crate) async fn run(
    client: kube::Client,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) -> Result<()> {
    let source = Source::of::<CertificateSigningRequest>();
    let view =
        reflect::<CertificateSigningRequest>(client.clone(), source, Vec::new(), shutdown.clone());
    let mut changes = view.changes();
    let api: Api<CertificateSigningRequest> = Api::all(client);
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            change = changes.next() => change.context("the view of requests ended")?,
        };
        let requests = match change {
            Change::Object { new: Some(new), .. } => vec![new],
            Change::Object { new: None, .. } => continue,
            Change::Resync => view.list(),
        };
        for request in requests {
            let name = request.metadata.name.clone().unwrap_or_default();
            if let Err(error) = handle(&api, &authority, &request).await {
                warn!(request = name, "failed to handle a signing request: {error:#}");
            }
        }
    }
}

async fn handle(
    api: &Api<CertificateSigningRequest>,
    authority: &Authority,
    request: &CertificateSigningRequest,
) -> Result<()> {
    let asked = asked(request)?;
    let name = request.metadata.name.clone().context("a request has a name")?;
    let mut next = request.clone();
    match decide(request, &asked) {
        Decision::Leave => Ok(()),
        Decision::Approve => {
            let status = next.status.get_or_insert_default();
            status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("AutoApproved".into()),
                message: Some("a node asks for its own certificate".into()),
                last_update_time: Some(Time(jiff::Timestamp::now())),
                last_transition_time: Some(Time(jiff::Timestamp::now())),
            });
            replace(api, &name, "approval", &next).await
        }
        Decision::Sign => {
            let certificate = sign(authority, request, SystemTime::now())
                .with_context(|| format!("sign request {name}"))?;
            next.status.get_or_insert_default().certificate =
                Some(ByteString(certificate.into_bytes()));
            replace(api, &name, "status", &next).await?;
            info!(request = name, user = asked.common_name, "signed a certificate");
            Ok(())
        }
    }
}

async fn replace(
    api: &Api<CertificateSigningRequest>,
    name: &str,
    subresource: &str,
    next: &CertificateSigningRequest,
) -> Result<()> {
    let replaced: Result<CertificateSigningRequest, kube::Error> =
        api.replace_subresource(subresource, name, &PostParams::default(), next).await;
    match replaced {
        Ok(_) => Ok(()),
        // Changed or gone meanwhile: the watch brings what is new.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("write {subresource} of request {name}")),
    }
}

fn asked(request: &CertificateSigningRequest) -> Result<Asked> {
    let (_, block) = parse_x509_pem(&request.spec.request.0).context("parse the request's PEM")?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&block.contents).context("parse the request")?;
    let subject = &parsed.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    let has_names = parsed.requested_extensions().is_some_and(|mut all| {
        all.any(|one| {
            matches!(one, x509_parser::extensions::ParsedExtension::SubjectAlternativeName(_))
        })
    });
    Ok(Asked {
        common_name: common_name.unwrap_or_default().into(),
        organizations: organizations.map(str::to_string).collect(),
        has_names,
    })
}

fn decide(request: &CertificateSigningRequest, asked: &Asked) -> Decision {
    let status = request.status.clone().unwrap_or_default();
    let has =
        |kind: &str| status.conditions.iter().flatten().any(|condition| condition.type_ == kind);
    if status.certificate.is_some() || has("Denied") || has("Failed") {
        return Decision::Leave;
    }
    let spec = &request.spec;
    let ours = [CLIENT_SIGNER, SERVING_SIGNER, ANY_CLIENT_SIGNER];
    if !ours.contains(&spec.signer_name.as_str()) {
        return Decision::Leave;
    }
    if has("Approved") {
        return Decision::Sign;
    }
    let of_a_node =
        asked.common_name.strip_prefix("system:node:").is_some_and(|name| !name.is_empty())
            && asked.organizations == ["system:nodes"];
    let user = spec.username.as_deref().unwrap_or_default();
    let itself = user == asked.common_name;
    let joins = spec.groups.iter().flatten().any(|group| group == NODE_BOOTSTRAPPERS);
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let only = |purpose: &str| {
        usages.contains(&purpose)
            && usages
                .iter()
                .all(|usage| [purpose, "digital signature", "key encipherment"].contains(usage))
    };
    let fits = match spec.signer_name.as_str() {
        CLIENT_SIGNER => of_a_node && (itself || joins) && !asked.has_names && only("client auth"),
        SERVING_SIGNER => of_a_node && itself && asked.has_names && only("server auth"),
        _ => false,
    };
    if fits { Decision::Approve } else { Decision::Leave }
}

fn sign(
    authority: &Authority,
    request: &CertificateSigningRequest,
    now: SystemTime,
) -> Result<String> {
    let pem = std::str::from_utf8(&request.spec.request.0).context("the request is no text")?;
    let mut params = CertificateSigningRequestParams::from_pem(pem).context("parse the request")?;
    let usages: Vec<&str> = request.spec.usages.iter().flatten().map(String::as_str).collect();
    let purposes = [
        ("client auth", ExtendedKeyUsagePurpose::ClientAuth),
        ("server auth", ExtendedKeyUsagePurpose::ServerAuth),
    ];
    params.params.extended_key_usages = purposes
        .into_iter()
        .filter(|(name, _)| usages.contains(name))
        .map(|(_, one)| one)
        .collect();
    ensure!(!params.params.extended_key_usages.is_empty(), "no purpose is asked for");
    params.params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let secs = request.spec.expiration_seconds.unwrap_or(LIFE_MAX_SECS);
    let secs = secs.clamp(LIFE_MIN_SECS, LIFE_MAX_SECS);
    let life = Duration::from_secs(u64::try_from(secs).context("a life is positive")?);
    authority.sign_request(params, life, now)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn request(
        user: &str,
        groups: &[&str],
        signer: &str,
        usages: &[&str],
        names: &[&str],
    ) -> CertificateSigningRequest {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        let key = KeyPair::generate().expect("a key");
        let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                signer_name: signer.into(),
                usages: Some(usages.iter().map(ToString::to_string).collect()),
                username: Some(user.into()),
                groups: Some(groups.iter().map(ToString::to_string).collect()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn nodes_get_what_is_theirs_and_no_more() {
        let node = "system:node:n1";
        let sign = "digital signature";
        for (user, groups, signer, usages, names, expected) in [
            (
                "system:bootstrap:abcdef",
                &[NODE_BOOTSTRAPPERS][..],
                CLIENT_SIGNER,
                &[sign, "client auth"][..],
                &[][..],
                Decision::Approve,
            ),
            (
                node,
                &["system:nodes"],
                CLIENT_SIGNER,
                &[sign, "client auth"],
                &[],
                Decision::Approve,
            ),
            (
                node,
                &["system:nodes"],
                SERVING_SIGNER,
                &[sign, "server auth"],
                &["n1"],
                Decision::Approve,
            ),
            (
                "system:node:n2",
                &["system:nodes"],
                CLIENT_SIGNER,
                &[sign, "client auth"],
                &[],
                Decision::Leave,
            ),
            ("somebody", &[], CLIENT_SIGNER, &[sign, "client auth"], &[], Decision::Leave),
            (node, &["system:nodes"], CLIENT_SIGNER, &[sign, "server auth"], &[], Decision::Leave),
            (
                node,
                &["system:nodes"],
                "example.com/other",
                &[sign, "client auth"],
                &[],
                Decision::Leave,
            ),
            (
                node,
                &["system:nodes"],
                ANY_CLIENT_SIGNER,
                &[sign, "client auth"],
                &[],
                Decision::Leave,
            ),
        ] {
            let request = request(user, groups, signer, usages, names);
            let asked = asked(&request).expect("parsed");
            assert_eq!(decide(&request, &asked), expected, "{user} {signer} {usages:?} {names:?}");
        }
    }

    #[test]
    fn a_signed_request_belongs_to_the_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("made");
        let request = request("system:node:n1", &[], CLIENT_SIGNER, &["client auth"], &[]);
        let pem = sign(&authority, &request, SystemTime::now()).expect("signed");
        let (_, block) = parse_x509_pem(pem.as_bytes()).expect("PEM");
        let certificate = block.parse_x509().expect("a certificate");
        let (_, ca) = parse_x509_pem(authority.certificate_pem().as_bytes()).expect("PEM");
        let ca = ca.parse_x509().expect("a certificate");
        certificate.verify_signature(Some(ca.public_key())).expect("signed by the authority");
        let name = certificate.subject().iter_common_name().next().expect("a name");
        assert_eq!(name.as_str().expect("text"), "system:node:n1");
    }
}
