//! Not served yet.

use std::sync::Arc;

use objects::ApiError;

use crate::answer::Answer;
use crate::call::Call;
use crate::server::Server;

/// Answers.
pub(super) async fn answer(_: &Arc<Server>, _: &Call) -> Result<Answer, ApiError> {
    Err(ApiError::no_such_path())
}
