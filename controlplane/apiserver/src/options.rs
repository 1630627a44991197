//! Options of writes, read from the query (and, for deletes, from the body).

use objects::{ApiError, FieldErrors, FieldPath, GroupKind};
use serde_json::{Value, json};

use crate::query::Query;

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them with a warning; the default.
    Warn,
    /// Refuse the request.
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// Everything but the commit is done.
    pub dry_run: bool,
    /// `fieldManager`, empty for the default taken from the user agent.
    pub field_manager: String,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `force` of server-side apply.
    pub force: bool,
}

/// The longest field manager, in bytes.
const FIELD_MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// Reads and validates the options; `kind` is `CreateOptions`, `UpdateOptions` or
    /// `PatchOptions`. `apply` says whether the patch is server-side apply.
    pub(crate) fn parse(query: &Query, kind: &str, apply: bool) -> Result<Self, ApiError> {
        let mut errors = FieldErrors::default();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_manager = query.text("fieldManager").to_string();
        let force = query.get("force").map(|_| query.flag("force"));
        if kind == "PatchOptions" {
            let path = FieldPath::new("force");
            if force.is_some() && !apply {
                errors.forbidden(&path, "may not be specified for non-apply patch");
            }
            if apply && field_manager.is_empty() {
                errors.required(&FieldPath::new("fieldManager"), "is required for apply patch");
            }
        }
        validate_manager(&field_manager, &mut errors);
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = FieldPath::new("fieldValidation");
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.not_supported(&path, &json!(other), &supported);
                FieldValidation::Warn
            }
        };
        refuse(kind, &errors)?;
        let force = force.unwrap_or(false);
        Ok(Self { dry_run, field_manager, field_validation, force })
    }
}

fn refuse(kind: &str, errors: &FieldErrors) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupKind { group: "meta.k8s.io".into(), kind: kind.into() };
    Err(ApiError::invalid(&kind, "", errors))
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut FieldErrors) -> bool {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let path = FieldPath::new("dryRun");
        errors.not_supported(&path, &json!(values), &["All"]);
    }
    !values.is_empty()
}

fn validate_manager(manager: &str, errors: &mut FieldErrors) {
    let path = FieldPath::new("fieldManager");
    if manager.len() > FIELD_MANAGER_MAX {
        errors.too_long(&path, FIELD_MANAGER_MAX);
    }
    // Source: apimachinery `ValidateFieldManager`: every character must be printable.
    if let Some((at, c)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
        let shown = format!("\"{}\"", manager.chars().map(go_escaped).collect::<String>());
        errors.0.push(objects::FieldError {
            kind: objects::field::FieldErrorKind::Invalid,
            path,
            value: shown,
            detail: format!("invalid character U+{:04X} (at position {at})", u32::from(c)),
        });
    }
}

fn go_escaped(c: char) -> String {
    match c {
        '\n' => "\\n".into(),
        '\t' => "\\t".into(),
        '\r' => "\\r".into(),
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.into(),
    }
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner reference.
    Orphan,
    /// They go after the object.
    Background,
    /// They go before the object.
    Foreground,
}

/// Options of a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Everything but the commit is done.
    pub dry_run: bool,
    /// The wanted grace period.
    pub grace_secs: Option<i64>,
    /// The wanted propagation.
    pub propagation: Option<Propagation>,
    /// The object's uid must be this one.
    pub uid: Option<String>,
    /// The object's resource version must be this one.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the query, for a delete without a body.
    pub fn from_query(query: &Query) -> Result<Self, ApiError> {
        let mut object = json!({});
        if let Some(secs) = query.get("gracePeriodSeconds") {
            let secs: i64 = secs.parse().map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {secs:?}: invalid syntax"))
            })?;
            object["gracePeriodSeconds"] = json!(secs);
        }
        if query.get("orphanDependents").is_some() {
            object["orphanDependents"] = json!(query.flag("orphanDependents"));
        }
        if let Some(policy) = query.get("propagationPolicy") {
            object["propagationPolicy"] = json!(policy);
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        if !dry_run.is_empty() {
            object["dryRun"] = json!(dry_run);
        }
        Self::from_object(&object)
    }

    /// The `DeleteOptions` object, without its type.
    pub fn to_object(&self) -> Value {
        let mut object = json!({});
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        if let Some(secs) = self.grace_secs {
            object["gracePeriodSeconds"] = json!(secs);
        }
        if let Some(propagation) = self.propagation {
            object["propagationPolicy"] = json!(match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            });
        }
        for (field, text) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(text) = text {
                object["preconditions"][field] = json!(text);
            }
        }
        object
    }

    /// Reads a `DeleteOptions` object.
    pub fn from_object(object: &Value) -> Result<Self, ApiError> {
        use objects::ObjectExt;
        let mut errors = FieldErrors::default();
        let values = object.list_at(&["dryRun"]).iter().filter_map(Value::as_str);
        let dry_run = dry_run(values, &mut errors);
        let policy = object.at(&["propagationPolicy"]).and_then(Value::as_str);
        let orphan = object.bool_at(&["orphanDependents"]);
        let path = FieldPath::new("propagationPolicy");
        if policy.is_some() && orphan.is_some() {
            errors.invalid(
                &path,
                &json!(policy),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let propagation = match policy {
            None => orphan.map(|orphan| match orphan {
                true => Propagation::Orphan,
                false => Propagation::Background,
            }),
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.not_supported(&path, &json!(other), &supported);
                None
            }
        };
        refuse("DeleteOptions", &errors)?;
        let text = |path: &[&str]| object.at(path).and_then(Value::as_str).map(str::to_string);
        Ok(Self {
            dry_run,
            grace_secs: object.i64_at(&["gracePeriodSeconds"]),
            propagation,
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
        })
    }
}
