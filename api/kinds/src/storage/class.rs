//! StorageClasses and VolumeAttributesClasses.

use std::collections::{BTreeMap, BTreeSet};

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod;
use crate::read::{Read, part, same};

const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 << 10;

/// Behaviour of StorageClasses.
pub(crate) struct StorageClass;

impl Behaviour for StorageClass {
    fn default(&self, object: &mut Value) {
        object.default_to("reclaimPolicy", "Delete");
        object.default_to("volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_provisioner(object, "provisioner", errors);
        check_parameters(object, true, errors);
        let policy = object.text("reclaimPolicy");
        if !policy.is_empty() {
            let path = FieldPath::new("reclaimPolicy");
            check::one_of(errors, &path, policy, &["Delete", "Retain"]);
        }
        let path = FieldPath::new("volumeBindingMode");
        let modes = ["Immediate", "WaitForFirstConsumer"];
        check::one_of(errors, &path, object.text("volumeBindingMode"), &modes);
        check_topologies(object.items("allowedTopologies"), errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let fixed = ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"];
        check::immutable_fields(errors, &FieldPath::root(), (new, old), &fixed);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (at, term) in object.items("allowedTopologies").iter().enumerate() {
            let path = FieldPath::new("allowedTopologies").index(at).child("matchLabelExpressions");
            for (index, expression) in term.items("matchLabelExpressions").iter().enumerate() {
                if let Some(text) = pod::warnings::old_label(expression.text("key")) {
                    out.push(format!("{}: {text}", path.index(index).child("key")));
                }
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![
            cells::name_with_default(object, &DEFAULT_ANNOTATIONS),
            json!(object.text("provisioner")),
            json!(object.text_opt("reclaimPolicy").unwrap_or("Delete")),
            json!(object.text_opt("volumeBindingMode").unwrap_or("Immediate")),
            json!(object.flag("allowVolumeExpansion")),
            cells::age(object, now),
        ]
    }
}

/// Behaviour of VolumeAttributesClasses.
pub(crate) struct VolumeAttributesClass;

impl Behaviour for VolumeAttributesClass {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_provisioner(object, "driverName", errors);
        check_parameters(object, false, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        for key in ["driverName", "parameters"] {
            if !same(part(new, &[key]), part(old, &[key])) {
                let detail = format!("updates to {key} are forbidden.");
                errors.forbidden(&FieldPath::new(key), &detail);
            }
        }
        self.validate(new, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![cells::name(object), json!(object.text("driverName")), cells::age(object, now)]
    }
}

fn check_provisioner(object: &Value, key: &str, errors: &mut FieldErrors) {
    if check::required(errors, object, &FieldPath::root(), key) {
        let name = object.text(key).to_lowercase();
        check::qualified_name(errors, &FieldPath::new(key), &name);
    }
}

fn check_parameters(object: &Value, may_be_empty: bool, errors: &mut FieldErrors) {
    let (parameters, path) = (object.entries("parameters"), FieldPath::new("parameters"));
    if parameters.len() > MAX_PARAMETERS {
        errors.too_long(&path, MAX_PARAMETERS);
        return;
    }
    if parameters.iter().any(|(key, _)| key.is_empty()) {
        errors.invalid_str(&path, "", "field can not be empty.");
    }
    let bytes: usize =
        parameters.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_PARAMETER_BYTES {
        errors.too_long(&path, MAX_PARAMETER_BYTES);
    }
    if !may_be_empty && parameters.is_empty() {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn check_topologies(terms: &[Value], errors: &mut FieldErrors) {
    let path = FieldPath::new("allowedTopologies");
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let here = path.index(index).child("matchLabelExpressions");
        let mut wanted = BTreeMap::new();
        for (at, expression) in term.items("matchLabelExpressions").iter().enumerate() {
            let (key, values) = (expression.text("key"), expression.texts("values"));
            let valued = here.index(at).child("values");
            if values.is_empty() {
                errors.required(&valued, "");
            }
            for (which, value) in values.iter().enumerate() {
                if values[..which].contains(value) {
                    errors.duplicate(&valued.index(which), &json!(value));
                }
            }
            check::qualified_name(errors, &here.index(at).child("key"), key);
            if wanted.contains_key(key) {
                errors.duplicate(&here.index(at).child("key"), &json!(key));
            }
            wanted.insert(key, values.into_iter().collect::<BTreeSet<_>>());
        }
        for _ in seen.iter().filter(|earlier| **earlier == wanted) {
            errors.duplicate(&here, &json!(""));
        }
        seen.push(wanted);
    }
}
