//! Assigns a pod to a node.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/pod/storage` (BindingREST), v1.36.

use objects::{ApiError, GroupResource, ObjectExt, conditions};
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::codec;
use crate::negotiate::Form;
use crate::options::WriteOptions;
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::route::Verb;
use crate::server::Server;
use crate::verbs::get;

/// `POST …/pods/NAME/binding`.
pub(super) async fn answer(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    bind(server, call, call.name(), body).await
}

/// `POST …/bindings`, the older way.
pub(super) async fn create(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    bind(server, call, "", body).await
}

async fn bind(server: &Server, call: &Call, name: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions", false)?;
    let schema = patch::schema::builtin("io.k8s.api.core.v1.Binding");
    let decoded = codec::decode_as(
        &call.headers,
        body,
        ("", "v1", "Binding"),
        schema.as_ref(),
        options.field_validation,
    )?;
    let binding = decoded.object;
    if !name.is_empty() && binding.name() != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let plain = |message: &str| Err(ApiError::new(500, "", message));
    let kind = binding.str_at(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        return plain(&format!(
            "target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""
        ));
    }
    if binding.str_at(&["target", "name"]).is_empty() {
        return plain("target.name: Required value");
    }
    let Some(pods) = call.registry.resource("", "v1", "pods").cloned() else {
        return Err(ApiError::no_such_path());
    };
    let mut on_pod = call.on(&pods, call.namespace(), binding.name(), Verb::Update);
    on_pod.path.subresource = "binding".into();
    if server.store.get(&on_pod.key(on_pod.name())).is_none() {
        return Err(on_pod.not_found());
    }
    pipeline::write(server, &on_pod, &options, &Bind(binding)).await?;
    Ok(created(form))
}

/// The Status that an action is answered with.
pub(super) fn created(form: Form) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    answer::value(201, form, &status)
}

struct Bind(Value);

impl Change for Bind {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let Some(old) = old else { return Err(call.not_found()) };
        let mut pod = old.object.clone();
        let conflict = |why: &str| {
            Err(ApiError::conflict(&GroupResource::new("", "pods/binding"), call.name(), why))
        };
        if !pod.deletion_timestamp().is_empty() {
            return conflict(&format!(
                "pod {} is being deleted, cannot be assigned to a host",
                call.name()
            ));
        }
        let node = pod.str_at(&["spec", "nodeName"]);
        if !node.is_empty() {
            let why = format!("pod {} is already assigned to node {node:?}", call.name());
            return conflict(&why);
        }
        if !pod.list_at(&["spec", "schedulingGates"]).is_empty() {
            let why = format!("pod {} has non-empty .spec.schedulingGates", call.name());
            return conflict(&why);
        }
        let uid = self.0.uid();
        if !uid.is_empty() && uid != pod.uid() {
            let found = pod.uid();
            return conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            ));
        }
        pod.set_at(&["spec", "nodeName"], json!(self.0.str_at(&["target", "name"])));
        for field in ["annotations", "labels"] {
            for (key, value) in self.0.map_at(&["metadata", field]).into_iter().flatten() {
                pod.set_at(&["metadata", field, key], value.clone());
            }
        }
        let mut list = pod.list_at(&["status", "conditions"]).to_vec();
        let scheduled = conditions::Condition {
            kind: "PodScheduled",
            status: "True",
            reason: "",
            message: "",
            observed_generation: 0,
        };
        conditions::set(&mut list, &scheduled, call.now);
        pod.set_at(&["status", "conditions"], Value::Array(list));
        Ok(Produced { object: pod, ownership: Ownership::Keep, warnings: Vec::new() })
    }
}
