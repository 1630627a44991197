//! Resource quotas.

use objects::ApiError;
use serde_json::Value;

use super::Admission;

/// Refuses an object that would exceed a quota of its namespace.
pub(super) fn check(_admission: &Admission<'_>, _new: &Value) -> Result<(), ApiError> {
    Ok(())
}
