//! Limit ranges.

use objects::ApiError;
use serde_json::Value;

use super::Admission;

/// Fills in default requests and limits.
pub(super) fn set_defaults(_admission: &Admission<'_>, _pod: &mut Value) {}

/// Refuses a pod outside the limits.
pub(super) fn check(_admission: &Admission<'_>, _pod: &Value) -> Result<(), ApiError> {
    Ok(())
}
