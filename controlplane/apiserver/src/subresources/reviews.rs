//! Kinds that ask the server something: access reviews, token reviews, who am I, bindings.
//!
//! Source of behaviour: kubernetes `pkg/registry/authorization`, `pkg/registry/authentication`,
//! v1.36.

use std::sync::Arc;

use objects::{ApiError, FieldErrors, FieldPath, GroupKind, ObjectExt};
use serde_json::{Map, Value, json};

use crate::answer::{self, Answer};
use crate::auth::{self, Attributes, rbac::Rule, tokens};
use crate::call::Call;
use crate::codec;
use crate::identity::User;
use crate::options::WriteOptions;
use crate::ownership;
use crate::pipeline::Ownership;
use crate::router::method_not_allowed;
use crate::server::Server;
use crate::subresources::binding;
use crate::verbs::get;

/// Answers a create of a kind that is not stored.
pub(crate) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    body: &[u8],
) -> Result<Answer, ApiError> {
    let names = &call.kind.names;
    let review: fn(&Server, &Call, &mut Value) -> Result<(), ApiError> =
        match (names.group.as_str(), names.kind.as_str()) {
            ("authorization.k8s.io", "SubjectAccessReview") => subject_access,
            ("authorization.k8s.io", "LocalSubjectAccessReview") => local_subject_access,
            ("authorization.k8s.io", "SelfSubjectAccessReview") => self_subject_access,
            ("authorization.k8s.io", "SelfSubjectRulesReview") => self_subject_rules,
            ("authentication.k8s.io", "SelfSubjectReview") => self_subject,
            ("authentication.k8s.io", "TokenReview") => token,
            ("", "Binding") => return binding::create(server, call, body).await,
            ("", "ComponentStatus") => return component_status(call),
            _ => return Err(method_not_allowed()),
        };
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions", false)?;
    let mut decoded = codec::decode_body(server, call, body, &options)?;
    // Managed fields cover what the client sent, before the answer is written into it.
    let own = !matches!(names.kind.as_str(), "SelfSubjectReview");
    if own {
        let update = Ownership::Update;
        ownership::track(server, call, &options, update, &mut decoded.object, None);
    }
    review(server, call, &mut decoded.object)?;
    let mut answer = get::show(call, form, 201, decoded.object)?;
    answer::warn(&mut answer, &decoded.warnings);
    Ok(answer)
}

/// There are no component statuses: the kind is kept for old clients.
fn component_status(call: &Call) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    if !call.name().is_empty() {
        return Err(call.not_found());
    }
    let list = json!({
        "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [],
    });
    Ok(answer::value(200, form, &list))
}

fn invalid(errors: &FieldErrors) -> ApiError {
    let kind = GroupKind { group: "authorization.k8s.io".into(), kind: String::new() };
    let mut error = ApiError::invalid(&kind, "", errors);
    if let Some(details) = error.details.as_mut().and_then(Value::as_object_mut)
        && details.get("kind").is_some_and(|kind| kind == "")
    {
        details.remove("kind");
    }
    error
}

