//! The table of built-in types. The text is in the binary; a type is read when it is first used.

use std::sync::{Arc, OnceLock};

use super::{
    Any, Either, Field, List, ListKind, Map, Member, Scalar, Schema, Strategy, Struct, StructRef,
    Wire,
};

static FACTS: &str = include_str!("../../facts/fields.tsv");

struct Entry {
    name: &'static str,
    /// Flags, map type, and the field lines.
    text: &'static str,
    parsed: OnceLock<Struct>,
}

fn table() -> &'static [Entry] {
    static TABLE: OnceLock<Vec<Entry>> = OnceLock::new();
    TABLE.get_or_init(|| {
        FACTS
            .split("\n@")
            .skip(1)
            .map(|text| {
                let end = text.find(['\t', '\n']).unwrap_or(text.len());
                Entry { name: &text[..end], text: &text[end..], parsed: OnceLock::new() }
            })
            .collect()
    })
}

/// The schema of a built-in type by its OpenAPI name, such as `io.k8s.api.core.v1.Pod`.
pub fn builtin(name: &str) -> Option<Schema> {
    find(name).map(Schema::Struct)
}

/// The OpenAPI names of all built-in types, sorted.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    table().iter().map(|entry| entry.name)
}

fn find(name: &str) -> Option<StructRef> {
    let place = table().binary_search_by(|entry| entry.name.cmp(name)).ok()?;
    u16::try_from(place).ok().map(StructRef::BuiltIn)
}

/// The struct at a place of the table.
pub(super) fn at(index: u16) -> &'static Struct {
    let entry = &table()[usize::from(index)];
    entry.parsed.get_or_init(|| parse(entry))
}

fn parse(entry: &Entry) -> Struct {
    let mut lines = entry.text.lines();
    let mut head = lines.next().unwrap_or_default().split('\t').skip(1);
    let flags = head.next().unwrap_or_default();
    let mut parsed = Struct {
        name: entry.name.to_string(),
        atomic: head.next() == Some("atomic"),
        is_object: flags.contains('T'),
        ..Struct::default()
    };
    // Numbers and, for inlined messages, their types; places are known once all fields are.
    let mut wire: Vec<(u32, Result<&str, StructRef>)> = Vec::new();
    if parsed.is_object {
        parsed.fields.extend(["apiVersion", "kind"].map(object_field));
    }
    for line in lines {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (name, of, number) = (next(), next(), next().parse().unwrap_or(0));
        let (flags, list, patch, default) = (next(), next(), next(), next());
        if name.is_empty() {
            let inner = find(of).expect("every type named in the facts is in them");
            wire.push((number, Err(inner.clone())));
            parsed.fields.extend(inner.get().fields.iter().map(copy));
            continue;
        }
        wire.push((number, Ok(name)));
        parsed.fields.push(Field {
            name: name.into(),
            schema: schema(of, list),
            omit_empty: flags.contains('?'),
            omit_zero: flags.contains('0'),
            nullable: flags.contains('*'),
            strategy: strategy(patch),
            default: serde_json::from_str(default).ok(),
        });
    }
    parsed.fields.sort_by(|a, b| a.name.cmp(&b.name));
    parsed.wire = wire
        .into_iter()
        .filter(|(number, _)| *number != 0 && !flags.contains('n'))
        .map(|(number, member)| {
            let member = match member {
                Ok(name) => Member::Field(
                    parsed
                        .fields
                        .binary_search_by(|field| (*field.name).cmp(name))
                        .expect("the field was added above"),
                ),
                Err(inner) => Member::Inline(inner),
            };
            Wire { number, member }
        })
        .collect();
    parsed.wire.sort_by_key(|wire| wire.number);
    parsed
}

fn object_field(name: &str) -> Field {
    Field {
        name: name.into(),
        schema: Schema::Scalar(Scalar::String),
        omit_empty: true,
        omit_zero: false,
        nullable: false,
        strategy: Strategy::default(),
        default: None,
    }
}

