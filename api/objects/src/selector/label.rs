//! Label selectors: requirements, matching, and the typed form.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::SelectorError;
use crate::{FieldErrors, FieldPath, names};

/// Anything labels can be looked up in.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<&L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.and_then(|labels| labels.label(key))
    }
}

/// What a requirement demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `key=value` (one value).
    Equals,
    /// `key!=value`: absent, or another value.
    NotEquals,
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`: absent, or another value.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>5`.
    GreaterThan,
    /// `key<5`.
    LessThan,
}

/// One demand on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values, sorted, without repeats.
    pub values: Vec<String>,
}

impl Requirement {
    /// Builds a requirement whose parts are known to be well-formed.
    pub fn new(key: &str, operator: Operator, values: &[&str]) -> Self {
        let mut values: Vec<String> = values.iter().map(|value| (*value).to_string()).collect();
        values.sort();
        values.dedup();
        Self { key: key.to_string(), operator, values }
    }

    /// Whether labels satisfy this.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let found = labels.label(&self.key);
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::Equals | Operator::In => found.is_some_and(among),
            Operator::NotEquals | Operator::NotIn => !found.is_some_and(among),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => self.compare(found).is_some_and(|(value, than)| value > than),
            Operator::LessThan => self.compare(found).is_some_and(|(value, than)| value < than),
        }
    }

    fn compare(&self, found: Option<&str>) -> Option<(i64, i64)> {
        Some((found?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.values.first().map_or("", String::as_str);
        match self.operator {
            Operator::Equals => write!(f, "{}={first}", self.key),
            Operator::NotEquals => write!(f, "{}!={first}", self.key),
            Operator::In => write!(f, "{} in ({})", self.key, self.values.join(",")),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, self.values.join(",")),
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::GreaterThan => write!(f, "{}>{first}", self.key),
            Operator::LessThan => write!(f, "{}<{first}", self.key),
        }
    }
}

/// A conjunction of requirements, or nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// All must hold; `None` matches nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Matches no object: what an absent `LabelSelector` means.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// All of these must hold. They are sorted by key.
    pub fn all(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    /// Parses the form used in query strings, such as `a=b,c notin (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        super::parse::label_selector(text).map(Self::all)
    }

    /// Every label of a map must be present with its value (a ReplicationController's or a
    /// Service's selector). An absent or empty map matches nothing: neither kind selects every pod.
    pub fn from_map(map: Option<&Map<String, Value>>) -> Self {
        match map {
            Some(map) if !map.is_empty() => Self::all(equalities(map)),
            _ => Self::nothing(),
        }
    }

    /// Reads a `LabelSelector` object: absent or null matches nothing, empty matches everything. An
    /// unknown operator is an error.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|value| !value.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .map(equalities)
            .unwrap_or_default();
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(Self::all(requirements))
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether no object can match.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The requirements, none if the selector matches nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or(&[])
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn equalities(map: &Map<String, Value>) -> Vec<Requirement> {
    map.iter()
        .map(|(key, value)| {
            Requirement::new(key, Operator::Equals, &[value.as_str().unwrap_or_default()])
        })
        .collect()
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        // Node selector terms have these two as well.
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        other => {
            return Err(SelectorError(format!("{other:?} is not a valid label selector operator")));
        }
    };
    let values = strings(expression.get("values"));
    Ok(Requirement::new(text("key"), operator, &values))
}

/// Reports what is wrong with a `LabelSelector` object.
pub fn validate_label_selector(selector: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
        crate::meta::validate_labels(labels, &path.child("matchLabels"), errors);
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        validate_expression(expression, &path.child("matchExpressions").index(index), errors);
    }
}

fn validate_expression(expression: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let values = strings(expression.get("values"));
    match text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(
                    &path.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
        }
        other => {
            errors.invalid_str(&path.child("operator"), other, "not a valid selector operator")
        }
    }
    for message in names::qualified_name(text("key")) {
        errors.invalid_str(&path.child("key"), text("key"), &message);
    }
    for (index, value) in values.iter().enumerate() {
        for message in names::label_value(value) {
            errors.invalid_str(&path.child("values").index(index), value, &message);
        }
    }
}
