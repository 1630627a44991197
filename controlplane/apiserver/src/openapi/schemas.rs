//! Types as OpenAPI schemas, each once, with everything they refer to.

use std::collections::BTreeMap;

use kinds::Kind;
use patch::Schema;
use patch::schema::{Any, Either, Field, Leaf, ListKind, Scalar, Struct};
use serde_json::{Map, Value, json};

use super::custom::{self, ObjectFields};
use super::descriptions::Descriptions;
use crate::server::Server;

/// Which OpenAPI is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `definitions`, references with siblings.
    V2,
    /// `components.schemas`, references in `allOf`.
    V3,
}

/// The schemas of a document, being gathered.
pub(super) struct Schemas<'a> {
    server: &'a Server,
    dialect: Dialect,
    descriptions: Descriptions,
    done: BTreeMap<String, Value>,
    waiting: Vec<String>,
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

impl<'a> Schemas<'a> {
    pub(super) fn new(server: &'a Server, dialect: Dialect) -> Self {
        Self {
            server,
            dialect,
            descriptions: Descriptions::unpack(),
            done: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// The schemas that were asked for, and all they refer to.
    pub(super) fn finish(mut self) -> BTreeMap<String, Value> {
        while let Some(name) = self.waiting.pop() {
            if !self.done.contains_key(&name) {
                let made = self.named(&name);
                self.done.insert(name, made);
            }
        }
        self.done
    }

    /// A reference to a kind's objects (or its lists), which are then in the document.
    pub(super) fn kind(&mut self, kind: &Kind, list: bool) -> Value {
        let names = &kind.names;
        let (name, kind_name) = match (kind.definition.is_some(), list) {
            (false, false) => (kind.schema.clone(), &names.kind),
            (false, true) => (format!("{}List", kind.schema), &names.list_kind),
            (true, false) => (custom_name(kind, &names.kind), &names.kind),
            (true, true) => (custom_name(kind, &names.list_kind), &names.list_kind),
        };
        if !self.done.contains_key(&name) {
            let mut made = match (kind.definition.is_some(), list) {
                (false, _) => self.named(&name),
                (true, false) => self.custom(kind),
                (true, true) => self.custom_list(kind),
            };
            made["x-kubernetes-group-version-kind"] =
                json!([{"group": names.group, "version": names.version, "kind": kind_name}]);
            self.done.insert(name.clone(), made);
        }
        json!({"$ref": self.address(&name)})
    }

    fn address(&self, name: &str) -> String {
        match self.dialect {
            Dialect::V2 => format!("#/definitions/{name}"),
            Dialect::V3 => format!("#/components/schemas/{name}"),
        }
    }

    fn custom(&mut self, kind: &Kind) -> Value {
        let fields = self.object_fields(OBJECT_META);
        let version = self.server.schemas.definitions.version(kind);
        let openapi = version.map_or(Value::Null, |version| version.openapi());
        let mut made = custom::publish(openapi, self.dialect, &fields);
        let selectable = kind.behaviour.custom_fields(&Value::Null);
        if !selectable.is_empty() {
            let paths = selectable.iter().map(|(name, _)| json!({"fieldPath": name}));
            made["x-kubernetes-selectable-fields"] = paths.collect();
        }
        made
    }

    /// The fields of every object, in the words of a built-in type.
    fn object_fields(&mut self, metadata: &str) -> ObjectFields {
        let mut reference = self.reference(metadata);
        if self.dialect == Dialect::V3 {
            reference = json!({"allOf": [reference]});
        }
        let known = self.descriptions.of("io.k8s.api.core.v1.Pod");
        let text = |name: &str| {
            let field = known.and_then(|known| known.field(name));
            field.map(|field| field.text.clone()).unwrap_or_default()
        };
        reference["description"] = text("metadata").into();
        ObjectFields {
            api_version: json!({"type": "string", "description": text("apiVersion")}),
            kind: json!({"type": "string", "description": text("kind")}),
            metadata: reference,
        }
    }

    fn custom_list(&mut self, kind: &Kind) -> Value {
        let item = self.kind(kind, false);
        let fields = self.object_fields("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
        json!({
            "description": format!("{} is a list of {}", kind.names.list_kind, kind.names.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": fields.api_version,
                "kind": fields.kind,
                "metadata": fields.metadata,
                "items": {"type": "array", "items": item},
            },
        })
    }

    /// A reference to a named type, which will be in the document.
    pub(super) fn reference(&mut self, name: &str) -> Value {
        self.waiting.push(name.to_string());
        json!({"$ref": self.address(name)})
    }

    fn named(&mut self, name: &str) -> Value {
        if let Some(leaf) = self.leaf(name) {
            return leaf;
        }
        match patch::schema::builtin(name) {
            Some(Schema::Struct(found)) => self.structure(found.get()),
            _ => json!({"type": "object"}),
        }
    }

    /// Named types that are no structs.
    fn leaf(&self, name: &str) -> Option<Value> {
        let v3 = self.dialect == Dialect::V3;
        Some(match name {
            QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            QUANTITY => json!({"type": "string"}),
            INT_OR_STRING if v3 => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            INT_OR_STRING => json!({"format": "int-or-string", "type": "string"}),
            TIME | MICRO_TIME => json!({"format": "date-time", "type": "string"}),
            RAW_EXTENSION | FIELDS_V1 => json!({"type": "object"}),
            JSON => json!({}),
            _ => return None,
        })
    }

    fn structure(&mut self, structure: &Struct) -> Value {
        let mut out = Map::new();
        out.insert("type".into(), json!("object"));
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in &structure.fields {
            let mut made = self.field(field);
            let known =
                self.descriptions.of(&structure.name).and_then(|all| all.field(&field.name));
            if let Some(known) = known {
                made["description"] = json!(known.text);
                if known.required {
                    required.push(field.name.to_string());
                }
            }
            properties.insert(field.name.to_string(), made);
        }
        if let Some(known) = self.descriptions.of(&structure.name)
            && !known.text.is_empty()
        {
            out.insert("description".into(), json!(known.text));
        }
        if !properties.is_empty() {
            out.insert("properties".into(), Value::Object(properties));
        }
        if !required.is_empty() {
            out.insert("required".into(), json!(required));
        }
        if structure.atomic {
            out.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        if structure.preserves_unknown {
            out.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
        }
        Value::Object(out)
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut made = self.value(&field.schema);
        if made.get("$ref").is_some() && self.dialect == Dialect::V3 {
            made = json!({"allOf": [made]});
        }
        if let Some(default) = &field.default {
            made["default"] = default.clone();
        }
        let strategy = &field.strategy;
        let mut words = Vec::new();
        if strategy.merge {
            words.push("merge");
        }
        if strategy.retain_keys {
            words.push("retainKeys");
        }
        if strategy.replace {
            words.push("replace");
        }
        if !words.is_empty() {
            made["x-kubernetes-patch-strategy"] = json!(words.join(","));
        }
        if let Some(key) = &strategy.merge_key {
            made["x-kubernetes-patch-merge-key"] = json!(key);
        }
        made
    }

    fn value(&mut self, schema: &Schema) -> Value {
        match schema {
            Schema::Scalar(scalar) => self.scalar(*scalar),
            Schema::List(list) => {
                let mut out = json!({"type": "array", "items": self.value(&list.item)});
                match &list.kind {
                    ListKind::Atomic => out["x-kubernetes-list-type"] = json!("atomic"),
                    ListKind::Set => out["x-kubernetes-list-type"] = json!("set"),
                    ListKind::Map(keys) => {
                        out["x-kubernetes-list-type"] = json!("map");
                        out["x-kubernetes-list-map-keys"] = json!(keys);
                    }
                }
                out
            }
            Schema::Map(map) => {
                let mut out =
                    json!({"type": "object", "additionalProperties": self.value(&map.value)});
                if map.atomic {
                    out["x-kubernetes-map-type"] = json!("atomic");
                }
                out
            }
            Schema::Struct(found) => {
                let structure = found.get();
                if structure.name.is_empty() {
                    self.structure(structure)
                } else {
                    self.reference(&structure.name)
                }
            }
            Schema::Any(any) => match any {
                Any::RawExtension => self.reference(RAW_EXTENSION),
                Any::FieldsV1 => self.reference(FIELDS_V1),
                Any::Json => self.reference(JSON),
                Any::Custom => json!({"x-kubernetes-preserve-unknown-fields": true}),
            },
            Schema::Either(
                Either::SchemaOrArray | Either::SchemaOrBool | Either::SchemaOrStrings,
            ) => {
                json!({})
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        match scalar {
            Scalar::String | Scalar::Duration | Scalar::Custom(Leaf::String) => {
                json!({"type": "string"})
            }
            Scalar::Bool | Scalar::Custom(Leaf::Bool) => json!({"type": "boolean"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Custom(Leaf::Number) => json!({"type": "number"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Custom(Leaf::Any) => json!({"x-kubernetes-int-or-string": true}),
            Scalar::Quantity => self.reference(QUANTITY),
            Scalar::IntOrString => self.reference(INT_OR_STRING),
            Scalar::Time => self.reference(TIME),
            Scalar::MicroTime => self.reference(MICRO_TIME),
        }
    }
}

/// `com.example.v1.Widget`: the group's parts reversed, as upstream names custom resources' types.
fn custom_name(kind: &Kind, name: &str) -> String {
    let mut parts: Vec<&str> = kind.names.group.split('.').rev().collect();
    parts.push(&kind.names.version);
    parts.push(name);
    parts.join(".")
}
