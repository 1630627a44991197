//! IPAddresses and ServiceCIDRs: which addresses Services may have, and which are taken.

use objects::k8s::jiff::Timestamp;
use objects::names::NameCheck;
use objects::{FieldErrors, FieldPath, GroupResource};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, restore, restore_meta_for_status};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part, same};

/// Behaviour of IPAddresses.
pub(crate) struct IPAddress;

impl Behaviour for IPAddress {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec").child("parentRef");
        let Some(parent) = part(object, &["spec"]).field("parentRef") else {
            errors.required(&path, "");
            return;
        };
        let group = parent.text("group");
        if !group.is_empty() {
            check::subdomain(errors, &path.child("group"), group);
        }
        check::required_segment(errors, parent, &path, "resource");
        check::required_segment(errors, parent, &path, "name");
        let namespace = parent.text("namespace");
        if !namespace.is_empty() {
            check::path_segment(errors, &path.child("namespace"), namespace);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let (parent, before) =
            (part(new, &["spec", "parentRef"]), part(old, &["spec", "parentRef"]));
        if same(parent, before) {
            return;
        }
        let text = |key: &str| json!(parent.text(key));
        let printed = format!(
            "{{\"Group\":{},\"Resource\":{},\"Namespace\":{},\"Name\":{}}}",
            text("group"),
            text("resource"),
            text("namespace"),
            text("name")
        );
        let path = FieldPath::new("spec").child("parentRef");
        errors.invalid_printed(&path, printed, "field is immutable");
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let parent = part(object, &["spec", "parentRef"]);
        let shown = if parent.is_null() {
            cells::NONE.to_string()
        } else {
            let resource = GroupResource::new(parent.text("group"), parent.text("resource"));
            let mut parts = vec![resource.to_string().to_lowercase()];
            parts
                .extend(Some(parent.text("namespace")).filter(|n| !n.is_empty()).map(String::from));
            parts.push(parent.text("name").to_string());
            parts.join("/")
        };
        vec![cells::name(object), json!(shown), cells::age(object, now)]
    }

    fn name_check(&self) -> NameCheck {
        |name, _prefix| {
            let mut errors = FieldErrors::default();
            check::canonical_ip(&mut errors, &FieldPath::root(), name);
            errors.0.into_iter().map(|error| error.detail).collect()
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let parent = part(object, &["spec", "parentRef"]);
        [
            ("spec.parentRef.group", "group"),
            ("spec.parentRef.resource", "resource"),
            ("spec.parentRef.namespace", "namespace"),
            ("spec.parentRef.name", "name"),
        ]
        .map(|(field, key)| (field, parent.text(key).to_string()))
        .into()
    }
}

/// Behaviour of ServiceCIDRs.
pub(crate) struct ServiceCIDR;

impl Behaviour for ServiceCIDR {
    fn default(&self, object: &mut Value) {
        object.map_mut("spec");
        object.map_mut("status");
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
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
        let path = FieldPath::new("spec").child("cidrs");
        let networks = part(object, &["spec"]).texts("cidrs");
        if networks.is_empty() {
            errors.required(&path, "at least one CIDR required");
            return;
        }
        if networks.len() > 2 {
            let printed = format!("{{\"CIDRs\":{}}}", json!(networks));
            errors.invalid_printed(&path, printed, "may only hold up to 2 values");
            return;
        }
        for (index, network) in networks.iter().enumerate() {
            check::cidr(errors, &path.index(index), network, true);
        }
        if let [first, second] = networks[..] {
            let families = [first, second]
                .map(|text| check::sloppy_network(text).map(|net| net.addr().is_ipv4()));
            if families[0].is_some() && families[0] == families[1] {
                let detail = "may specify no more than one IP for each IP family, i.e \
                              192.168.0.0/24 and 2001:db8::/64";
                errors.invalid(&path, &json!(networks), detail);
            }
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            return;
        }
        let path = FieldPath::new("spec").child("cidrs");
        let [after, before] = [new, old].map(|object| part(object, &["spec"]).texts("cidrs"));
        let grown = before.len() == 1 && after.len() == 2;
        if !grown && before.len() != after.len() {
            errors.invalid(&path, &json!(after), "field is immutable");
            return;
        }
        for (index, (after, before)) in after.iter().zip(&before).enumerate() {
            if after != before {
                errors.invalid_str(&path.index(index), after, "field is immutable");
            }
        }
        if grown {
            self.validate(new, errors);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let networks = part(object, &["spec"]).texts("cidrs").join(",");
        vec![cells::name(object), json!(networks), cells::age(object, now)]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["metadata", "spec"] } else { &["status"] }
    }
}
