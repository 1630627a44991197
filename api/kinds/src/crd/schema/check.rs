//! Checking a value against a schema.
//!
//! The order of violations, their texts and how alternatives are counted are those of kube-openapi;
//! where it goes through a map in no order, names are in order here.

use objects::{FieldErrors, FieldPath};
use serde_json::{Map, Value, json};

use super::correlate::Correlated;
use super::numbers::check_number;
use super::result::{Class, Outcome, Violation};
use super::{Additional, Junctions, Limits, Node, Type};

/// Where the checked value is, and what the messages call it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The path that errors are reported below.
    pub path: FieldPath,
}

impl Place {
    /// The object itself.
    pub fn root() -> Self {
        Self { path: FieldPath::root() }
    }

    /// A part of the object.
    pub fn at(path: FieldPath) -> Self {
        Self { path }
    }
}

/// Reports where a value does not fit a schema.
pub fn check(node: &Node, value: &Value, place: &Place, errors: &mut FieldErrors) {
    Walk { root: false }.node(node, value, "", None).report(&place.path, errors);
}

/// Reports where a changed value does not fit a schema; what has not changed may stay as it is.
pub fn check_update(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    place: &Place,
    errors: &mut FieldErrors,
) {
    let correlated = old.map(|old| Correlated { new: value, old });
    Walk { root: true }.node(node, value, "", correlated).report(&place.path, errors);
}

struct Walk {
    /// Whether the walk began at an object whose type does not count as unchanged.
    root: bool,
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

fn at(path: &str, class: Class, text: String) -> Violation {
    Violation { path: Some(path.to_string()), class, text }
}

pub(super) fn unplaced(text: String) -> Violation {
    Violation { path: None, class: Class::Invalid(json!("")), text }
}

pub(super) fn invalid(path: &str, value: &Value, text: String) -> Violation {
    at(path, Class::Invalid(value.clone()), text)
}

/// The type of a value as messages name it.
fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Any,
        Value::Bool(_) => Type::Boolean,
        Value::Number(number) if number.is_f64() => Type::Number,
        Value::Number(_) => Type::Integer,
        Value::String(_) => Type::String,
        Value::Array(_) => Type::Array,
        Value::Object(_) => Type::Object,
    }
}

impl Walk {
    /// Checks a value, and forgives it if it has not changed.
    fn node(
        &self,
        node: &Node,
        value: &Value,
        path: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut outcome = self.fresh(node, value, path, correlated);
        if !outcome.is_valid() && correlated.is_some_and(|correlated| correlated.unchanged()) {
            outcome.violations.clear();
        }
        outcome
    }

    fn fresh(
        &self,
        node: &Node,
        value: &Value,
        path: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let limits = node.limits.as_deref();
        if value.is_null() {
            out.merge(check_type(node, value, path));
            out.merge(check_enum(limits, value, path));
            return out;
        }
        let typed = node.kind != Type::Any || node.int_or_string;
        if typed || limits.is_some_and(|limits| limits.format.is_some()) {
            out.merge(check_type(node, value, path));
            out.matches += 1;
        }
        out.merge(self.junctions(node.junctions.as_deref(), value, path, correlated));
        out.matches += 1;
        match value {
            Value::String(text) => {
                out.merge(check_string(limits, text, path));
                out.matches += 1;
                if let Some(format) = limits.and_then(|limits| limits.format.as_ref())
                    && format.is_of_strings()
                {
                    if !format.fits(text) {
                        let name = format.name();
                        let text =
                            format!("{path} in body must be of type {name}: {}", go_quote(text));
                        out.add(at(path, Class::Type(value.clone()), text));
                    }
                    out.matches += 1;
                }
            }
            Value::Number(_) => {
                out.merge(check_number(node, limits, value, path));
                out.matches += 1;
            }
            Value::Array(items) => {
                out.merge(self.items(node, items, path, correlated));
                out.matches += 1;
            }
            _ => {}
        }
        out.merge(check_enum(limits, value, path));
        out.matches += 1;
        if let Value::Object(map) = value {
            out.merge(self.object(node, map, path, correlated));
            out.matches += 1;
        }
        out.matches += 1;
        out
    }

