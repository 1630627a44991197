//! AdmissionReviews, and what their answers say. PURE.
//!
//! Source of behaviour: k8s.io/apiserver `pkg/admission/plugin/webhook/{request,errors}`, v1.36.

use base64::Engine as _;
use kinds::{Kind, Names};
use objects::{ApiError, GroupVersion, ObjectExt as _};
use serde_json::{Value, json};

use super::matching::Operation;
use crate::call::Call;

/// A request as it is told to a webhook.
pub(super) struct Request<'a> {
    pub(super) call: &'a Call,
    pub(super) uid: &'a str,
    pub(super) operation: Operation,
    pub(super) object: Option<&'a Value>,
    pub(super) old: Option<&'a Value>,
    /// The version in which it is told, if that is not the request's.
    pub(super) version: Option<&'a Kind>,
    pub(super) dry_run: bool,
    /// The options of a delete.
    pub(super) delete_options: Option<&'a Value>,
}

impl Request<'_> {
    /// The review that a webhook gets.
    pub(super) fn review(&self, review_version: &str) -> Value {
        let call = self.call;
        let names = &call.kind.names;
        let told = self.version.map_or(names, |kind| &kind.names);
        let resource = |names: &Names| json!({"group": names.group, "version": names.version, "resource": names.plural});
        let mut request = json!({
            "uid": self.uid,
            "kind": self.kind(told),
            "resource": resource(told),
            "requestKind": self.kind(names),
            "requestResource": resource(names),
            "operation": self.operation.as_str(),
            "userInfo": call.user.to_user_info(),
            "object": self.object,
            "oldObject": self.old,
            "dryRun": self.dry_run,
            "options": self.options(),
        });
        let name = match call.name() {
            "" => self.object.or(self.old).map_or("", |object| object.name()),
            name => name,
        };
        // A namespace is within itself.
        let is_namespace = names.group.is_empty() && names.plural == "namespaces";
        let namespace = if is_namespace { name } else { call.namespace() };
        let subresource = call.path.subresource.as_str();
        for (field, text) in [
            ("name", name),
            ("namespace", namespace),
            ("subResource", subresource),
            ("requestSubResource", subresource),
        ] {
            if !text.is_empty() {
                request[field] = text.into();
            }
        }
        let api_version = format!("admission.k8s.io/{review_version}");
        json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request})
    }

    /// The type of the object: the resource's, or what its subresource takes.
    fn kind(&self, names: &Names) -> Value {
        let object = self.object.or(self.old);
        let other = object.filter(|object| {
            !object.kind().is_empty() && object.kind() != self.call.kind.names.kind
        });
        match other.and_then(|object| Some((object, GroupVersion::parse(object.api_version())?))) {
            Some((object, version)) => json!({
                "group": version.group, "version": version.version, "kind": object.kind(),
            }),
            None => json!({"group": names.group, "version": names.version, "kind": names.kind}),
        }
    }

    /// The options as those of the operation, also when a patch is what carries it out.
    fn options(&self) -> Value {
        let query = &self.call.query;
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.operation == Operation::Delete {
            for (field, value) in
                self.delete_options.and_then(Value::as_object).into_iter().flatten()
            {
                options[field] = value.clone();
            }
            return options;
        }
        for field in ["fieldManager", "fieldValidation"] {
            let text = query.text(field);
            if !text.is_empty() {
                options[field] = text.into();
            }
        }
        let dry_run: Vec<&str> = query.all("dryRun").filter(|text| !text.is_empty()).collect();
        if !dry_run.is_empty() {
            options["dryRun"] = json!(dry_run);
        }
        options
    }
}

/// What a webhook decided.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The refusal, if it refused.
    pub(super) refusal: Option<ApiError>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    /// Texts for `Warning` headers.
    pub(super) warnings: Vec<String>,
    /// Audit annotations.
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads an answer; the error is why it cannot be used.
pub(super) fn verdict(
    webhook: &str,
    uid: &str,
    review_version: &str,
    answer: &Value,
) -> Result<Verdict, String> {
    read(webhook, uid, review_version, answer)
        .map_err(|why| format!("received invalid webhook response: {why}"))
}

