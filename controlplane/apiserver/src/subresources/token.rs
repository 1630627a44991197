//! Issues service-account tokens.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/serviceaccount/storage/token.go`, v1.36.

use objects::{ApiError, FieldErrors, FieldPath, GroupKind, GroupResource, ObjectExt};
use serde_json::{Value, json};

use crate::admission::{node_restriction, webhooks};
use crate::answer::{self, Answer};
use crate::auth::tokens::{Claims, Private, Reference};
use crate::call::Call;
use crate::codec;
use crate::encode;
use crate::metadata;
use crate::options::WriteOptions;
use crate::ownership;
use crate::server::Server;
use crate::verbs::get;

const DEFAULT_SECS: i64 = 3600;
const MIN_SECS: i64 = 600;
const MAX_SECS: i64 = 1 << 32;
/// Tokens mounted into pods ask for an hour and seven seconds; they get a year, with a warning
/// after the hour, as old clients do not read a token again.
const MOUNTED_SECS: i64 = 3607;
const PROLONGED_SECS: i64 = 365 * 24 * 3600 + 7;

/// `POST …/serviceaccounts/NAME/token`.
pub(super) async fn answer(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions", false)?;
    let schema = patch::schema::builtin("io.k8s.api.authentication.v1.TokenRequest");
    let decoded = codec::decode_as(
        &call.headers,
        body,
        ("authentication.k8s.io", "v1", "TokenRequest"),
        schema.as_ref(),
        options.field_validation,
    )?;
    let mut request = decoded.object;
    let key = call.key(call.name());
    let account = server.store.get(&key).ok_or_else(|| call.not_found())?;
    let account = encode::parse(&account);
    if request.i64_at(&["spec", "expirationSeconds"]).is_none() {
        request.set_at(&["spec", "expirationSeconds"], json!(DEFAULT_SECS));
    }
    node_restriction::check_token(server, call, &request)?;
    let create = webhooks::Operation::Create;
    let warnings = webhooks::action(server, call, create, &request, options.dry_run).await?;
    validate(&request)?;
    let asked = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECS);
    if let Some(schema) = &schema {
        ownership::track_request(call, &options, &mut request, schema);
    }
    if request.list_at(&["spec", "audiences"]).is_empty() {
        let issuer = &server.config.service_account_issuer;
        request.set_at(&["spec", "audiences"], json!([issuer]));
    }
    let claims = claims(server, call, &account, &request, asked)?;
    let Some(token) = server.tokens.sign(&claims) else {
        return Err(ApiError::internal("failed to generate token"));
    };
    let until = jiff::Timestamp::from_second(claims.exp).unwrap_or(call.now);
    if request.at(&["spec", "boundObjectRef"]).is_none() {
        request.set_at(&["spec", "boundObjectRef"], Value::Null);
    }
    for field in ["name", "namespace", "uid"] {
        request.set_at(&["metadata", field], json!(account.str_at(&["metadata", field])));
    }
    let now = objects::time::format_time(call.now);
    request.set_at(&["metadata", "creationTimestamp"], json!(now));
    request["status"] = json!({
        "token": token, "expirationTimestamp": objects::time::format_time(until),
    });
    let mut answer = answer::value(201, form, &request);
    answer::warn(&mut answer, &decoded.warnings);
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

fn validate(request: &Value) -> Result<(), ApiError> {
    let at = FieldPath::new("spec").child("expirationSeconds");
    let mut errors = FieldErrors::default();
    let secs = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(0);
    if secs < MIN_SECS {
        errors.invalid(&at, &json!(secs), "may not specify a duration less than 10 minutes");
    }
    if secs > MAX_SECS {
        errors.invalid(&at, &json!(secs), "may not specify a duration larger than 2^32 seconds");
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupKind { group: "authentication.k8s.io".into(), kind: "TokenRequest".into() };
    Err(ApiError::invalid(&kind, "", &errors))
}

/// An object that a token is bound to, alive and, if asked for, of the wanted uid.
fn bound(
    server: &Server,
    plural: &str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<Value, ApiError> {
    let resource = GroupResource::new("", plural);
    let record = server.store.get(&format!("/{plural}/{namespace}/{name}"));
    let object = record
        .map(|record| encode::parse(&record))
        .ok_or_else(|| ApiError::not_found(&resource, name))?;
    if !uid.is_empty() && uid != object.uid() {
        let found = object.uid();
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated ({found})"
        );
        return Err(ApiError::conflict(&resource, name, &why));
    }
    Ok(object)
}

fn claims(
    server: &Server,
    call: &Call,
    account: &Value,
    request: &Value,
    asked: i64,
) -> Result<Claims, ApiError> {
    let namespace = call.namespace();
    let reference = |object: &Value| Reference {
        name: object.name().to_string(),
        uid: object.uid().to_string(),
    };
    let mut private = Private {
        namespace: namespace.to_string(),
        serviceaccount: reference(account),
        pod: None,
        node: None,
        secret: None,
        warnafter: None,
    };
    let spec = request.get("spec").cloned().unwrap_or_default();
    let wanted = spec.at(&["boundObjectRef"]).filter(|value| !value.is_null());
    if let Some(wanted) = wanted {
        let (name, uid) = (wanted.str_at(&["name"]), wanted.str_at(&["uid"]));
        match (wanted.api_version(), wanted.kind()) {
            ("v1", "Pod") => {
                let pod = bound(server, "pods", namespace, name, uid)?;
                check_account(call, &pod)?;
                let node = pod.str_at(&["spec", "nodeName"]);
                if !node.is_empty() {
                    let found = server.store.get(&format!("/nodes//{node}"));
                    let uid = found.map(|node| encode::parse(&node).uid().to_string());
                    let name = node.to_string();
                    private.node = Some(Reference { name, uid: uid.unwrap_or_default() });
                }
                private.pod = Some(reference(&pod));
            }
            ("v1", "Secret") => {
                private.secret = Some(reference(&bound(server, "secrets", namespace, name, uid)?));
            }
            ("v1", "Node") => {
                private.node = Some(reference(&bound(server, "nodes", "", name, uid)?));
            }
            (version, kind) => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        }
    }
    let issuer = &server.config.service_account_issuer;
    let aud: Vec<String> =
        spec.list_at(&["audiences"]).iter().filter_map(Value::as_str).map(str::to_string).collect();
    let now = call.now.as_second();
    let prolonged = asked == MOUNTED_SECS && private.pod.is_some() && aud == [issuer.clone()];
    if prolonged {
        private.warnafter = Some(now + asked);
    }
    Ok(Claims {
        aud,
        exp: now + if prolonged { PROLONGED_SECS } else { asked },
        iat: now,
        iss: issuer.clone(),
        jti: metadata::fresh_uid(),
        kubernetes: private,
        nbf: now,
        sub: format!("system:serviceaccount:{namespace}:{}", account.name()),
    })
}

fn check_account(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let runs_as = pod.str_at(&["spec", "serviceAccountName"]);
    if runs_as == call.name() {
        return Ok(());
    }
    let why = format!(
        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
        call.name()
    );
    Err(ApiError::bad_request(why))
}
