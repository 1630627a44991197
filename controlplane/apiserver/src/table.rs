//! Objects as `meta.k8s.io/v1 Table` rows and as `PartialObjectMetadata`.

use jiff::Timestamp;
use kinds::Kind;
use objects::{ApiError, ObjectExt};
use serde_json::{Map, Value, json};

use crate::query::Query;

/// How much of each object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata; the default.
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads `includeObject`.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                 must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// `columnDefinitions` of a kind.
pub(crate) fn columns(kind: &Kind) -> Value {
    kind.columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// One row.
pub(crate) fn row(kind: &Kind, object: Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells = kind.behaviour.cells(&object, now);
    let mut row = json!({"cells": cells});
    row["object"] = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial(&object),
        IncludeObject::Object => object,
    };
    row
}

/// A table of rows; `metadata` is the list's or object's.
pub(crate) fn table(metadata: Value, columns: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The metadata that a table of one object has.
pub(crate) fn object_metadata(object: &Value) -> Value {
    let mut metadata = Map::new();
    if !object.resource_version().is_empty() {
        metadata.insert("resourceVersion".into(), json!(object.resource_version()));
    }
    Value::Object(metadata)
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}
