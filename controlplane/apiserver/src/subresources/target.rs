//! Which container of which pod a request is about.

use objects::{ApiError, ObjectExt};
use serde_json::Value;

use super::kubelet::{self, Place};
use crate::call::Call;
use crate::server::Server;

/// A pod that runs somewhere.
pub(super) struct Target {
    /// The pod.
    pub(super) pod: Value,
    /// Where its kubelet listens.
    pub(super) place: Place,
}

/// The pod in the path, and its kubelet.
pub(super) fn target(server: &Server, call: &Call) -> Result<Target, ApiError> {
    let record = server.store.get(&call.key(call.name())).ok_or_else(|| call.not_found())?;
    let pod = call.object(&record);
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            call.name()
        )));
    }
    let place = kubelet::place(server, node)?;
    Ok(Target { pod, place })
}

/// The container asked for, or the only one; else 400 with the names there are.
pub(super) fn container(call: &Call, pod: &Value) -> Result<String, ApiError> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.list_at(&["spec", field]);
        list.iter().map(|one| one.str_at(&["name"]).to_string()).collect()
    };
    let main = names("containers");
    let init = names("initContainers");
    let ephemeral = names("ephemeralContainers");
    let asked = call.query.text("container");
    if !asked.is_empty() {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|name| name == asked);
        return if known {
            Ok(asked.to_string())
        } else {
            Err(ApiError::bad_request(format!(
                "container {asked} is not valid for pod {}",
                call.name()
            )))
        };
    }
    let default =
        pod.annotations().and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
    if let Some(name) =
        default.and_then(Value::as_str).filter(|name| main.iter().any(|one| one == name))
    {
        return Ok(name.to_string());
    }
    if let [only] = main.as_slice()
        && init.is_empty()
        && ephemeral.is_empty()
    {
        return Ok(only.clone());
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    let mut text = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        call.name(),
        main.join(" ")
    );
    if !init.is_empty() {
        text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    if !ephemeral.is_empty() {
        text.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
    }
    Err(ApiError::bad_request(text))
}
