//! The spec but for its schemas.

use base64::Engine as _;
use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use super::{check_names, schema};
use crate::read::{Read, part};

/// The spec as upstream checks it: schemas, subresources, columns and selectable fields that are
/// alike in all versions stand at the top.
pub(crate) struct Internal<'a> {
    pub(super) spec: &'a Value,
    pub(super) versions: &'a [Value],
    hoisted: [bool; 4],
}

const PARTS: [&str; 4] = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"];

impl<'a> Internal<'a> {
    pub(crate) fn of(spec: &'a Value) -> Self {
        let versions = spec.items("versions");
        let first = versions.first();
        let alike = |name: &str| {
            versions.iter().all(|version| version.field(name) == first.and_then(|v| v.field(name)))
        };
        Self { spec, versions, hoisted: PARTS.map(|name| !versions.is_empty() && alike(name)) }
    }

    fn is_hoisted(&self, name: &str) -> bool {
        PARTS.iter().position(|part| *part == name).is_some_and(|at| self.hoisted[at])
    }

    /// A part of a version (`None`: of all) with its path, if it stands there.
    fn part(&self, version: Option<usize>, name: &str) -> Option<&'a Value> {
        match version {
            None if self.is_hoisted(name) => self.versions.first()?.field(name),
            Some(index) if !self.is_hoisted(name) => self.versions.get(index)?.field(name),
            _ => None,
        }
    }

    /// The versions as upstream prints them in messages.
    fn print_versions(&self) -> String {
        let printed: Vec<String> = self
            .versions
            .iter()
            .map(|version| {
                let rest = |name: &str| match self.is_hoisted(name) {
                    true => "null".to_string(),
                    false => version.get(name).unwrap_or(&Value::Null).to_string(),
                };
                format!(
                    "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\
                     \"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\
                     \"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
                    json!(version.text("name")),
                    version.flag("served"),
                    version.flag("storage"),
                    version.flag("deprecated"),
                    json!(version.text_opt("deprecationWarning")),
                    rest("schema"),
                    rest("subresources"),
                    rest("additionalPrinterColumns"),
                    rest("selectableFields"),
                )
            })
            .collect();
        format!("[{}]", printed.join(","))
    }
}

/// Reports what is wrong with a spec; `old` is the definition that it replaces.
pub(super) fn check(internal: &Internal<'_>, old: Option<&Value>, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let spec = internal.spec;
    check_group(spec.text("group"), &path.child("group"), errors);
    crate::check::required_one_of(
        errors,
        &path.child("scope"),
        spec.text("scope"),
        &["Cluster", "Namespaced"],
    );
    let required = old.is_none_or(|old| {
        let versions = part(old, &["spec"]).items("versions");
        versions.iter().all(|version| version.map("schema").is_some())
    });
    for (index, version) in internal.versions.iter().enumerate() {
        if required && part(version, &["schema"]).field("openAPIV3Schema").is_none() {
            let path = path.child("versions").index(index).child("schema");
            errors.required(&path.child("openAPIV3Schema"), "");
        }
    }
    for (index, version) in internal.versions.iter().enumerate() {
        let path = path.child("versions").index(index);
        let name = version.text("name");
        crate::check::faults(errors, &path.child("name"), name, names::dns1035_label(name));
        check_deprecation(version, &path, errors);
        check_parts(internal, Some(index), &path, old, errors);
    }
    let mut seen = std::collections::BTreeSet::new();
    if !internal.versions.iter().all(|version| seen.insert(version.text("name"))) {
        let why = "must contain unique version names";
        errors.invalid_printed(&path.child("versions"), internal.print_versions(), why);
    }
    if internal.versions.iter().filter(|version| version.flag("storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid_printed(&path.child("versions"), internal.print_versions(), why);
    }
    let wanted = part(spec, &["names"]);
    for name in ["plural", "singular", "kind", "listKind"] {
        if wanted.text(name).is_empty() {
            errors.required(&path.child("names").child(name), "");
        }
    }
    check_names(wanted, &path.child("names"), errors);
    check_parts(internal, None, &path, old, errors);
    check_conversion(spec, old, &path.child("conversion"), errors);
}

fn check_group(group: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if group.is_empty() {
        errors.required(path, "");
        return;
    }
    let faults = names::dns1123_subdomain(group);
    if !faults.is_empty() {
        errors.invalid_str(path, group, &faults.join(","));
    } else if !group.contains('.') {
        errors.invalid_str(path, group, "should be a domain with at least one dot");
    }
}

fn check_deprecation(version: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const MAX_BYTES: usize = 256;
    let Some(text) = version.text_opt("deprecationWarning") else { return };
    let path = path.child("deprecationWarning");
    if !version.flag("deprecated") {
        errors.invalid_str(&path, text, "can only be set for deprecated versions");
        return;
    }
    if text.len() > MAX_BYTES {
        errors.invalid_str(&path, text, "must be <= 256 characters long");
    }
    if text.is_empty() {
        errors.invalid_str(&path, text, "must not be an empty string");
    }
    if let Some(at) = text.find(char::is_control) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index \
             {at}"
        );
        errors.invalid_str(&path, text, &why);
    }
}

