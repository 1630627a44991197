//! The `scale` subresource: the wanted number of replicas of any kind that has one.

use kinds::{ScalePaths, ScaleSelector};
use objects::selector::Selector;
use objects::{ApiError, FieldErrors, FieldPath, GroupKind, ObjectExt};
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::codec;
use crate::crd;
use crate::options::WriteOptions;
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::route::Verb;
use crate::router::method_not_allowed;
use crate::server::Server;
use crate::verbs::{create, get, patch as patches, update};

/// Answers a request on a scale.
pub(super) async fn answer(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let Some(paths) = call.kind.behaviour.scale() else { return Err(ApiError::no_such_path()) };
    match call.verb {
        Verb::Get => {
            let record =
                server.store.get(&call.key(call.name())).ok_or_else(|| call.not_found())?;
            crd::convert::prepare(server, call, [&record]).await?;
            let scale = show(&call.object(&record), &paths);
            Ok(answer::value(200, form, &scale))
        }
        Verb::Update | Verb::Patch => {
            let kind = if call.verb == Verb::Update { "UpdateOptions" } else { "PatchOptions" };
            let apply = patches::is_apply(call);
            let options = WriteOptions::parse(&call.query, kind, apply)?;
            let change = change(call, body, &options, paths.clone())?;
            let written = pipeline::write(server, call, &options, &change).await?;
            let scale = show(&written.object, &paths);
            let mut answer = answer::value(200, form, &scale);
            answer::warn(&mut answer, &written.warnings);
            Ok(answer)
        }
        _ => Err(method_not_allowed()),
    }
}

fn get_path<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    object.at(&path)
}

/// The scale of an object.
pub(crate) fn show(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &[String]| get_path(object, path).and_then(Value::as_i64).unwrap_or(0);
    let wanted = number(&paths.spec_replicas);
    let selector = match &paths.selector {
        ScaleSelector::LabelSelector(path) => Selector::from_label_selector(get_path(object, path))
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
        ScaleSelector::Labels(path) => {
            let labels = get_path(object, path).and_then(Value::as_object);
            Selector::from_map(labels).to_string()
        }
        ScaleSelector::Text(path) => {
            get_path(object, path).and_then(Value::as_str).unwrap_or_default().to_string()
        }
        ScaleSelector::None => String::new(),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata[field] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": {"replicas": number(&paths.status_replicas)},
    });
    if wanted != 0 {
        scale["spec"]["replicas"] = json!(wanted);
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

enum Source {
    /// The whole scale, sent.
    Sent(Value),
    /// A patch of the scale.
    Patch(patches::Patch),
}

struct Rescale {
    source: Source,
    paths: ScalePaths,
}

fn change(
    call: &Call,
    body: &[u8],
    options: &WriteOptions,
    paths: ScalePaths,
) -> Result<Rescale, ApiError> {
    let source = match call.verb {
        Verb::Update => {
            let schema = patch::schema::builtin("io.k8s.api.autoscaling.v1.Scale");
            let expected = ("autoscaling", "v1", "Scale");
            let validation = options.field_validation;
            let decoded =
                codec::decode_as(&call.headers, body, expected, schema.as_ref(), validation)?;
            update::check_name(call, decoded.object.name())?;
            create::check_namespace(call, &decoded.object)?;
            Source::Sent(decoded.object)
        }
        _ => Source::Patch(patches::Patch::parse(call, body)?),
    };
    Ok(Rescale { source, paths })
}

impl Change for Rescale {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let Some(old) = old else { return Err(call.not_found()) };
        let schema = patch::schema::builtin("io.k8s.api.autoscaling.v1.Scale");
        let scale = match &self.source {
            Source::Sent(scale) => scale.clone(),
            Source::Patch(patch) => {
                patch.apply_to(&show(&old.object, &self.paths), schema.as_ref())?
            }
        };
        validate(&scale, call.name())?;
        let version = scale.resource_version();
        if !version.is_empty() && version != old.object.resource_version() {
            return Err(ApiError::modified(&call.resource(), call.name()));
        }
        let uid = scale.uid();
        if !uid.is_empty() && uid != old.object.uid() {
            let found = old.object.uid();
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            );
            return Err(ApiError::conflict(&call.resource(), call.name(), &why));
        }
        let mut object = old.object.clone();
        let path: Vec<&str> = self.paths.spec_replicas.iter().map(String::as_str).collect();
        let wanted = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
        object.set_at(&path, json!(wanted));
        Ok(Produced { object, ownership: Ownership::Update, warnings: Vec::new() })
    }
}

fn validate(scale: &Value, name: &str) -> Result<(), ApiError> {
    let wanted = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
    if wanted >= 0 {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    let at = FieldPath::new("spec").child("replicas");
    errors.invalid(&at, &json!(wanted), "must be greater than or equal to 0");
    let kind = GroupKind { group: "autoscaling".into(), kind: "Scale".into() };
    Err(ApiError::invalid(&kind, name, &errors))
}
