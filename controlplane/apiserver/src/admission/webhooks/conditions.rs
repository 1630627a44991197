//! `matchConditions`: expressions that all have to hold for a webhook to be called.

use objects::ObjectExt as _;

use super::Subject;
use super::hook::Hook;

/// Whether the conditions of a webhook hold; the error is why that cannot be told. A webhook whose
/// conditions are not evaluated is called: it may decide for itself.
pub(super) fn hold(hook: &Hook, _subject: Subject<'_>) -> Result<bool, String> {
    if !hook.spec.list_at(&["matchConditions"]).is_empty() {
        tracing::debug!(webhook = hook.name, "match conditions are not evaluated");
    }
    Ok(true)
}
