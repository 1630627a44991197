//! The structure of every type: what fields there are, how lists and maps merge, how values look
//! on the wire. One compact, shared graph; built-in types are read from `facts/fields.tsv` when
//! first used, custom resources from their CRD.

mod custom;
mod facts;

use std::sync::Arc;

use serde_json::Value;

pub use custom::custom;
pub use facts::{builtin, builtin_names, for_kind};

/// The type of a value. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Schema {
    /// A leaf.
    Scalar(Scalar),
    /// A list.
    List(Arc<List>),
    /// A map with free keys.
    Map(Arc<Map>),
    /// A map with fields.
    Struct(StructRef),
    /// Any JSON.
    Any(Any),
    /// One of two forms; only within CRDs' own OpenAPI schemas.
    Either(Either),
}

/// Leaf types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// UTF-8 text.
    String,
    /// Boolean.
    Bool,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Floating-point number.
    Double,
    /// Base64 in JSON.
    Bytes,
    /// `resource.Quantity`: a string or number, kept in its canonical text.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    /// Go's duration text, such as `1m30s`.
    Duration,
    /// A custom resource's leaf, whose type is checked by validation (and by server-side apply), not
    /// by decoding.
    Custom(Leaf),
}

/// What a custom resource's leaf may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// `string`.
    String,
    /// `integer` or `number`.
    Number,
    /// `boolean`.
    Bool,
    /// `x-kubernetes-int-or-string`.
    Any,
}

/// Where free-form JSON comes from; the forms differ in protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Any {
    /// `runtime.RawExtension`.
    RawExtension,
    /// `apiextensions.JSON`.
    Json,
    /// `metav1.FieldsV1`.
    FieldsV1,
    /// `x-kubernetes-preserve-unknown-fields` without a type.
    Custom,
}

/// Types with two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either {
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of strings.
    SchemaOrStrings,
}

/// A list type.
#[derive(Debug)]
pub struct List {
    /// Type of the items.
    pub item: Schema,
    /// How server-side apply merges it.
    pub kind: ListKind,
    /// Whether protobuf wraps the list in a message of its own.
    pub wrapped: bool,
}

/// How server-side apply merges a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// As one value.
    Atomic,
    /// Scalars, each there or not.
    Set,
    /// Structs, identified by these keys.
    Map(Vec<Box<str>>),
}

/// A map type with free keys.
#[derive(Debug)]
pub struct Map {
    /// Type of the values.
    pub value: Schema,
    /// Whether server-side apply takes it as one value.
    pub atomic: bool,
    /// Whether null is a value; in a custom resource other nulls are dropped.
    pub nullable_values: bool,
}

/// A struct type.
#[derive(Debug, Default)]
pub struct Struct {
    /// OpenAPI name, empty within custom resources.
    pub name: String,
    /// Fields in JSON, those of inlined structs included, sorted by name.
    pub fields: Vec<Field>,
    /// Whether server-side apply takes it as one value.
    pub atomic: bool,
    /// Whether unknown fields are kept.
    pub preserves_unknown: bool,
    /// Whether `kind` and `apiVersion` are among the fields.
    pub is_object: bool,
    /// What protobuf sees, in ascending order of numbers; empty if the type has no message.
    pub wire: Vec<Wire>,
}

/// A field of a struct.
#[derive(Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: Box<str>,
    /// Type.
    pub schema: Schema,
    /// Left out of JSON when empty.
    pub omit_empty: bool,
    /// Left out of JSON when zero, which for a time is `null`.
    pub omit_zero: bool,
    /// May be null: absent differs from zero.
    pub nullable: bool,
    /// How strategic merge treats it.
    pub strategy: Strategy,
    /// Default.
    pub default: Option<Value>,
}

/// How strategic merge treats a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strategy {
    /// Lists are merged, not replaced.
    pub merge: bool,
    /// `$retainKeys` may be given for it.
    pub retain_keys: bool,
    /// The field is replaced as a whole.
    pub replace: bool,
    /// Key of the items of a merged list of structs.
    pub merge_key: Option<Box<str>>,
}

/// A field as protobuf sees it.
#[derive(Debug)]
pub struct Wire {
    /// Field number.
    pub number: u32,
    /// What is there.
    pub member: Member,
}

/// What a protobuf field holds.
#[derive(Debug)]
pub enum Member {
    /// The field at this place of [`Struct::fields`].
    Field(usize),
    /// A message whose fields are, in JSON, fields of the outer struct.
    Inline(StructRef),
}

/// A struct type, wherever it lives.
#[derive(Debug, Clone)]
pub enum StructRef {
    /// A built-in one, by its place in the table.
    BuiltIn(u16),
    /// One of a custom resource.
    Custom(Arc<Struct>),
}

impl StructRef {
    /// The struct.
    pub fn get(&self) -> &Struct {
        match self {
            Self::BuiltIn(index) => facts::at(*index),
            Self::Custom(shared) => shared,
        }
    }
}

impl Schema {
    /// The struct, if this is one.
    pub fn as_struct(&self) -> Option<&Struct> {
        match self {
            Self::Struct(reference) => Some(reference.get()),
            Self::Scalar(_) | Self::List(_) | Self::Map(_) | Self::Any(_) | Self::Either(_) => None,
        }
    }

    /// The type of a field or of a map's value; `None` if there is no such field.
    pub fn child(&self, key: &str) -> Option<&Self> {
        const ANY: &Schema = &Schema::Any(Any::Custom);
        match self {
            Self::Struct(reference) => {
                let structure = reference.get();
                let field = structure.field(key).map(|field| &field.schema);
                field.or(if structure.preserves_unknown { Some(ANY) } else { None })
            }
            Self::Map(map) => Some(&map.value),
            Self::Any(_) => Some(ANY),
            Self::Scalar(_) | Self::List(_) | Self::Either(_) => None,
        }
    }
}

impl Struct {
    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let place = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        Some(&self.fields[place])
    }

    /// The name Go's messages use, such as `PodSpec`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The name with its Go package, such as `v1.PodSpec`.
    pub fn go_name(&self) -> &str {
        let dots = self.name.rmatch_indices('.').nth(1);
        dots.map_or(self.name.as_str(), |(place, _)| &self.name[place + 1..])
    }
}

/// The built-in schema of `metadata`.
pub fn object_meta() -> Schema {
    builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("it is in the table")
}

#[cfg(test)]
mod tests;
