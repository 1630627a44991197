//! VolumeAttachments.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::core::check_volume_spec;
use crate::edit::{Edit, restore, restore_meta_for_status};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod::check_csi_driver_name;
use crate::read::{Read, part, same};

const MAX_METADATA_BYTES: usize = 256 << 10;
const MAX_MESSAGE_BYTES: usize = 1024;

/// Behaviour of VolumeAttachments.
pub(crate) struct VolumeAttachment;

impl Behaviour for VolumeAttachment {
    fn default(&self, object: &mut Value) {
        object.map_mut("spec").map_mut("source");
        object.map_mut("status").default_to("attached", false);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"attached": false});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            restore(new, old, &["spec"]);
            restore_meta_for_status(new, old);
        } else {
            restore(new, old, &["status"]);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        check_csi_driver_name(spec.text("attacher"), &path.child("attacher"), errors);
        let source = part(spec, &["source"]);
        check_source(source, &path.child("source"), errors);
        check::subdomain(errors, &path.child("nodeName"), spec.text("nodeName"));
        check_status(part(object, &["status"]), errors);
        if let Some(volume) = source.text_opt("persistentVolumeName") {
            let path = path.child("source").child("persistentVolumeName");
            check::subdomain(errors, &path, volume);
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
        let spec = part(new, &["spec"]);
        if !same(spec, part(old, &["spec"])) {
            errors.invalid_printed(&FieldPath::new("spec"), printed(spec), "field is immutable");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        vec![
            cells::name(object),
            json!(spec.text("attacher")),
            json!(part(spec, &["source"]).text("persistentVolumeName")),
            json!(spec.text("nodeName")),
            json!(part(object, &["status"]).flag("attached")),
            cells::age(object, now),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["metadata", "spec"] } else { &["status"] }
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn check_source(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.field("inlineVolumeSpec"), source.text_opt("persistentVolumeName")) {
        (None, None) => errors.required(path, detail),
        (Some(_), Some(_)) => errors.forbidden(path, detail),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&path.child("persistentVolumeName"), detail);
        }
        (None, Some(_)) => {}
        (Some(spec), None) => {
            check_volume_spec(spec, "", true, &path.child("inlineVolumeSpec"), errors);
        }
    }
}

fn check_status(status: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status");
    let metadata = status.entries("attachmentMetadata");
    let bytes: usize =
        metadata.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_METADATA_BYTES {
        errors.too_long(&path.child("attachmentMetadata"), MAX_METADATA_BYTES);
    }
    for key in ["attachError", "detachError"] {
        let (error, here) = (part(status, &[key]), path.child(key));
        if error.text("message").len() > MAX_MESSAGE_BYTES {
            errors.too_long(&here.child("message"), MAX_METADATA_BYTES);
        }
        if let Some(code) = error.int("errorCode").filter(|code| *code < 0) {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.invalid(&here.child("errorCode"), &json!(code), &detail);
        }
    }
}

/// A spec as a real API server prints it.
fn printed(spec: &Value) -> String {
    let source = part(spec, &["source"]);
    format!(
        "{{\"Attacher\":{},\"Source\":{{\"PersistentVolumeName\":{},\"InlineVolumeSpec\":{}}},\
         \"NodeName\":{}}}",
        json!(spec.text("attacher")),
        part(source, &["persistentVolumeName"]),
        part(source, &["inlineVolumeSpec"]),
        json!(spec.text("nodeName"))
    )
}