/// The schema, subresources, columns and selectable fields of one version, or of all.
fn check_parts(
    internal: &Internal<'_>,
    version: Option<usize>,
    path: &FieldPath,
    old: Option<&Value>,
    errors: &mut FieldErrors,
) {
    let with_status = |version: &Value| part(version, &["subresources"]).field("status").is_some();
    let status = match version {
        Some(index) => internal.versions.get(index).is_some_and(with_status),
        None => internal.versions.iter().any(with_status),
    };
    if let Some(given) = internal.part(version, "schema") {
        let path = path.child(if version.is_some() { "schema" } else { "validation" });
        if let Some(openapi) = given.field("openAPIV3Schema") {
            let path = path.child("openAPIV3Schema");
            schema::check(openapi, &path, status, old, errors);
        }
    }
    if let Some(given) = internal.part(version, "subresources") {
        check_subresources(given, &path.child("subresources"), errors);
    }
    let columns = internal.part(version, "additionalPrinterColumns");
    for (index, column) in columns.and_then(Value::as_array).into_iter().flatten().enumerate() {
        check_column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    if let Some(fields) = internal.part(version, "selectableFields").and_then(Value::as_array) {
        let given = match version {
            Some(index) => &internal.versions[index],
            None => internal.versions.first().unwrap_or(&Value::Null),
        };
        let schema = part(given, &["schema", "openAPIV3Schema"]);
        check_selectable(fields, schema, &path.child("selectableFields"), errors);
    }
}

fn check_path(text: &str, path: &FieldPath, below: &[&str], errors: &mut FieldErrors) {
    if !text.starts_with('.') {
        errors.invalid_str(path, text, "must be a simple json path starting with .");
    } else if !below.is_empty()
        && !below.iter().any(|prefix| text.starts_with(&format!(".{prefix}.")))
    {
        let places = match below {
            [one] => format!("should be a json path under .{one}"),
            _ => "should be a json path under either .spec or .status".to_string(),
        };
        errors.invalid_str(path, text, &places);
    }
}

fn check_subresources(parts: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(scale) = parts.field("scale") else { return };
    for (name, below) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let path = path.child(&format!("scale.{name}"));
        match scale.text(name) {
            "" => errors.required(&path, ""),
            text => check_path(text, &path, &[below], errors),
        }
    }
    let selector = scale.text("labelSelectorPath");
    if !selector.is_empty() {
        check_path(selector, &path.child("scale.labelSelectorPath"), &["spec", "status"], errors);
    }
}

fn check_column(column: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 9] =
        ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];
    if column.text("name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    let one_of = |list: &[&str]| format!("must be one of {}", list.join(","));
    match column.text("type") {
        "" => errors.required(&path.child("type"), &one_of(&TYPES)),
        text if !TYPES.contains(&text) => {
            errors.invalid_str(&path.child("type"), text, &one_of(&TYPES));
        }
        _ => {}
    }
    let format = column.text("format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.invalid_str(&path.child("format"), format, &one_of(&FORMATS));
    }
    match column.text("jsonPath") {
        "" => errors.required(&path.child("JSONPath"), ""),
        text => check_path(text, &path.child("JSONPath"), &[], errors),
    }
}

