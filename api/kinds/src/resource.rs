//! Dynamic resource allocation: DeviceClasses, ResourceClaims and their templates, ResourceSlices.
//!
//! Source of behaviour: kubernetes `pkg/apis/resource` and `pkg/registry/resource`, v1.36. Whether
//! CEL selectors compile is the API server's to say.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, restore, set_generation, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part, same};

const SELECTORS_MAX: usize = 32;
const REQUESTS_MAX: usize = 32;
const SUBREQUESTS_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;
const ALLOCATION_MODES: [&str; 2] = ["All", "ExactCount"];

/// Behaviour of DeviceClasses.
pub(crate) struct DeviceClass;

impl Behaviour for DeviceClass {
    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        let changed = !same(&new["spec"], &old["spec"]);
        step_generation(new, old, changed);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_selectors(part(object, &["spec"]), &FieldPath::new("spec"), errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::name_and_age(object, now)
    }
}

fn check_selectors(owner: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("selectors");
    let selectors = owner.items("selectors");
    if selectors.len() > SELECTORS_MAX {
        errors.too_many(&path, selectors.len(), SELECTORS_MAX);
    }
    for (index, selector) in selectors.iter().enumerate() {
        let here = path.index(index).child("cel");
        match selector.field("cel") {
            None => errors.required(&here, ""),
            Some(cel) => {
                check::required(errors, cel, &here, "expression");
            }
        }
    }
}

/// Behaviour of ResourceClaims.
pub(crate) struct ResourceClaim;

impl Behaviour for ResourceClaim {
    fn default(&self, object: &mut Value) {
        default_claim(object.map_mut("spec"));
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        let kept = if context.subresource == "status" { "spec" } else { "status" };
        restore(new, old, &[kept]);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_claim(part(object, &["spec"]), &FieldPath::new("spec"), errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            return check_status(new, errors);
        }
        let path = FieldPath::new("spec");
        check::immutable(errors, &path, new.field("spec"), old.field("spec"));
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let status = part(object, &["status"]);
        let mut states = Vec::new();
        if !object.deletion_timestamp().is_empty() {
            states.push("deleted");
        }
        match status.field("allocation") {
            None => states.extend(states.is_empty().then_some("pending")),
            Some(_) => states.push("allocated"),
        }
        if !status.items("reservedFor").is_empty() {
            states.push("reserved");
        }
        vec![cells::name(object), json!(states.join(",")), cells::age(object, now)]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["metadata", "spec"] } else { &["status"] }
    }
}

/// Behaviour of ResourceClaimTemplates.
pub(crate) struct ResourceClaimTemplate;

impl Behaviour for ResourceClaimTemplate {
    fn default(&self, object: &mut Value) {
        default_claim(object.map_mut("spec").map_mut("spec"));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec").child("spec");
        check_claim(part(object, &["spec", "spec"]), &path, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let path = FieldPath::new("spec");
        check::immutable(errors, &path, new.field("spec"), old.field("spec"));
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::name_and_age(object, now)
    }
}

fn default_claim(spec: &mut Value) {
    let Some(devices) = spec.field_mut("devices") else { return };
    for request in devices.items_mut("requests") {
        if let Some(exactly) = request.field_mut("exactly") {
            default_request(exactly);
        }
        for alternative in request.items_mut("firstAvailable") {
            default_request(alternative);
        }
    }
}

fn default_request(request: &mut Value) {
    request.default_zero("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.default_zero("count", 1);
    }
}

fn check_claim(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let devices = part(spec, &["devices"]);
    let path = path.child("devices");
    let requests = devices.items("requests");
    let here = path.child("requests");
    if requests.len() > REQUESTS_MAX {
        errors.too_many(&here, requests.len(), REQUESTS_MAX);
    }
    let mut names: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let name = request.text("name");
        check_request(request, &here.index(index), errors);
        if seen.contains(&name) {
            errors.duplicate(&here.index(index), &json!(name));
        }
        seen.push(name);
        names.push(name.to_owned());
        let below = request.items("firstAvailable").iter();
        names.extend(below.map(|alternative| format!("{name}/{}", alternative.text("name"))));
    }
    let constraints = devices.items("constraints");
    if constraints.len() > CONSTRAINTS_MAX {
        errors.too_many(&path.child("constraints"), constraints.len(), CONSTRAINTS_MAX);
    }
    for (index, constraint) in constraints.iter().enumerate() {
        let here = path.child("constraints").index(index);
        check_requests(constraint, &names, &here, errors);
        match ["matchAttribute", "distinctAttribute"]
            .into_iter()
            .find(|key| constraint.field(key).is_some())
        {
            Some(key) => check_attribute(constraint.text(key), &here.child(key), errors),
            None => {
                let detail = "exactly one of matchAttribute or distinctAttribute is required";
                errors.required(&here, detail);
            }
        }
    }
    for (index, config) in devices.items("config").iter().enumerate() {
        let here = path.child("config").index(index);
        check_requests(config, &names, &here, errors);
        match config.field("opaque") {
            None => errors.required(&here.child("opaque"), ""),
            Some(opaque) => check_driver(opaque, &here.child("opaque"), errors),
        }
    }
}

