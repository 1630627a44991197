//! JSONPath as printer columns and selectable fields use it.
//!
//! Source of behaviour: client-go `util/jsonpath`, v1.36; what columns use of it: fields, quoted
//! fields, indexes, slices, wildcards, recursive descent and filters.

use std::cmp::Ordering;

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(Box<str>),
    Fields(Vec<Box<str>>),
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Wildcard,
    Recursive,
    Filter(Operand, Option<(Operator, Operand)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a path is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized path {path:?} at {rest:?}")]
pub struct ParseError {
    path: String,
    rest: String,
}

impl JsonPath {
    /// Reads a path that begins with a dot.
    ///
    /// # Errors
    /// For text that is no path.
    pub fn parse(path: &str) -> Result<Self, ParseError> {
        let mut steps = Vec::new();
        let mut rest = path.trim();
        while !rest.is_empty() {
            let at = rest;
            let parsed = step(&mut rest, &mut steps);
            if parsed.is_none() || rest.len() == at.len() {
                return Err(ParseError { path: path.into(), rest: at.into() });
            }
        }
        Ok(Self(steps))
    }

    /// Every value that the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.follow(value)).collect();
        }
        found
    }
}

/// Reads one step off the front.
fn step(rest: &mut &str, steps: &mut Vec<Step>) -> Option<()> {
    if let Some(after) = rest.strip_prefix("..") {
        steps.push(Step::Recursive);
        *rest = after;
        if !after.starts_with('[') {
            steps.push(field(rest)?);
        }
        return Some(());
    }
    if let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        if after.is_empty() || after.starts_with('[') {
            return Some(());
        }
        steps.push(field(rest)?);
        return Some(());
    }
    let inner = rest.strip_prefix('[')?;
    let end = closing(inner)?;
    *rest = &inner[end + 1..];
    steps.push(bracket(inner[..end].trim())?);
    Some(())
}

/// A field up to the next dot or bracket; a backslash takes the meaning of what follows it away.
fn field(rest: &mut &str) -> Option<Step> {
    let mut name = String::new();
    let mut chars = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() => return None,
            c => name.push(c),
        }
    }
    *rest = &rest[end..];
    match name.as_str() {
        "" => None,
        "*" => Some(Step::Wildcard),
        _ => Some(Step::Field(name.into())),
    }
}

/// Where the bracket that is open closes, past quotes and inner brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::Wildcard);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return condition(filter);
    }
    if inner.starts_with(['\'', '"']) {
        let names: Option<Vec<Box<str>>> =
            inner.split(',').map(|name| unquote(name.trim()).map(Into::into)).collect();
        return match names?.as_slice() {
            [one] => Some(Step::Field(one.clone())),
            many => Some(Step::Fields(many.to_vec())),
        };
    }
    if inner.contains(':') {
        let mut parts = inner.split(':').map(str::trim);
        let mut bound = || match parts.next() {
            None | Some("") => Some(None),
            Some(text) => text.parse::<i64>().ok().map(Some),
        };
        return Some(Step::Slice(bound()?, bound()?, bound()?.unwrap_or(1).max(1)));
    }
    inner.parse().ok().map(Step::Index)
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\.", "."))
}

fn condition(text: &str) -> Option<Step> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let found = OPERATORS
        .iter()
        .filter_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    match found {
        None => Some(Step::Filter(operand(text.trim())?, None)),
        Some((at, sign, operator)) => {
            let left = operand(text[..at].trim())?;
            let right = operand(text[at + sign.len()..].trim())?;
            Some(Step::Filter(left, Some((operator, right))))
        }
    }
}

fn operand(text: &str) -> Option<Operand> {
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).ok().map(Operand::Path);
    }
    if let Some(text) = unquote(text) {
        return Some(Operand::Value(text.into()));
    }
    serde_json::from_str(text).ok().map(Operand::Value)
}

impl Step {
    fn follow<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.get(&**name).into_iter().collect(),
            Self::Fields(names) => names.iter().filter_map(|name| value.get(&**name)).collect(),
            Self::Index(index) => {
                let Some(items) = value.as_array() else { return Vec::new() };
                place(*index, items.len()).and_then(|at| items.get(at)).into_iter().collect()
            }
            Self::Slice(from, to, step) => {
                let Some(items) = value.as_array() else { return Vec::new() };
                let bound = |bound: i64| {
                    let bound = if bound < 0 { bound + items.len() as i64 } else { bound };
                    usize::try_from(bound.max(0)).unwrap_or(0).min(items.len())
                };
                let (from, to) = (from.map_or(0, bound), to.map_or(items.len(), bound));
                let step = usize::try_from(*step).unwrap_or(1);
                items.get(from..to).unwrap_or_default().iter().step_by(step).collect()
            }
            Self::Wildcard => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Self::Recursive => {
                let mut all = vec![value];
                let mut next = 0;
                while let Some(value) = all.get(next).copied() {
                    all.extend(Self::Wildcard.follow(value));
                    next += 1;
                }
                all
            }
            Self::Filter(left, test) => {
                let Some(items) = value.as_array() else { return Vec::new() };
                items.iter().filter(|item| holds(item, left, test.as_ref())).collect()
            }
        }
    }
}

fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + i64::try_from(length).ok()? } else { index };
    usize::try_from(index).ok()
}

fn holds(item: &Value, left: &Operand, test: Option<&(Operator, Operand)>) -> bool {
    fn get<'a>(operand: &'a Operand, item: &'a Value) -> Option<&'a Value> {
        match operand {
            Operand::Value(value) => Some(value),
            Operand::Path(path) => path.find(item).into_iter().next(),
        }
    }
    let Some(left) = get(left, item) else { return false };
    let Some((operator, right)) = test else { return true };
    let Some(right) = get(right, item) else { return false };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().partial_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::NotEqual => order != Some(Ordering::Equal),
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// A value as a column of text shows it.
pub fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "l"}},
            "spec": {"items": [1, 2, 3], "tags": ["x", "y"]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Other", "status": "False", "n": 5},
            ]},
        });
        let cases = [
            (".spec.items", json!([[1, 2, 3]])),
            (".spec.items[0]", json!([1])),
            (".spec.items[-1]", json!([3])),
            (".spec.items[0:2]", json!([1, 2])),
            (".spec.tags[*]", json!(["x", "y"])),
            (".metadata.labels.a\\.b/c", json!(["l"])),
            (".metadata.labels['a\\.b/c']", json!(["l"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Other')].status", json!(["False"])),
            (".status.conditions[?(@.n>=2)].type", json!(["Other"])),
            (".status.conditions[?(@.none)].type", json!([])),
            ("..n", json!([1, 5])),
            (".none.at.all", json!([])),
        ];
        for (path, expected) in cases {
            let parsed = JsonPath::parse(path).expect(path);
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["x", ".a b", ".a[", ".a[?(x)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
