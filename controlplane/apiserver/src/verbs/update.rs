//! Replaces an object.

use objects::{ApiError, ObjectExt};

use crate::answer::Answer;
use crate::call::Call;
use crate::codec::{self, Decoded};
use crate::options::WriteOptions;
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::server::Server;
use crate::verbs::{create, get};

/// Answers an `update` of an object or of the part that a subresource shows.
pub(crate) async fn update(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "UpdateOptions", false)?;
    let mut decoded = codec::decode_body(server, call, body, &options)?;
    check_name(call, decoded.object.name())?;
    create::check_namespace(call, &decoded.object)?;
    if call.kind.namespaced() {
        // One that is not named is the path's.
        decoded.object.set_at(&["metadata", "namespace"], call.namespace().into());
    }
    let written = pipeline::write(server, call, &options, &Update(decoded)).await?;
    create::answer(call, form, written)
}

/// The name in a body must be the path's.
pub(crate) fn check_name(call: &Call, sent: &str) -> Result<(), ApiError> {
    let wanted = call.name();
    if sent.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be \
             provided"
        )));
    }
    if sent != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({sent}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}

/// 500 for a resource version in an object that is no number, as upstream answers.
pub(crate) fn unreadable_version(version: &str) -> ApiError {
    ApiError::internal(format!(
        "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: \
         invalid syntax"
    ))
}

/// The object becomes what was sent.
struct Update(Decoded);

impl Change for Update {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let may_create =
            call.kind.behaviour.creates_on_update() && call.path.subresource.is_empty();
        if old.is_none() && !may_create {
            return Err(call.not_found());
        }
        if old.is_none() && !self.0.object.uid().is_empty() {
            return Err(call.not_found());
        }
        Ok(Produced {
            object: self.0.object.clone(),
            ownership: Ownership::Update,
            warnings: self.0.warnings.clone(),
        })
    }
}