fn check_requests(owner: &Value, names: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("requests");
    let given = owner.texts("requests");
    for (index, name) in given.iter().enumerate() {
        if !names.iter().any(|known| known == name) {
            let detail = "must be the name of a request in the claim or the name of a request and \
                          a subrequest separated by '/'";
            errors.invalid_str(&here.index(index), name, detail);
        }
        if given[..index].contains(name) {
            errors.duplicate(&here.index(index), &json!(name));
        }
    }
}

/// A name with its domain.
fn check_attribute(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    match name.split_once('/') {
        None => {
            let detail = "a fully qualified name must be a domain and a name separated by a slash";
            errors.invalid_str(path, name, detail);
        }
        Some((domain, id)) => {
            if domain.is_empty() {
                errors.invalid_str(path, domain, "the domain must not be empty");
            } else {
                check::subdomain(errors, path, domain);
            }
            if id.is_empty() {
                errors.invalid_str(path, id, "the name must not be empty");
            }
        }
    }
}

fn check_request(request: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if check::required(errors, request, path, "name") {
        check::label(errors, &path.child("name"), request.text("name"));
    }
    let alternatives = request.items("firstAvailable");
    match (request.field("exactly"), alternatives.is_empty()) {
        (Some(exactly), true) => check_device_request(exactly, &path.child("exactly"), errors),
        (None, false) => {
            let here = path.child("firstAvailable");
            if alternatives.len() > SUBREQUESTS_MAX {
                errors.too_many(&here, alternatives.len(), SUBREQUESTS_MAX);
            }
            let mut seen = Vec::new();
            for (index, alternative) in alternatives.iter().enumerate() {
                let here = here.index(index);
                let name = alternative.text("name");
                if check::required(errors, alternative, &here, "name") {
                    check::label(errors, &here.child("name"), name);
                }
                check_device_request(alternative, &here, errors);
                if seen.contains(&name) {
                    errors.duplicate(&here, &json!(name));
                }
                seen.push(name);
            }
        }
        (None, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.required(path, detail);
        }
        (Some(_), false) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple \
                          fields are set";
            errors.invalid(path, &Value::Null, detail);
        }
    }
}

fn check_device_request(request: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if check::required(errors, request, path, "deviceClassName") {
        check::subdomain(errors, &path.child("deviceClassName"), request.text("deviceClassName"));
    }
    check_selectors(request, path, errors);
    let count = request.int("count").unwrap_or(0);
    let here = path.child("count");
    match request.text("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&here, &json!(count), detail);
        }
        "ExactCount" if count <= 0 => {
            errors.invalid(&here, &json!(count), "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        mode => check::one_of(errors, &path.child("allocationMode"), mode, &ALLOCATION_MODES),
    }
}

fn check_status(claim: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("reservedFor");
    let status = part(claim, &["status"]);
    let reserved = status.items("reservedFor");
    if reserved.len() > 256 {
        errors.too_many(&path, reserved.len(), 256);
    }
    if !reserved.is_empty() && status.field("allocation").is_none() {
        errors.forbidden(&path, "may not be specified when `allocated` is not set");
    }
    for (index, consumer) in reserved.iter().enumerate() {
        for key in ["resource", "name", "uid"] {
            check::required(errors, consumer, &path.index(index), key);
        }
    }
}

fn check_driver(owner: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const MAX: usize = 63;
    let driver = owner.text("driver");
    let here = path.child("driver");
    if driver.is_empty() {
        return errors.required(&here, "");
    }
    if driver.len() > MAX {
        errors.too_long(&here, MAX);
    }
    check::subdomain(errors, &here, driver);
}

/// Behaviour of ResourceSlices.
pub(crate) struct ResourceSlice;

impl Behaviour for ResourceSlice {
    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        let changed = !same(&new["spec"], &old["spec"]);
        step_generation(new, old, changed);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        let spec = part(object, &["spec"]);
        check_driver(spec, &path, errors);
        check_pool(part(spec, &["pool"]), &path.child("pool"), errors);
        check_place(spec, &path, errors);
        let devices = spec.items("devices");
        let here = path.child("devices");
        if devices.len() > DEVICES_MAX {
            errors.too_many(&here, devices.len(), DEVICES_MAX);
        }
        let mut seen = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let here = here.index(index);
            let name = device.text("name");
            if check::required(errors, device, &here, "name") {
                check::label(errors, &here.child("name"), name);
            }
            check_attributes(device, &here, errors);
            if seen.contains(&name) {
                errors.duplicate(&here, &json!(name));
            }
            seen.push(name);
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
        let path = FieldPath::new("spec");
        let (spec, was) = (part(new, &["spec"]), part(old, &["spec"]));
        let pool = path.child("pool").child("name");
        let name = |spec: &Value| part(spec, &["pool"]).field("name").cloned();
        check::immutable(errors, &pool, name(spec).as_ref(), name(was).as_ref());
        check::immutable_fields(errors, &path, (spec, was), &["driver", "nodeName"]);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let spec = part(object, &["spec"]);
        vec![
            ("spec.driver", spec.text("driver").to_owned()),
            ("spec.nodeName", spec.text("nodeName").to_owned()),
        ]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        vec![
            cells::name(object),
            json!(spec.text("nodeName")),
            json!(spec.text("driver")),
            json!(part(spec, &["pool"]).text("name")),
            cells::age(object, now),
        ]
    }
}