    fn items(
        &self,
        node: &Node,
        items: &[Value],
        path: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut out = Outcome::default();
        if let Some(schema) = node.items.as_deref() {
            for (index, item) in items.iter().enumerate() {
                let before = correlated.and_then(|correlated| correlated.index(node, index));
                out.merge(self.node(schema, item, &format!("{path}[{index}]"), before));
            }
        }
        let Some(limits) = node.limits.as_deref() else {
            out.matches += 1;
            return out;
        };
        let count = items.len();
        if let Some(min) = limits.min_items.filter(|min| (count as u64) < *min) {
            let text = format!("{path} in body should have at least {min} items");
            out.add(invalid(path, &json!(count), text));
        }
        if let Some(max) = limits.max_items.filter(|max| (count as u64) > *max) {
            let text = format!("{path} in body should have at most {max} items");
            out.add(at(path, Class::TooMany(count, max), text));
        }
        out.matches += 1;
        out
    }

    fn object(
        &self,
        node: &Node,
        map: &Map<String, Value>,
        path: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let limits = node.limits.as_deref();
        let count = map.len();
        if let Some(min) =
            limits.and_then(|limits| limits.min_properties).filter(|min| (count as u64) < *min)
        {
            let text = format!("{path} in body should have at least {min} properties");
            out.add(invalid(path, &json!(count), text));
        }
        if let Some(max) =
            limits.and_then(|limits| limits.max_properties).filter(|max| (count as u64) > *max)
        {
            let text = format!("{path} in body should have at most {max} properties");
            out.add(at(path, Class::TooMany(count, max), text));
        }
        let before = |key: &str| {
            let typed = self.root && path.is_empty() && matches!(key, "kind" | "apiVersion");
            correlated.filter(|_| !typed).and_then(|correlated| correlated.key(node, key))
        };
        for (key, value) in map.iter().filter(|(key, _)| node.property(key).is_none()) {
            match node.additional.as_deref() {
                Some(Additional::Allowed(false)) => {
                    let text = format!("{path}.{key} in body is a forbidden property");
                    out.add(invalid(path, &json!(key), text));
                }
                Some(Additional::Schema(schema)) => {
                    let below = format!("{path}.{key}");
                    out.merge(self.node(schema, value, &below, before(key)));
                }
                Some(Additional::Allowed(true)) | None => {}
            }
        }
        for (name, schema) in &node.properties {
            if let Some(value) = map.get(&**name) {
                out.merge(self.node(schema, value, &join(path, name), before(name)));
            }
        }
        for name in limits.map(|limits| &*limits.required).unwrap_or_default() {
            if !map.contains_key(&**name) {
                let below = format!("{path}.{name}");
                let text = format!("{below} in body is required");
                out.add(at(&below, Class::Required, text));
            }
        }
        out
    }