fn copy(field: &Field) -> Field {
    Field {
        name: field.name.clone(),
        schema: field.schema.clone(),
        strategy: field.strategy.clone(),
        default: field.default.clone(),
        ..*field
    }
}

fn strategy(patch: &str) -> Strategy {
    let (names, key) = patch.split_once(':').unwrap_or((patch, ""));
    let has = |name: &str| names.split(',').any(|found| found == name);
    Strategy {
        merge: has("merge"),
        retain_keys: has("retainKeys"),
        replace: has("replace"),
        merge_key: (!key.is_empty()).then(|| key.into()),
    }
}

fn schema(of: &str, kind: &str) -> Schema {
    if let Some(value) = of.strip_prefix("map[]") {
        let atomic = kind == "atomic";
        let map = Map { value: schema(value, ""), atomic, nullable_values: true };
        return Schema::Map(Arc::new(map));
    }
    if let Some(item) = of.strip_prefix("[]") {
        let list = List { item: schema(item, ""), kind: list_kind(kind), wrapped: false };
        return Schema::List(Arc::new(list));
    }
    match of {
        "string" => Schema::Scalar(Scalar::String),
        "bool" => Schema::Scalar(Scalar::Bool),
        "int32" => Schema::Scalar(Scalar::Int32),
        "int64" => Schema::Scalar(Scalar::Int64),
        "double" => Schema::Scalar(Scalar::Double),
        "bytes" => Schema::Scalar(Scalar::Bytes),
        "Quantity" => Schema::Scalar(Scalar::Quantity),
        "IntOrString" => Schema::Scalar(Scalar::IntOrString),
        "Time" => Schema::Scalar(Scalar::Time),
        "MicroTime" => Schema::Scalar(Scalar::MicroTime),
        "Duration" => Schema::Scalar(Scalar::Duration),
        "RawExtension" => Schema::Any(Any::RawExtension),
        "JSON" => Schema::Any(Any::Json),
        "FieldsV1" => Schema::Any(Any::FieldsV1),
        "JSONSchemaPropsOrArray" => Schema::Either(Either::SchemaOrArray),
        "JSONSchemaPropsOrBool" => Schema::Either(Either::SchemaOrBool),
        "JSONSchemaPropsOrStringArray" => Schema::Either(Either::SchemaOrStrings),
        "Strings" => Schema::List(Arc::new(List {
            item: Schema::Scalar(Scalar::String),
            kind: list_kind(kind),
            wrapped: true,
        })),
        name => Schema::Struct(find(name).expect("every type named in the facts is in them")),
    }
}

fn list_kind(kind: &str) -> ListKind {
    match kind.strip_prefix("map:") {
        Some(keys) => ListKind::Map(keys.split(',').map(Into::into).collect()),
        None if kind == "set" => ListKind::Set,
        None => ListKind::Atomic,
    }
}

/// The schema of a built-in kind by what its objects say of themselves, such as `apps/v1` and
/// `Deployment`. Kinds of `meta/v1` (`Status`, `DeleteOptions`, …) are found under any version.
pub fn for_kind(api_version: &str, kind: &str) -> Option<Schema> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    const IRREGULAR: [(&str, &str); 3] = [
        ("apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions"),
        ("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration"),
        ("metrics.k8s.io", "io.k8s.metrics.pkg.apis.metrics"),
    ];
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match IRREGULAR.iter().find(|(name, _)| *name == group) {
        Some((_, package)) => (*package).to_string(),
        None if group.is_empty() => "io.k8s.api.core".to_string(),
        // The package is named after the first part of the group.
        None => format!("io.k8s.api.{}", group.split('.').next().unwrap_or_default()),
    };
    builtin(&format!("{package}.{version}.{kind}")).or_else(|| builtin(&format!("{META}.{kind}")))
}
