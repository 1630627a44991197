//! PodTemplates.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::Value;

use crate::cells;
use crate::edit::{Edit, set_generation, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod;
use crate::read::{part, same};

/// Behaviour of PodTemplates.
pub(crate) struct PodTemplate;

impl Behaviour for PodTemplate {
    fn default(&self, object: &mut Value) {
        pod::defaults::template(object.map_mut("template"));
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        let changed = !same(part(new, &["template"]), part(old, &["template"]));
        step_generation(new, old, changed);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let template = part(object, &["template"]);
        pod::spec::check_template(template, &FieldPath::new("template"), errors);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some_and(|old| old.generation() == object.generation()) {
            return Vec::new();
        }
        pod::warnings::of(part(object, &["template"]), &FieldPath::new("template"))
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        let [names, images] = cells::containers(part(object, &["template", "spec"]));
        let labels = cells::labels(object.map_at(&["template", "metadata", "labels"]));
        vec![cells::name(object), names, images, labels]
    }
}
