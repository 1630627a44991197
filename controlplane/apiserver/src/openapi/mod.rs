//! Published schemas.

use http::HeaderMap;

use crate::answer::Answer;
use crate::query::Query;
use crate::server::Server;

/// Published schemas, made when first asked for.
#[derive(Debug, Default)]
pub struct OpenApi;

/// Answers what is below `/openapi`; `None` for an unknown path.
pub fn answer(
    _server: &Server,
    _headers: &HeaderMap,
    _path: &str,
    _query: &Query,
) -> Option<Answer> {
    None
}