fn read(webhook: &str, uid: &str, review_version: &str, answer: &Value) -> Result<Verdict, String> {
    // The older version was lenient about everything.
    let strict = review_version == "v1";
    let version = answer.api_version();
    if strict && (version != "admission.k8s.io/v1" || answer.kind() != "AdmissionReview") {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, \
             Kind={}",
            answer.kind()
        ));
    }
    let Some(response) = answer.at(&["response"]).filter(|response| response.is_object()) else {
        return Err("webhook response was absent".into());
    };
    let found = response.str_at(&["uid"]);
    if strict && found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let patch = match (response.str_at(&["patchType"]), response.str_at(&["patch"])) {
        (_, "") => None,
        (kind, text) if kind == "JSONPatch" || (!strict && kind.is_empty()) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            Some(bytes.map_err(|error| format!("the patch is not base64: {error}"))?)
        }
        (kind, _) => {
            return Err(match kind {
                "" => "webhook returned response.patch but not response.patchType".into(),
                kind => format!("webhook returned invalid response.patchType of {kind:?}"),
            });
        }
    };
    let warnings = response.list_at(&["warnings"]).iter().filter_map(Value::as_str);
    let annotations = response.map_at(&["auditAnnotations"]).into_iter().flatten();
    Ok(Verdict {
        refusal: (response.bool_at(&["allowed"]) != Some(true))
            .then(|| refusal(webhook, response.at(&["status"]))),
        patch,
        warnings: warnings.map(str::to_owned).collect(),
        annotations: annotations
            .filter_map(|(key, value)| {
                Some((format!("{webhook}/{key}"), value.as_str()?.to_owned()))
            })
            .collect(),
    })
}

/// A refusal in the webhook's words.
fn refusal(webhook: &str, status: Option<&Value>) -> ApiError {
    let none = json!({});
    let status = status.unwrap_or(&none);
    let (message, reason) = (status.str_at(&["message"]), status.str_at(&["reason"]));
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    // A refusal is never a success.
    let code = status.i64_at(&["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let mut error = ApiError::new(code.max(400), reason.to_owned(), message);
    error.details = status.at(&["details"]).cloned();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn refusals_are_told_in_the_webhooks_words() {
        for (status, code, message) in [
            (
                json!({"code": 403, "message": "no"}),
                403,
                "admission webhook \"w\" denied the request: no",
            ),
            (
                json!({"reason": "Because"}),
                400,
                "admission webhook \"w\" denied the request: Because",
            ),
            (
                json!({"code": 200}),
                400,
                "admission webhook \"w\" denied the request without explanation",
            ),
        ] {
            let read =
                verdict("w", "u", "v1", &answer(json!({"uid": "u", "status": status}))).unwrap();
            let refusal = read.refusal.unwrap();
            assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
        }
    }

    #[test]
    fn answers_must_be_whole() {
        let good = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": "W10=",
            "warnings": ["careful"], "auditAnnotations": {"k": "v"}});
        let read = verdict("w", "u", "v1", &answer(good.clone())).unwrap();
        assert_eq!(read.patch.as_deref(), Some(&b"[]"[..]));
        assert_eq!(read.annotations, [("w/k".to_owned(), "v".to_owned())]);
        assert!(read.refusal.is_none() && read.warnings == ["careful"]);
        assert!(verdict("w", "other", "v1", &answer(good)).is_err());
        assert!(verdict("w", "u", "v1", &json!({"kind": "AdmissionReview"})).is_err());
        let odd = json!({"uid": "u", "allowed": true, "patchType": "Odd", "patch": "W10="});
        assert!(verdict("w", "u", "v1", &answer(odd)).is_err());
    }
}
