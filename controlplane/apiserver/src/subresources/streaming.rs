//! Not served yet.

use std::sync::Arc;

use http::Request;
use objects::ApiError;

use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::server::Server;

/// Answers.
pub(super) async fn answer(
    _: &Arc<Server>,
    _: &Call,
    _: Request<Body>,
) -> Result<Answer, ApiError> {
    Err(ApiError::no_such_path())
}
