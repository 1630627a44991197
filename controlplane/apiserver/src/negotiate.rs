//! `Accept` and `Content-Type`: which form an answer takes, which form a body has.
//!
//! Source of behaviour: kubernetes apiserver `pkg/endpoints/handlers/negotiation`, v1.36.

use http::HeaderMap;
use objects::ApiError;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Media type of Kubernetes protobuf.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl Encoding {
    /// The `Content-Type` of an answer.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// What an object is turned into before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Whole,
    /// `meta.k8s.io/v1 Table`; the flag says whether the client asked for the v1beta1 name.
    Table,
    /// `PartialObjectMetadata`.
    Partial,
    /// `PartialObjectMetadataList`.
    PartialList,
}

/// The chosen form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// How it is written.
    pub encoding: Encoding,
    /// What it is.
    pub shape: Shape,
    /// Whether JSON is indented.
    pub pretty: bool,
}

impl Form {
    /// Plain JSON.
    pub(crate) const JSON: Self =
        Self { encoding: Encoding::Json, shape: Shape::Whole, pretty: false };
}

/// Which shapes a handler can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offers {
    /// One object: whole, Table, PartialObjectMetadata.
    Object,
    /// A list: whole, Table, PartialObjectMetadataList.
    List,
    /// A stream of events on objects: whole, Table, PartialObjectMetadata.
    Watch,
    /// Whole objects only.
    Whole,
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> = Vec::new();
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let Some((kind, subtype)) = parts.next().and_then(|media| media.split_once('/')) else {
            continue;
        };
        let params: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = params
            .iter()
            .find(|(key, _)| *key == "q")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(1.0);
        out.push(Clause { kind, subtype, params, quality });
    }
    // Stable, so equal qualities keep the client's order.
    out.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    out
}

fn encoding_of(clause: &Clause<'_>, protobuf: bool) -> Option<Encoding> {
    match (clause.kind, clause.subtype) {
        ("*", "*") | ("application", "json") => Some(Encoding::Json),
        ("application", "yaml") => Some(Encoding::Yaml),
        ("application", "vnd.kubernetes.protobuf") if protobuf => Some(Encoding::Protobuf),
        _ => None,
    }
}

fn shape_of(clause: &Clause<'_>, offers: Offers) -> Option<Shape> {
    let (what, group, version) = (clause.param("as"), clause.param("g"), clause.param("v"));
    if what.is_empty() {
        return Some(Shape::Whole);
    }
    if offers == Offers::Whole || group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
        return None;
    }
    match what {
        "Table" => Some(Shape::Table),
        "PartialObjectMetadata" if matches!(offers, Offers::Object | Offers::Watch) => {
            Some(Shape::Partial)
        }
        "PartialObjectMetadataList" if offers == Offers::List => Some(Shape::PartialList),
        _ => None,
    }
}

/// Chooses the form of an answer. `protobuf` says whether the kind has a protobuf form.
pub(crate) fn accept(
    headers: &HeaderMap,
    pretty: Option<&str>,
    offers: Offers,
    protobuf: bool,
) -> Result<Form, ApiError> {
    let header = headers
        .get_all(http::header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    let pretty = match pretty {
        Some(value) => !(value == "0" || value.eq_ignore_ascii_case("false")),
        None => from_a_terminal_or_browser(headers),
    };
    if header.trim().is_empty() {
        return Ok(Form { pretty, ..Form::JSON });
    }
    let known = |clause: &Clause<'_>| encoding_of(clause, protobuf).is_some();
    if !clauses(&header).iter().any(known) {
        return Err(no_representation(protobuf));
    }
    for clause in clauses(&header) {
        let Some(encoding) = encoding_of(&clause, protobuf) else { continue };
        let Some(shape) = shape_of(&clause, offers) else { continue };
        let pretty = pretty || clause.param("pretty") == "1";
        return Ok(Form { encoding, shape, pretty });
    }
    Err(not_acceptable(protobuf))
}

// People who read with curl, wget or a browser get indented JSON.
fn from_a_terminal_or_browser(headers: &HeaderMap) -> bool {
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|start| agent.starts_with(start))
}

fn representations(protobuf: bool) -> Vec<&'static str> {
    let mut types = vec!["application/json", "application/yaml"];
    if protobuf {
        types.push(PROTOBUF);
    }
    types
}

/// 406 for media types of which none is served, in the words of upstream's router.
fn no_representation(protobuf: bool) -> ApiError {
    let types = representations(protobuf).join(", ");
    let message = format!("406: Not Acceptable\n\nAvailable representations: {types}");
    let mut error = ApiError::new(406, "NotAcceptable", message);
    error.details = Some(serde_json::json!({}));
    error
}

/// 406 for a form of a served media type that there is not.
fn not_acceptable(protobuf: bool) -> ApiError {
    let types = representations(protobuf);
    ApiError::new(
        406,
        "NotAcceptable",
        format!("only the following media types are accepted: {}", types.join(", ")),
    )
}

/// The media type of a body without its parameters, lower case; empty if none was sent.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// The encoding of a body; no `Content-Type` means JSON.
pub(crate) fn body_encoding(headers: &HeaderMap, protobuf: bool) -> Result<Encoding, ApiError> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        PROTOBUF if protobuf => Ok(Encoding::Protobuf),
        _ => Err(unsupported_media_type(&representations(protobuf))),
    }
}

/// 415 that lists what is understood.
pub(crate) fn unsupported_media_type(types: &[&str]) -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            types.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests;

/// 415 for a patch of a type that no route takes, in the words of upstream's router.
pub(crate) fn unknown_patch_type() -> ApiError {
    let mut error = ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
    error.details = Some(serde_json::json!({}));
    error
}
