//! Events are kept for a while only.

use crate::call::Call;
use crate::server::Server;

/// When an Event is swept away.
pub(super) fn expiry_secs(server: &Server, call: &Call) -> Option<u64> {
    let names = &call.kind.names;
    let event = names.plural == "events" && matches!(names.group.as_str(), "" | "events.k8s.io");
    let now = u64::try_from(call.now.as_second()).unwrap_or(0);
    event.then(|| now + server.config.event_ttl.as_secs())
}
