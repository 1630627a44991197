//! RuntimeClasses.
//!
//! Source of behaviour: kubernetes `pkg/apis/node` and `pkg/registry/node/runtimeclass`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, default_resources};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod;
use crate::read::{Read, part};

/// Behaviour of RuntimeClasses.
pub(crate) struct RuntimeClass;

impl Behaviour for RuntimeClass {
    fn default(&self, object: &mut Value) {
        default_resources(object.at_mut(&["overhead", "podFixed"]));
        object.default_to("handler", "");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        if check::required(errors, object, &FieldPath::root(), "handler") {
            check::label(errors, &FieldPath::new("handler"), object.text("handler"));
        }
        if let Some(overhead) = object.field("overhead") {
            let path = FieldPath::new("overhead");
            pod::resources::check_overhead(part(overhead, &["podFixed"]), &path, errors);
        }
        if let Some(scheduling) = object.field("scheduling") {
            check_scheduling(scheduling, errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        self.validate(new, errors);
        let path = FieldPath::new("handler");
        check::immutable(errors, &path, new.field("handler"), old.field("handler"));
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let selector = part(object, &["scheduling", "nodeSelector"]);
        let keys = selector.as_object().into_iter().flatten().map(|(key, _)| key);
        keys.filter_map(|key| pod::warnings::old_label(key))
            .map(|text| format!("scheduling.nodeSelector: {text}"))
            .collect()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![cells::name(object), json!(object.text("handler")), cells::age(object, now)]
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn check_scheduling(scheduling: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("scheduling");
    check::labels(errors, &path.child("nodeSelector"), scheduling, "nodeSelector");
    let (list, path) = (scheduling.items("tolerations"), path.child("tolerations"));
    pod::affinity::check_tolerations(list, &path, errors);
    let key =
        |item: &Value| ["key", "operator", "value", "effect"].map(|k| item.text(k).to_string());
    for (index, toleration) in list.iter().enumerate() {
        if list[..index].iter().any(|earlier| key(earlier) == key(toleration)) {
            errors.duplicate(&path.index(index), toleration);
        }
    }
}
