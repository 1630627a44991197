//! The schema of a custom resource, compiled from the `openAPIV3Schema` of its definition into the
//! smallest form that values can be checked against: no descriptions, one node per field.
//!
//! Source of behaviour: kubernetes apiextensions-apiserver `pkg/apiserver/schema` and
//! `pkg/apiserver/validation`, and kube-openapi `pkg/validation/validate`, v1.36.

mod check;
mod correlate;
mod embedded;
mod formats;
mod lists;
mod numbers;
mod prune;
mod result;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use crate::read::Read;

pub use check::{Place, check, check_update};
pub use correlate::Correlated;
pub use embedded::check_embedded;
pub(crate) use formats::Format;
pub use lists::check_lists;
pub use prune::prune;

/// A place in a schema.
#[derive(Debug, Default)]
pub struct Node {
    /// `type`.
    pub kind: Type,
    /// `nullable`.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserves_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    /// `x-kubernetes-list-type`.
    pub list: ListType,
    /// `properties`, in order of their names.
    pub properties: Box<[(Box<str>, Node)]>,
    /// `additionalProperties`.
    pub additional: Option<Box<Additional>>,
    /// `items`.
    pub items: Option<Box<Node>>,
    /// `default`.
    pub default: Option<Box<Value>>,
    /// Limits of values.
    pub limits: Option<Box<Limits>>,
    /// `allOf`, `anyOf`, `oneOf` and `not`.
    pub junctions: Option<Box<Junctions>>,
    /// `x-kubernetes-validations`.
    pub rules: Box<[Rule]>,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Type {
    /// No type is given.
    #[default]
    Any,
    /// `object`.
    Object,
    /// `array`.
    Array,
    /// `string`.
    String,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `boolean`.
    Boolean,
}

impl Type {
    fn parse(text: &str) -> Self {
        match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// The name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What identifies the items of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Their place.
    #[default]
    Atomic,
    /// They themselves.
    Set,
    /// The values of these fields.
    Map(Box<[Box<str>]>),
}

/// What other fields a map may have.
#[derive(Debug)]
pub enum Additional {
    /// Any, or none.
    Allowed(bool),
    /// Those of this schema.
    Schema(Node),
}

/// Limits of values.
#[derive(Debug, Default)]
pub struct Limits {
    /// `format`, if it is one that is checked.
    pub(crate) format: Option<Format>,
    /// `maximum` and whether it is excluded.
    pub(crate) maximum: Option<(f64, bool)>,
    /// `minimum` and whether it is excluded.
    pub(crate) minimum: Option<(f64, bool)>,
    /// `multipleOf`.
    pub(crate) multiple_of: Option<f64>,
    /// `maxLength`, in characters.
    pub max_length: Option<u64>,
    /// `minLength`, in characters.
    pub(crate) min_length: Option<u64>,
    /// `maxItems`.
    pub max_items: Option<u64>,
    /// `minItems`.
    pub(crate) min_items: Option<u64>,
    /// `maxProperties`.
    pub max_properties: Option<u64>,
    /// `minProperties`.
    pub(crate) min_properties: Option<u64>,
    /// `pattern`.
    pub(crate) pattern: Option<Pattern>,
    /// `enum`.
    pub enumeration: Box<[Value]>,
    /// `required`.
    pub required: Box<[Box<str>]>,
}

/// A regular expression, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: Box<str>,
    compiled: std::sync::OnceLock<Result<Arc<Regex>, Box<str>>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: std::sync::OnceLock::new() }
    }

    /// Whether a text matches, or why the expression is none.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, &str> {
        let compiled = self.compiled.get_or_init(|| {
            Regex::new(&self.text).map(Arc::new).map_err(|error| error.to_string().into())
        });
        match compiled {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(why) => Err(why),
        }
    }
}

/// Combinations of schemas.
#[derive(Debug, Default)]
pub struct Junctions {
    pub(crate) all_of: Box<[Node]>,
    pub(crate) any_of: Box<[Node]>,
    pub(crate) one_of: Box<[Node]>,
    pub(crate) not: Option<Node>,
}

/// An entry of `x-kubernetes-validations`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The CEL expression.
    pub rule: Box<str>,
    /// The message of a violation.
    pub message: Box<str>,
    /// The CEL expression that makes the message.
    pub message_expression: Box<str>,
    /// `FieldValueInvalid`, …
    pub reason: Box<str>,
    /// Where the violation is reported, below the rule's own place.
    pub field_path: Box<str>,
    /// `optionalOldSelf`.
    pub optional_old_self: Option<bool>,
}

impl Rule {
    /// Reads an entry.
    pub fn of(entry: &Value) -> Self {
        Self {
            rule: entry.text("rule").into(),
            message: entry.text("message").into(),
            message_expression: entry.text("messageExpression").into(),
            reason: entry.text("reason").into(),
            field_path: entry.text("fieldPath").into(),
            optional_old_self: entry.flag_opt("optionalOldSelf"),
        }
    }
}