fn check_pool(pool: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let name = pool.text("name");
    let here = path.child("name");
    if name.is_empty() {
        errors.required(&here, "");
    } else {
        for segment in name.split('/') {
            check::subdomain(errors, &here, segment);
        }
    }
    let count = pool.int("resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let here = path.child("resourceSliceCount");
        errors.invalid(&here, &json!(count), "must be greater than zero");
    }
    if let Some(generation) = pool.int("generation").filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), &json!(generation), detail);
    }
}

/// Where the devices can be used.
fn check_place(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let given = [
        spec.field("nodeName").is_some(),
        spec.field("nodeSelector").is_some(),
        spec.flag("allNodes"),
        spec.flag("perDeviceNodeSelection"),
    ];
    let one_of = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` \
                  is required";
    match given.into_iter().filter(|given| *given).count() {
        0 => errors.required(path, one_of),
        1 => {
            if spec.field("nodeName").is_some() {
                check::subdomain(errors, &path.child("nodeName"), spec.text("nodeName"));
            }
        }
        _ => errors.invalid(path, &Value::Null, &format!("{one_of}, but multiple fields are set")),
    }
}

fn check_attributes(device: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const KINDS: [&str; 4] = ["bool", "int", "string", "version"];
    const MAX: usize = 32;
    let count = device.entries("attributes").len() + device.entries("capacity").len();
    if count > MAX {
        errors.too_many(path, count, MAX);
    }
    for (name, value) in device.entries("attributes") {
        let here = path.child("attributes").key(name);
        match KINDS.iter().filter(|kind| value.field(kind).is_some()).count() {
            0 => errors.required(&here, "exactly one value must be specified"),
            1 => {}
            _ => errors.invalid(&here, value, "exactly one value must be specified"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(behaviour: &dyn Behaviour, mut object: Value) -> Vec<String> {
        behaviour.default(&mut object);
        let mut errors = FieldErrors::default();
        behaviour.validate(&object, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn claims_are_completed_and_checked() {
        let mut claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "c"}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]},
        ], "constraints": [{"requests": ["a", "b/x"], "matchAttribute": "example.com/numa"}]}}});
        assert_eq!(faults(&ResourceClaim, claim.clone()), [""; 0]);
        ResourceClaim.default(&mut claim);
        let requests = &claim["spec"]["devices"]["requests"];
        assert_eq!(requests[0]["exactly"]["count"], 1);
        assert_eq!(requests[1]["firstAvailable"][0]["allocationMode"], "ExactCount");
        claim["spec"]["devices"]["requests"][0]["exactly"]["allocationMode"] = "All".into();
        let found = faults(&ResourceClaim, claim);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("must not be specified when allocationMode is 'All'"));
    }

    #[test]
    fn slices_need_one_place() {
        let slice = |more: Value| {
            let mut slice = json!({"spec": {"driver": "d.example.com",
                "pool": {"name": "p", "resourceSliceCount": 1}}});
            for (key, value) in more.as_object().unwrap() {
                slice["spec"][key] = value.clone();
            }
            faults(&ResourceSlice, slice)
        };
        assert_eq!(slice(json!({"allNodes": true})), [""; 0]);
        assert_eq!(slice(json!({"allNodes": true, "nodeName": "n"})).len(), 1);
        assert_eq!(slice(json!({})).len(), 1);
    }
}
