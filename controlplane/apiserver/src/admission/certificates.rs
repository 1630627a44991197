//! Who may approve, sign and vouch for which certificates, and whom none are made for.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/certificates` and
//! `pkg/certauthorization`, v1.36.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::{ApiError, ObjectExt};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::Admission;
use crate::auth;

const GROUP: &str = "certificates.k8s.io";
/// Signer of certificates for clients of the API server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whom a certificate is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// Reads the request in a CertificateSigningRequest; the error says what is wrong with it.
    pub(super) fn of(object: &Value) -> Result<Self, String> {
        let pem = STANDARD
            .decode(object.str_at(&["spec", "request"]))
            .map_err(|error| error.to_string())?;
        let der = CertificateSigningRequestDer::from_pem_slice(&pem)
            .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        let subject = &request.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).unwrap_or_default()
        };
        Ok(Self {
            common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
        })
    }
}

/// Refuses what the user's roles do not allow with a signer's certificates.
pub(super) fn check(
    admission: &Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let call = admission.call;
    if call.kind.names.group != GROUP {
        return Ok(());
    }
    let refuse = |why: String| Err(ApiError::forbidden(&call.resource(), new.name(), &why));
    let signer = |object: &Value| object.str_at(&["spec", "signerName"]).to_owned();
    let subresource = call.path.subresource.as_str();
    match (call.kind.names.plural.as_str(), subresource, old) {
        ("certificatesigningrequests", "approval", Some(old)) => {
            let signer = signer(old);
            if !may(admission, "approve", &signer) {
                return refuse(format!(
                    "user not permitted to approve requests with signerName {signer:?}"
                ));
            }
        }
        ("certificatesigningrequests", "status", Some(old)) => {
            let signer = signer(old);
            let changes = |field: &str| new.at(&["status", field]) != old.at(&["status", field]);
            let signs = changes("certificate") || changes("conditions");
            if signs && !may(admission, "sign", &signer) {
                return refuse(format!(
                    "user not permitted to sign requests with signerName {signer:?}"
                ));
            }
        }
        ("certificatesigningrequests", "", None) if signer(new) == CLIENT_SIGNER => {
            let subject = match Subject::of(new) {
                Ok(subject) => subject,
                Err(why) => return refuse(format!("failed to parse CSR: {why}")),
            };
            if subject.organizations.iter().any(|group| group == "system:masters") {
                return refuse(format!(
                    "use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
                ));
            }
        }
        ("clustertrustbundles", ..) => {
            let signer = signer(new);
            let same = old.is_some_and(|old| is_only_collected(new, old));
            if !signer.is_empty() && !same && !may(admission, "attest", &signer) {
                return refuse(format!("user not permitted to attest for signerName {signer:?}"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether an update changes nothing but what the garbage collector does.
fn is_only_collected(new: &Value, old: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut object = object.clone();
        for field in ["finalizers", "managedFields", "ownerReferences", "resourceVersion"] {
            object.remove_at(&["metadata", field]);
        }
        object
    };
    stripped(new) == stripped(old)
}

/// Whether the user may do something with a signer, or with all of its domain.
fn may(admission: &Admission<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let whole_domain = format!("{domain}/*");
    [signer, &whole_domain].into_iter().any(|name| {
        let attributes = auth::Attributes {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..auth::Attributes::default()
        };
        auth::decide(admission.server, &admission.call.user, &attributes).allowed
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_name_their_subject() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let key = rcgen::KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).expect("a request");
        let pem = request.pem().expect("PEM");
        let object = json!({"spec": {"request": STANDARD.encode(pem)}});
        let subject = Subject::of(&object).expect("a subject");
        assert_eq!(subject.common_name, "system:node:n1");
        assert_eq!(subject.organizations, ["system:nodes"]);
        let wrong = json!({"spec": {"request": STANDARD.encode("x")}});
        assert_eq!(
            Subject::of(&wrong).expect_err("no request"),
            "PEM block type must be CERTIFICATE REQUEST"
        );
    }

    #[test]
    fn the_garbage_collector_vouches_for_nothing() {
        let bundle = |finalizers: Value, text: &str| json!({"metadata": {"finalizers": finalizers}, "spec": {"trustBundle": text}});
        assert!(is_only_collected(&bundle(json!([]), "a"), &bundle(json!(["f"]), "a")));
        assert!(!is_only_collected(&bundle(json!([]), "a"), &bundle(json!([]), "b")));
    }
}