impl Node {
    /// Compiles a schema. It need not be structural: what is not understood is not checked.
    pub fn compile(openapi: &Value) -> Self {
        let mut properties: Vec<(Box<str>, Node)> = openapi
            .entries("properties")
            .into_iter()
            .map(|(name, schema)| (name.into(), Self::compile(schema)))
            .collect();
        properties.sort_by(|a, b| a.0.cmp(&b.0));
        let additional = match openapi.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Some(Additional::Allowed(*allowed)),
            Some(schema @ Value::Object(_)) => Some(Additional::Schema(Self::compile(schema))),
            _ => None,
        };
        Self {
            kind: Type::parse(openapi.text("type")),
            nullable: openapi.flag("nullable"),
            int_or_string: openapi.flag("x-kubernetes-int-or-string"),
            preserves_unknown: openapi.flag("x-kubernetes-preserve-unknown-fields"),
            embedded: openapi.flag("x-kubernetes-embedded-resource"),
            atomic_map: openapi.text("x-kubernetes-map-type") == "atomic",
            list: list_type(openapi),
            properties: properties.into(),
            additional: additional.map(Box::new),
            items: openapi.map("items").map(|_| Box::new(Self::compile(&openapi["items"]))),
            default: openapi.field("default").cloned().map(Box::new),
            limits: limits(openapi),
            junctions: junctions(openapi),
            rules: openapi.items("x-kubernetes-validations").iter().map(Rule::of).collect(),
        }
    }

    /// The schema of a property.
    pub fn property(&self, name: &str) -> Option<&Node> {
        let place = self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.properties[place].1)
    }

    /// The schema of properties that are not named.
    pub fn additional_schema(&self) -> Option<&Node> {
        match self.additional.as_deref() {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// The schema of a property or of any other key.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.property(name).or_else(|| self.additional_schema())
    }

    /// Whether any rule in CEL applies at this place or below it.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.properties.iter().any(|(_, node)| node.has_rules())
            || self.items.as_deref().is_some_and(Self::has_rules)
            || self.additional_schema().is_some_and(Self::has_rules)
    }

    /// Roughly the memory this takes, in bytes.
    pub fn bytes(&self) -> usize {
        let limits = self.limits.as_ref().map_or(0, |limits| {
            size_of::<Limits>()
                + limits.enumeration.len() * 2 * size_of::<Value>()
                + limits.required.len() * 32
                // A compiled expression takes kilobytes.
                + if limits.pattern.is_some() { 8 * 1024 } else { 0 }
        });
        let junctions = self.junctions.as_ref().map_or(0, |junctions| {
            let all = junctions.all_of.iter().chain(&*junctions.any_of).chain(&*junctions.one_of);
            size_of::<Junctions>() + all.chain(&junctions.not).map(Self::bytes).sum::<usize>()
        });
        let rules: usize = self.rules.iter().map(|rule| 256 + rule.rule.len()).sum();
        let below = self.properties.iter().map(|(name, node)| name.len() + 16 + node.bytes());
        size_of::<Self>()
            + limits
            + junctions
            + rules
            + below.sum::<usize>()
            + self.items.as_deref().map_or(0, Self::bytes)
            + self.additional_schema().map_or(0, Self::bytes)
            + self.default.as_ref().map_or(0, |default| default.to_string().len() * 4)
    }
}

fn list_type(openapi: &Value) -> ListType {
    match openapi.text("x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => {
            let keys = openapi.texts("x-kubernetes-list-map-keys");
            ListType::Map(keys.into_iter().map(Into::into).collect())
        }
        _ => ListType::Atomic,
    }
}

fn limits(openapi: &Value) -> Option<Box<Limits>> {
    const NAMES: [&str; 13] = [
        "format",
        "maximum",
        "minimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "pattern",
        "enum",
        "required",
    ];
    if NAMES.iter().all(|name| openapi.field(name).is_none()) {
        return None;
    }
    let number = |name: &str| openapi.field(name).and_then(Value::as_f64);
    // A negative limit is never reached from the one side and always exceeded from the other; both
    // as if it were zero, but for a maximum, which nothing fits. Nobody writes that.
    let whole = |name: &str| openapi.int(name).map(|value| u64::try_from(value).unwrap_or(0));
    let pattern = openapi.text("pattern");
    let kind = openapi.text("type");
    Some(Box::new(Limits {
        format: Format::parse(openapi.text("format"), kind),
        maximum: number("maximum").map(|value| (value, openapi.flag("exclusiveMaximum"))),
        minimum: number("minimum").map(|value| (value, openapi.flag("exclusiveMinimum"))),
        multiple_of: number("multipleOf"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
        pattern: (!pattern.is_empty()).then(|| Pattern::new(pattern)),
        enumeration: openapi.items("enum").into(),
        required: openapi.texts("required").into_iter().map(Into::into).collect(),
    }))
}

fn junctions(openapi: &Value) -> Option<Box<Junctions>> {
    let all = |name: &str| openapi.items(name).iter().map(Node::compile).collect::<Box<[Node]>>();
    let junctions = Junctions {
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: openapi.map("not").map(|_| Node::compile(&openapi["not"])),
    };
    let empty = junctions.all_of.is_empty()
        && junctions.any_of.is_empty()
        && junctions.one_of.is_empty()
        && junctions.not.is_none();
    (!empty).then(|| Box::new(junctions))
}
