//! Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Map, Value, json};

use super::configmap::{DATA_MAX, check_sealed, decoded_len};
use crate::cells;
use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// Behaviour of Secrets.
pub(crate) struct Secret;

impl Behaviour for Secret {
    fn default(&self, object: &mut Value) {
        merge_string_data(object);
        object.default_zero("type", "Opaque");
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        if new.text("type").is_empty() {
            restore(new, old, &["type"]);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("data");
        let mut size = 0;
        for (key, value) in object.entries("data") {
            check::config_key(errors, &path.key(key), key);
            size += decoded_len(value);
        }
        if size > DATA_MAX {
            errors.too_long(&path, DATA_MAX);
        }
        check_type(object, &path, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        check::immutable(errors, &FieldPath::new("type"), new.field("type"), old.field("type"));
        check_sealed(new, old, &["data"], errors);
        self.validate(new, errors);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("type", object.text("type").to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![
            cells::name(object),
            json!(object.text("type")),
            json!(object.map("data").map_or(0, Map::len)),
            cells::age(object, now),
        ]
    }
}

/// `stringData` is a way of writing `data`; it is never stored.
fn merge_string_data(object: &mut Value) {
    let Some(texts) = object.map("stringData").cloned() else {
        object.drop_field("stringData");
        return;
    };
    for (key, value) in texts {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        object.set_at(&["data", &key], json!(encoded));
    }
    object.drop_field("stringData");
}

fn check_type(object: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let data = part(object, &["data"]);
    let has = |key: &str| data.field(key).is_some();
    match object.text("type") {
        "kubernetes.io/service-account-token"
            if part(object, &["metadata", "annotations"]).text(ACCOUNT_NAME).is_empty() =>
        {
            let path = FieldPath::new("metadata").child("annotations").key(ACCOUNT_NAME);
            errors.required(&path, "");
        }
        "kubernetes.io/dockercfg" => check_json(data, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => check_json(data, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].iter().filter(|key| !has(key)) {
                errors.required(&path.key(key), "");
            }
        }
        _ => {}
    }
}

fn check_json(data: &Value, key: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.key(key);
    let Some(text) = data.text_opt(key) else {
        errors.required(&here, "");
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Some(fault) = json_fault(&bytes) {
        errors.invalid_str(&here, "<secret contents redacted>", &fault);
    }
}

/// What Go's decoder says of bytes that are not a JSON map.
fn json_fault(bytes: &[u8]) -> Option<String> {
    let kind = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) if error.is_eof() => return Some("unexpected end of JSON input".into()),
        Err(error) => {
            let at = error.column().saturating_sub(1);
            let found = bytes.get(at).map_or(' ', |byte| char::from(*byte));
            return Some(format!("invalid character '{found}' looking for beginning of value"));
        }
    };
    Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

fn warnings(object: &Value) -> Vec<String> {
    let path = FieldPath::new("data");
    let data = part(object, &["data"]);
    let mut out = Vec::new();
    let decoded = |key: &str| STANDARD.decode(data.text(key)).unwrap_or_default();
    let auths = match object.text("type") {
        "kubernetes.io/dockerconfigjson" => Some(".dockerconfigjson"),
        _ => None,
    };
    if let Some(key) = auths {
        let config: Value = serde_json::from_slice(&decoded(key)).unwrap_or_default();
        if !config.is_set("auths") {
            out.push(format!("{}: no auths found", path.key(key)));
        }
    }
    out
}
