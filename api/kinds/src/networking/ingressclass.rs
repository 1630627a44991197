//! IngressClasses.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, set_generation, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle::spec_changed;
use crate::read::{Read, part};

const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// Longest name of a controller, in bytes.
const MAX_CONTROLLER_BYTES: usize = 250;

/// Behaviour of IngressClasses.
pub(crate) struct IngressClass;

impl Behaviour for IngressClass {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        if let Some(parameters) = spec.field_mut("parameters") {
            parameters.default_to("scope", "Cluster");
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        step_generation(new, old, spec_changed(new, old));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        let controller = spec.text("controller");
        if controller.len() > MAX_CONTROLLER_BYTES {
            errors.too_long(&path.child("controller"), MAX_CONTROLLER_BYTES);
        }
        check::domain_prefixed_path(errors, &path.child("controller"), controller);
        if let Some(parameters) = spec.field("parameters") {
            check_parameters(parameters, &path.child("parameters"), errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let specs = (part(new, &["spec"]), part(old, &["spec"]));
        check::immutable_fields(errors, &FieldPath::new("spec"), specs, &["controller"]);
        self.validate(new, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let parameters = match spec.field("parameters") {
            None => cells::NONE.to_string(),
            Some(parameters) => {
                let group = parameters.text_opt("apiGroup");
                let group = group.map(|group| format!(".{group}")).unwrap_or_default();
                format!("{}{group}/{}", parameters.text("kind"), parameters.text("name"))
            }
        };
        vec![
            cells::name_with_default(object, &[DEFAULT_ANNOTATION]),
            json!(spec.text("controller")),
            json!(parameters),
            cells::age(object, now),
        ]
    }
}

/// A reference to an object by group, kind and name.
pub(super) fn check_reference(reference: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(group) = reference.text_opt("apiGroup") {
        check::subdomain(errors, &path.child("apiGroup"), group);
    }
    check::required_segment(errors, reference, path, "kind");
    check::required_segment(errors, reference, path, "name");
}

fn check_parameters(parameters: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_reference(parameters, path, errors);
    let (scope, here) = (parameters.text("scope"), path.child("namespace"));
    check::one_of(errors, &path.child("scope"), scope, &["Cluster", "Namespace"]);
    match (scope, parameters.text_opt("namespace")) {
        ("Namespace", None) => {
            errors.required(&here, "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", Some(namespace)) => check::label(errors, &here, namespace),
        ("Cluster", Some(_)) => {
            errors.forbidden(&here, "`parameters.scope` is set to 'Cluster'");
        }
        _ => {}
    }
}