    fn junctions(
        &self,
        junctions: Option<&Junctions>,
        value: &Value,
        path: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut out = Outcome { matches: 1, ..Outcome::default() };
        let Some(junctions) = junctions else { return out };
        let quoted = go_quote(path);
        let try_one = |node: &Node| self.fresh(node, value, path, correlated);
        if !junctions.any_of.is_empty() {
            let (best, fitting) = alternatives(&junctions.any_of, &try_one, true);
            if fitting == 0 {
                out.add(unplaced(format!("{quoted} must validate at least one schema (anyOf)")));
            }
            out.merge(best);
        }
        if !junctions.one_of.is_empty() {
            let (best, fitting) = alternatives(&junctions.one_of, &try_one, false);
            let found = match fitting {
                0 => "Found none valid".to_string(),
                many => format!("Found {many} valid alternatives"),
            };
            if fitting != 1 {
                let text =
                    format!("{quoted} must validate one and only one schema (oneOf). {found}");
                out.add(unplaced(text));
            }
            if fitting < 2 {
                out.merge(best);
            }
        }
        if !junctions.all_of.is_empty() {
            let mut fitting = 0;
            for node in &junctions.all_of {
                let outcome = try_one(node);
                fitting += usize::from(outcome.is_valid());
                out.merge(outcome);
            }
            if fitting != junctions.all_of.len() {
                let none = if fitting == 0 { ". None validated" } else { "" };
                out.add(unplaced(format!("{quoted} must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(node) = &junctions.not
            && try_one(node).is_valid()
        {
            out.add(unplaced(format!("{quoted} must not validate the schema (not)")));
        }
        out
    }
}

/// Tries schemas. Gives the outcome of the first that fits, else of the one that fits best, and how
/// many fit.
fn alternatives(
    nodes: &[Node],
    try_one: &dyn Fn(&Node) -> Outcome,
    one_is_enough: bool,
) -> (Outcome, usize) {
    let mut best: Option<Outcome> = None;
    let mut first_fit = None;
    let mut fitting = 0;
    for node in nodes {
        let outcome = try_one(node);
        if outcome.is_valid() {
            fitting += 1;
            first_fit.get_or_insert(outcome);
            if one_is_enough {
                break;
            }
        } else if best.as_ref().is_none_or(|best| outcome.matches > best.matches) {
            best = Some(outcome);
        }
    }
    (first_fit.or(best).unwrap_or_default(), fitting)
}

fn check_type(node: &Node, value: &Value, path: &str) -> Outcome {
    let mut out = Outcome { matches: 1, ..Outcome::default() };
    let types: &[Type] = match node.kind {
        _ if node.int_or_string => &[Type::Integer, Type::String],
        Type::Any => &[],
        ref kind => std::slice::from_ref(kind),
    };
    let names = types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",");
    let wrong = |wanted: &str, found: &str| {
        let text = format!("{path} in body must be of type {wanted}: {}", go_quote(found));
        let violation = at(path, Class::Type(json!(found)), text);
        Outcome { violations: vec![violation], matches: 0 }
    };
    if value.is_null() {
        return if types.is_empty() || node.nullable { out } else { wrong(&names, "null") };
    }
    let found = type_of(value);
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = types.contains(&found)
        || (found == Type::Number && is_whole && types.contains(&Type::Integer))
        || (found == Type::Integer && types.contains(&Type::Number));
    let format = node.limits.as_deref().and_then(|limits| limits.format.as_ref());
    let numeric = types.contains(&Type::Number) || types.contains(&Type::Integer);
    if let Some(format) = format {
        let by_format = matches!(value, Value::String(_) | Value::Array(_));
        if !by_format && !fits {
            let found = match found {
                Type::Integer => "int64",
                Type::Number => "float64",
                _ => "",
            };
            return wrong(format.name(), found);
        }
        if !numeric && by_format {
            return out;
        }
    }
    if !fits {
        return wrong(&names, found.name());
    }
    out.matches = 1;
    out
}

fn check_string(limits: Option<&Limits>, text: &str, path: &str) -> Outcome {
    let mut out = Outcome::default();
    let Some(limits) = limits else { return out };
    let value = json!(text);
    let length = || text.chars().count() as u64;
    if let Some(max) = limits.max_length.filter(|max| length() > *max) {
        let text = format!("{path} in body should be at most {max} chars long");
        out.add(at(path, Class::TooLong(max), text));
    } else if let Some(min) = limits.min_length.filter(|min| length() < *min) {
        let text = format!("{path} in body should be at least {min} chars long");
        out.add(invalid(path, &value, text));
    } else if let Some(pattern) = &limits.pattern {
        match pattern.matches(text) {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("{path} in body should match '{}'", pattern.text);
                out.add(invalid(path, &value, text));
            }
            Err(why) => {
                let text = format!(
                    "{path} in body should match '{}, but pattern is invalid: {why}'",
                    pattern.text
                );
                out.add(invalid(path, &value, text));
            }
        }
    }
    out
}

fn go_quote(text: &str) -> String {
    objects::field::quote(text)
}

fn check_enum(limits: Option<&Limits>, value: &Value, path: &str) -> Outcome {
    let mut out = Outcome::default();
    let Some(limits) = limits.filter(|limits| !limits.enumeration.is_empty()) else { return out };
    let same = |known: &Value| match (known.as_f64(), value.as_f64()) {
        (Some(known), Some(value)) => (known - value).abs() == 0.0,
        _ => known == value && !value.is_null(),
    };
    if limits.enumeration.iter().any(same) {
        return out;
    }
    let supported: Vec<String> = limits
        .enumeration
        .iter()
        .map(|known| known.as_str().map_or_else(|| known.to_string(), str::to_string))
        .collect();
    let text = format!("{path} in body should be one of [{}]", supported.join(" "));
    out.add(at(path, Class::Enum(value.clone(), supported), text));
    out
}