/// Validates what all access reviews have, and decides.
fn decide(server: &Server, user: &User, spec: &Value) -> Result<Value, ApiError> {
    let resource = spec.at(&["resourceAttributes"]).filter(|value| !value.is_null());
    let path = spec.at(&["nonResourceAttributes"]).filter(|value| !value.is_null());
    let at = FieldPath::new("spec");
    let mut errors = FieldErrors::default();
    match (resource, path) {
        (None, None) => errors.invalid(
            &at.child("resourceAttributes"),
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (Some(_), Some(path)) => errors.invalid_printed(
            &at.child("nonResourceAttributes"),
            format!(
                "{{\"Path\":{},\"Verb\":{}}}",
                json!(path.str_at(&["path"])),
                json!(path.str_at(&["verb"]))
            ),
            "cannot be specified in combination with resourceAttributes",
        ),
        (Some(resource), None) => {
            for selector in ["fieldSelector", "labelSelector"] {
                let raw = resource.str_at(&[selector, "rawSelector"]);
                if !raw.is_empty() && !resource.list_at(&[selector, "requirements"]).is_empty() {
                    let at = at.child("resourceAttributes").child(selector).child("rawSelector");
                    errors.invalid_str(
                        &at,
                        raw,
                        "may not specified at the same time as requirements",
                    );
                }
            }
        }
        (None, Some(_)) => {}
    }
    if !errors.is_empty() {
        return Err(invalid(&errors));
    }
    let attributes = match (resource, path) {
        (Some(resource), _) => Attributes {
            verb: resource.str_at(&["verb"]),
            group: resource.str_at(&["group"]),
            version: resource.str_at(&["version"]),
            namespace: resource.str_at(&["namespace"]),
            resource: resource.str_at(&["resource"]),
            subresource: resource.str_at(&["subresource"]),
            name: resource.str_at(&["name"]),
            path: "",
        },
        (None, path) => {
            let path = path.unwrap_or(&Value::Null);
            let (verb, path) = (path.str_at(&["verb"]), path.str_at(&["path"]));
            Attributes { verb, path, ..Attributes::default() }
        }
    };
    let decision = auth::decide(server, user, &attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    Ok(status)
}

fn user_of(spec: &Value) -> Result<User, ApiError> {
    let texts = |list: &[Value]| -> Vec<String> {
        list.iter().filter_map(Value::as_str).map(str::to_string).collect()
    };
    let mut user = User {
        name: spec.str_at(&["user"]).to_string(),
        uid: spec.str_at(&["uid"]).to_string(),
        groups: texts(spec.list_at(&["groups"])),
        ..User::default()
    };
    for (key, value) in spec.map_at(&["extra"]).into_iter().flatten() {
        user.extra.insert(key.clone(), texts(value.as_array().map_or(&[], Vec::as_slice)));
    }
    if user.name.is_empty() && user.groups.is_empty() {
        let mut errors = FieldErrors::default();
        let at = FieldPath::new("spec").child("user");
        errors.invalid_str(&at, "", "at least one of user or group must be specified");
        return Err(invalid(&errors));
    }
    Ok(user)
}

fn subject_access(server: &Server, _: &Call, review: &mut Value) -> Result<(), ApiError> {
    let spec = review.get("spec").cloned().unwrap_or_default();
    // The attributes are checked before the user, as upstream does.
    let status = decide(server, &User::default(), &spec).map(drop);
    status?;
    let user = user_of(&spec)?;
    review["status"] = decide(server, &user, &spec)?;
    Ok(())
}

fn local_subject_access(server: &Server, call: &Call, review: &mut Value) -> Result<(), ApiError> {
    let named = review.str_at(&["spec", "resourceAttributes", "namespace"]);
    if named != call.namespace() {
        let mut errors = FieldErrors::default();
        let at = FieldPath::new("spec").child("resourceAttributes").child("namespace");
        errors.invalid_str(&at, named, "must match metadata.namespace");
        return Err(invalid(&errors));
    }
    subject_access(server, call, review)
}

fn self_subject_access(server: &Server, call: &Call, review: &mut Value) -> Result<(), ApiError> {
    let spec = review.get("spec").cloned().unwrap_or_default();
    review["status"] = decide(server, &call.user, &spec)?;
    Ok(())
}

fn self_subject_rules(server: &Server, call: &Call, review: &mut Value) -> Result<(), ApiError> {
    let namespace = review.str_at(&["spec", "namespace"]).to_string();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let mut rules = server.rbac.rules_of(&call.user, &namespace);
    if call.user.is_in(crate::identity::MASTERS) {
        let all = || vec!["*".to_string()];
        rules.insert(0, Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
        rules.insert(1, Rule { verbs: all(), paths: all(), ..Rule::default() });
    }
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut entry = json!({
                "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources,
            });
            if !rule.names.is_empty() {
                entry["resourceNames"] = json!(rule.names);
            }
            resources.push(entry);
        }
        if !rule.paths.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
        }
    }
    review["spec"] = json!({});
    review["status"] = json!({
        "resourceRules": resources, "nonResourceRules": paths, "incomplete": false,
    });
    Ok(())
}

fn self_subject(_: &Server, call: &Call, review: &mut Value) -> Result<(), ApiError> {
    let now = objects::time::format_time(call.now);
    review["metadata"] = json!({"creationTimestamp": now});
    review["status"] = json!({"userInfo": call.user.to_user_info()});
    Ok(())
}

fn token(server: &Server, _: &Call, review: &mut Value) -> Result<(), ApiError> {
    let token = review.str_at(&["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let issuer = server.config.service_account_issuer.as_str();
    let mut audiences: Vec<&str> =
        review.list_at(&["spec", "audiences"]).iter().filter_map(Value::as_str).collect();
    if audiences.is_empty() {
        audiences.push(issuer);
    }
    let status = match tokens::authenticate(server, token, &audiences) {
        Ok(proof) => json!({
            "authenticated": true,
            "user": proof.user.to_user_info(),
            "audiences": proof.audiences,
        }),
        Err(error) => json!({"user": Map::new(), "error": error.to_string()}),
    };
    review["status"] = status;
    Ok(())
}
