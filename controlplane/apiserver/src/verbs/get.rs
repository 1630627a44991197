//! Reads one object.

use objects::ApiError;
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::negotiate::{Encoding, Form, Offers, Shape};
use crate::server::Server;
use crate::{crd, negotiate, table};

/// The form of an answer that shows one object.
pub(crate) fn form(call: &Call) -> Result<Form, ApiError> {
    let protobuf = call.kind.definition.is_none();
    let pretty = call.query.get("pretty");
    let form = negotiate::accept(&call.headers, pretty, Offers::Object, protobuf)?;
    if form.shape == Shape::Table {
        table::IncludeObject::parse(&call.query)?;
    }
    Ok(form)
}

/// Answers a `get`.
pub(crate) async fn get(server: &Server, call: &Call) -> Result<Answer, ApiError> {
    let form = form(call)?;
    server.reach(call.query.text("resourceVersion")).await?;
    let record = server.store.get(&call.key(call.name())).ok_or_else(|| call.not_found())?;
    crd::convert::prepare(server, call, [&record]).await?;
    let plain = form.encoding == Encoding::Json && form.shape == Shape::Whole && !form.pretty;
    if plain {
        let json = call.view.json(&call.kind, &record);
        return Ok(answer::bytes(200, Encoding::Json.media_type(), json));
    }
    show(call, form, 200, call.object(&record))
}

/// Answers with an object, in the wanted shape.
pub(crate) fn show(
    call: &Call,
    form: Form,
    status: u16,
    object: Value,
) -> Result<Answer, ApiError> {
    let shown = match form.shape {
        Shape::Whole => return Ok(answer::object(status, form, &call.kind, &object)),
        Shape::Table => {
            let include = table::IncludeObject::parse(&call.query)?;
            let metadata = table::object_metadata(&object);
            let rows = vec![table::row(&call.kind, object, include, call.now)];
            table::table(metadata, table::columns(&call.kind), rows)
        }
        Shape::Partial | Shape::PartialList => table::partial(&object),
    };
    Ok(answer::value(status, form, &shown))
}
