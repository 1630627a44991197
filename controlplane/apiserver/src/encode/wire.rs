//! Lists in Kubernetes' protobuf.

use std::sync::Arc;

use bytes::Bytes;
use patch::protobuf::{EncodeError, ListWriter};
use serde_json::Value;
use store::Record;

/// Bytes of items per piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The pieces of a list. `list` is the list without its items, `show` makes the item of a record.
///
/// A message begins with its length, so all items are written before the first byte can be sent;
/// but only one object at a time is parsed, and other tasks run between two pieces.
///
/// # Errors
/// [`EncodeError`] for an object that does not fit its schema.
pub(crate) async fn list(
    writer: &ListWriter,
    list: &Value,
    records: &[Arc<Record>],
    show: impl Fn(&Record) -> Value,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut pieces = vec![Bytes::new()];
    let mut len = 0;
    let mut piece = Vec::new();
    for record in records {
        writer.item(&mut piece, &show(record))?;
        if piece.len() >= PIECE_BYTES {
            len += piece.len();
            pieces.push(std::mem::take(&mut piece).into());
            tokio::task::yield_now().await;
        }
    }
    len += piece.len();
    piece.extend_from_slice(ListWriter::END);
    pieces.push(piece.into());
    pieces[0] = writer.start(list, len)?.into();
    Ok(pieces)
}
