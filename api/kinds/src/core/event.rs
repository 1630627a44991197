//! Events, in both of their API groups. They are stored in the form of core/v1.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation/events.go` and
//! `pkg/apis/events/v1`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

/// Longest of the short texts, and of the message, in bytes.
const SHORT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;
/// Fields by their names in events.k8s.io/v1 and in core/v1.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];
/// What an update through events.k8s.io/v1 may not change, by the names in core/v1.
const IMMUTABLE: [&str; 9] = [
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
];

/// Behaviour of Events; `true` for those of events.k8s.io.
pub(crate) struct Event(pub(crate) bool);

/// Turns an event of events.k8s.io/v1 into one of core/v1.
pub(crate) fn to_core(object: &mut Value) {
    rename(object, RENAMED.iter().map(|(new, old)| (*new, *old)));
    object.set_at(&["apiVersion"], json!("v1"));
    default_core(object);
}

/// Turns an event of core/v1 into one of events.k8s.io/v1.
pub(crate) fn to_events(object: &mut Value) {
    rename(object, RENAMED.iter().map(|(new, old)| (*old, *new)));
    object.set_at(&["apiVersion"], json!("events.k8s.io/v1"));
    for key in ["reportingController", "reportingInstance"] {
        if object.text(key).is_empty() {
            object.drop_field(key);
        }
    }
    default_events(object);
}

fn rename<'a>(object: &mut Value, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_string(), value);
        }
    }
}

fn default_core(object: &mut Value) {
    object.map_mut("involvedObject");
    object.map_mut("source");
    object.default_to("reportingComponent", "");
    object.default_to("reportingInstance", "");
    for key in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        object.default_to(key, Value::Null);
    }
}

fn default_events(object: &mut Value) {
    object.map_mut("regarding");
    object.map_mut("deprecatedSource");
    for key in ["eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        object.default_to(key, Value::Null);
    }
}

impl Event {
    /// The event in the form of core/v1, which all rules are written for.
    fn core(&self, object: &Value) -> Value {
        let mut core = object.clone();
        if self.0 {
            to_core(&mut core);
        }
        core
    }
}

impl Behaviour for Event {
    fn default(&self, object: &mut Value) {
        if self.0 { default_events(object) } else { default_core(object) }
    }

