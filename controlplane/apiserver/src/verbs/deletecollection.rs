//! Deletes every selected object of a collection.

use objects::{ApiError, ObjectExt};
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::encode;
use crate::route::Verb;
use crate::select::Selection;
use crate::server::Server;
use crate::verbs::{delete, get, list};

/// Answers a `deletecollection` with the list of what was there.
pub(crate) async fn delete_collection(
    server: &Server,
    call: &Call,
    body: &[u8],
) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    list::validate(call, false)?;
    let options = delete::options(call, body)?;
    let selection = Selection::parse(&call.query, &call.kind)?;
    let found = list::find(server, call, &selection).await?;
    let mut items: Vec<Value> = Vec::new();
    for record in &found.records {
        let object = call.object(record);
        let one = call.on(&call.kind, object.namespace(), object.name(), Verb::Delete);
        match delete::remove(server, &one, &options).await {
            Ok(_) => {}
            // Gone already is as good.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
        let mut object = object;
        if call.kind.definition.is_none() {
            encode::strip_type(&mut object);
        }
        items.push(object);
    }
    let list = json!({
        "kind": call.kind.names.list_kind,
        "apiVersion": call.kind.api_version(),
        "metadata": {"resourceVersion": server.store.revision().to_string()},
        "items": items,
    });
    Ok(answer::list(form, &call.kind, &list))
}