fn check_selectable(fields: &[Value], schema: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const MAX: usize = 8;
    let mut seen = std::collections::BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let text = field.text("jsonPath");
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let found = schema::follow(schema, text);
        let Ok(found) = found else {
            let why = "is an invalid path: does not refer to a valid field";
            errors.invalid_str(&path, text, why);
            continue;
        };
        if text.starts_with(".metadata") {
            errors.invalid_str(&path, text, "must not point to fields in metadata");
        }
        if !matches!(found.text("type"), "string" | "boolean" | "integer") {
            errors.invalid_str(
                &path,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and \
                 strings with formats are allowed.",
            );
        }
        if !seen.insert(text) {
            errors.duplicate(&path, &json!(text));
        }
    }
    if seen.len() > MAX {
        errors.too_many(path, seen.len(), MAX);
    }
}

/// Whether a bundle holds certificates and nothing else.
fn is_bundle(base64: &str) -> bool {
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(base64) else { return false };
    let mut found = false;
    for pem in x509_parser::pem::Pem::iter_from_buffer(&bytes) {
        let Ok(pem) = pem else { return false };
        if pem.label != "CERTIFICATE" || pem.parse_x509().is_err() {
            return false;
        }
        found = true;
    }
    found
}

/// A bundle that nobody can use is let pass before the definition is in use, and where there was one
/// before.
fn check_bundle(config: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(old) = old else { return };
    let conditions = part(old, &["status"]).items("conditions");
    let before = part(old, &["spec", "conversion", "webhook", "clientConfig"]).text("caBundle");
    let lax = !objects::conditions::is_true(conditions, "Established")
        || !before.is_empty() && !is_bundle(before);
    let bundle = config.text("caBundle");
    if !lax && !bundle.is_empty() && !is_bundle(bundle) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.invalid_str(&path.child("caBundle"), bundle, why);
    }
}

fn check_conversion(spec: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(conversion) = spec.field("conversion") else { return };
    let strategy = conversion.text("strategy");
    crate::check::required_one_of(errors, &path.child("strategy"), strategy, &["None", "Webhook"]);
    let webhook = part(conversion, &["webhook"]);
    let config = webhook.field("clientConfig");
    let versions = webhook.texts("conversionReviewVersions");
    if strategy != "Webhook" {
        if config.is_some() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.forbidden(&path.child("webhookClientConfig"), why);
        }
        if !versions.is_empty() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.forbidden(&path.child("conversionReviewVersions"), why);
        }
        return;
    }
    let at = path.child("webhookClientConfig");
    match config {
        None => errors.required(&at, "required when strategy is set to Webhook"),
        Some(config) => {
            let (url, service) = (config.text_opt("url"), config.field("service"));
            match (url, service) {
                (Some(_), Some(_)) | (None, None) => {
                    errors.required(&at, "exactly one of url or service is required");
                }
                (Some(url), None) => check_url(url, &at.child("url"), errors),
                (None, Some(service)) => check_service(service, &at.child("service"), errors),
            }
            check_bundle(config, old, &at, errors);
        }
    }
    let at = path.child("conversionReviewVersions");
    if versions.is_empty() {
        errors.required(&at, "");
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.invalid_str(&at.index(index), version, "duplicate version");
            continue;
        }
        for why in names::dns1035_label(version) {
            errors.invalid_str(&at.index(index), version, &why);
        }
    }
    if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        errors.invalid(&at, &json!(versions), "must include at least one of v1, v1beta1");
    }
}

fn check_url(url: &str, path: &FieldPath, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid_str(path, scheme, &why);
        return;
    };
    if rest.split(['/', '?', '#']).next().unwrap_or("").is_empty() {
        errors.invalid_str(path, "", &format!("host must be specified{FORM}"));
    }
}

fn check_service(service: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if service.text("name").is_empty() {
        errors.required(&path.child("name"), "service name is required");
    }
    if service.text("namespace").is_empty() {
        errors.required(&path.child("namespace"), "service namespace is required");
    }
    if let Some(port) = service.int("port") {
        let faults = names::port_number(port);
        if !faults.is_empty() {
            let why = format!("port is not valid: {}", faults.join(","));
            errors.invalid(&path.child("port"), &json!(port), &why);
        }
    }
    if let Some(text) = service.text_opt("path")
        && !text.starts_with('/')
    {
        errors.invalid_str(&path.child("path"), text, "must start with a '/'");
    }
}