    /// Events of the core group were never checked for the form of their names.
    fn name_check(&self) -> objects::names::NameCheck {
        match self.0 {
            true => objects::names::name_is_dns_subdomain,
            false => objects::names::name_is_path_segment,
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let event = self.core(object);
        check_event(&event, self.0, errors);
        if self.0 {
            check_new(&event, errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let (new, old) = (self.core(new), self.core(old));
        check_event(&new, self.0, errors);
        if !self.0 {
            return;
        }
        if new.field("series") != old.field("series") {
            check_series(&new, errors);
        }
        let root = FieldPath::root();
        check::immutable_fields(errors, &root, (&new, &old), &["involvedObject"]);
        check::immutable_fields(errors, &root, (&new, &old), &IMMUTABLE);
        check::immutable_fields(errors, &root, (&new, &old), &["action", "related"]);
        let path = FieldPath::new("reportingController");
        let (now, was) = (new.field("reportingComponent"), old.field("reportingComponent"));
        check::immutable(errors, &path, now, was);
        check::immutable_fields(errors, &root, (&new, &old), &["reportingInstance"]);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let event = self.core(object);
        let about = part(&event, &["involvedObject"]);
        let reporter = event.text("reportingComponent");
        let component = event.str_at(&["source", "component"]);
        let source = if component.is_empty() { reporter } else { component };
        if self.0 {
            let of = |(field, key): (&'static str, &str)| (field, about.text(key).to_string());
            let mut out: Vec<(&'static str, String)> = [
                ("regarding.kind", "kind"),
                ("regarding.namespace", "namespace"),
                ("regarding.name", "name"),
                ("regarding.uid", "uid"),
                ("regarding.apiVersion", "apiVersion"),
                ("regarding.resourceVersion", "resourceVersion"),
                ("regarding.fieldPath", "fieldPath"),
            ]
            .map(of)
            .into();
            out.push(("reason", event.text("reason").to_string()));
            out.push(("reportingController", reporter.to_string()));
            out.push(("type", event.text("type").to_string()));
            return out;
        }
        let mut out: Vec<(&'static str, String)> = [
            ("involvedObject.kind", "kind"),
            ("involvedObject.namespace", "namespace"),
            ("involvedObject.name", "name"),
            ("involvedObject.uid", "uid"),
            ("involvedObject.apiVersion", "apiVersion"),
            ("involvedObject.resourceVersion", "resourceVersion"),
            ("involvedObject.fieldPath", "fieldPath"),
        ]
        .map(|(field, key)| (field, about.text(key).to_string()))
        .into();
        out.push(("reason", event.text("reason").to_string()));
        out.push(("reportingComponent", reporter.to_string()));
        out.push(("source", source.to_string()));
        out.push(("type", event.text("type").to_string()));
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells_of(&self.core(object), now)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

fn check_event(event: &Value, is_new_api: bool, errors: &mut FieldErrors) {
    let own = event.namespace();
    let about = event.str_at(&["involvedObject", "namespace"]);
    let path = FieldPath::new("involvedObject").child("namespace");
    let mismatch = "does not match event.namespace";
    if event.text("eventTime").is_empty() {
        let fits = if about.is_empty() { matches!(own, "" | "default") } else { own == about };
        if !fits {
            errors.invalid_str(&path, about, mismatch);
        }
    } else {
        if about.is_empty() && !matches!(own, "default" | "kube-system") {
            errors.invalid_str(&path, about, mismatch);
        }
        check_reporter(event, is_new_api, errors);
    }
    check::subdomain(errors, &FieldPath::new("namespace"), own);
}

fn check_reporter(event: &Value, is_new_api: bool, errors: &mut FieldErrors) {
    let name = if is_new_api { "reportingController" } else { "reportingComponent" };
    let reporter = event.text("reportingComponent");
    let path = FieldPath::new(name);
    if reporter.is_empty() {
        errors.required(&path, "");
    }
    check::qualified_name(errors, &path, reporter);
    for key in ["reportingInstance", "action", "reason"] {
        let path = FieldPath::new(key);
        let text = event.text(key);
        if text.is_empty() {
            errors.required(&path, "");
        }
        if text.len() > SHORT_MAX {
            errors.invalid_str(&path, "", &format!("can have at most {SHORT_MAX} characters"));
        }
    }
    if event.text("message").len() > NOTE_MAX {
        let path = FieldPath::new("message");
        errors.invalid_str(&path, "", &format!("can have at most {NOTE_MAX} characters"));
    }
}

/// Checks what only events.k8s.io/v1 asks of new events.
fn check_new(event: &Value, errors: &mut FieldErrors) {
    check_series(event, errors);
    if event.text("eventTime").is_empty() {
        errors.required(&FieldPath::new("eventTime"), "");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.invalid_str(&FieldPath::new("type"), "", &detail);
    }
    for key in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let set = match key {
            "source" => ["component", "host"].iter().any(|k| part(event, &[key]).is_set(k)),
            key => event.is_set(key),
        };
        if set {
            errors.invalid_str(&FieldPath::new(key), "", "needs to be unset");
        }
    }
}

fn check_series(event: &Value, errors: &mut FieldErrors) {
    let Some(series) = event.field("series") else { return };
    if series.int("count").unwrap_or(0) < 2 {
        errors.invalid_str(&FieldPath::new("series.count"), "", "should be at least 2");
    }
    if series.text("lastObservedTime").is_empty() {
        errors.required(&FieldPath::new("series.lastObservedTime"), "");
    }
}

fn first<'a>(texts: &[&'a str]) -> &'a str {
    texts.iter().copied().find(|text| !text.is_empty()).unwrap_or("")
}

fn cells_of(event: &Value, now: Timestamp) -> Vec<Cell> {
    let first_seen = first(&[event.text("firstTimestamp"), event.text("eventTime")]);
    let series = event.field("series");
    let last_seen = match series {
        Some(series) => series.text("lastObservedTime"),
        None => first(&[event.text("lastTimestamp"), first_seen]),
    };
    let count = match series {
        Some(series) => series.int("count").unwrap_or(0),
        None => event.int("count").unwrap_or(0).max(1),
    };
    let about = part(event, &["involvedObject"]);
    let kind = about.text("kind").to_lowercase();
    let target = match about.text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = part(event, &["source"]);
    let component = first(&[source.text("component"), event.text("reportingComponent")]);
    let host = first(&[source.text("host"), event.text("reportingInstance")]);
    let reporter =
        if host.is_empty() { component.to_string() } else { format!("{component}, {host}") };
    vec![
        json!(cells::since(last_seen, now)),
        json!(event.text("type")),
        json!(event.text("reason")),
        json!(target),
        json!(about.text("fieldPath")),
        json!(reporter),
        json!(event.text("message").trim()),
        json!(cells::since(first_seen, now)),
        json!(count),
        cells::name(event),
    ]
}
