//! Rules across kinds at write time: what a write changes besides what was sent, and what it may
//! not do. A file per rule; the order here is the order in which they run.

pub mod allocation;
mod certificates;
mod claim_resize;
mod default_class;
mod events;
mod garbage;
mod in_use_protection;
mod limit_ranger;
mod namespace;
pub(crate) mod node_restriction;
pub mod optional;
mod pod_security;
mod priority;
mod quota;
mod runtime_class;
mod service;
mod service_account;
mod tolerations;
mod topology_labels;
pub(crate) mod webhooks;

use objects::ApiError;
use serde_json::Value;

use crate::call::Call;
use crate::options::DeleteOptions;
use crate::pipeline::Stored;
use crate::server::Server;

use allocation::Reservation;

/// One write on its way through admission.
pub struct Admission<'a> {
    /// The server.
    pub server: &'a Server,
    /// The request.
    pub call: &'a Call,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// The options of a delete, as an object.
    pub(crate) delete_options: Option<Value>,
    /// What was taken for this write, given back if it fails.
    reservations: Vec<Reservation<'a>>,
}

impl<'a> Admission<'a> {
    /// The beginning of a write.
    pub fn new(server: &'a Server, call: &'a Call, dry_run: bool) -> Self {
        Self {
            server,
            call,
            dry_run,
            warnings: Vec::new(),
            delete_options: None,
            reservations: Vec::new(),
        }
    }

    /// The write is in the store: what was taken for it is its own now.
    pub fn committed(self) {
        for reservation in self.reservations {
            if !self.dry_run {
                reservation.keep();
            }
        }
    }

    /// Whether this is a write to a resource of the core group, through no subresource.
    fn is_core(&self, plural: &str) -> bool {
        self.is(plural, "")
    }

    /// Whether this is a write to a resource, through no subresource.
    fn is(&self, plural: &str, group: &str) -> bool {
        let names = &self.call.kind.names;
        names.plural == plural && names.group == group && self.call.path.subresource.is_empty()
    }
}

/// Changes the new object as the rules demand. Runs before it is prepared and validated.
///
/// # Errors
/// What a rule refuses.
pub async fn mutate(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Stored>,
) -> Result<(), ApiError> {
    built_in(admission, new, old)?;
    let before = old.map(|old| &old.object);
    let round = webhooks::mutate(admission, new, before).await?;
    if round.changed() {
        // What webhooks made of the object is under the rules, too.
        built_in(admission, new, old)?;
        webhooks::mutate_again(admission, new, before, round).await?;
    }
    Ok(())
}

/// The changes by the server's own rules. Doing them twice is the same as once.
fn built_in(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Stored>,
) -> Result<(), ApiError> {
    let creating = old.is_none();
    if creating {
        namespace::must_take(admission, new)?;
    }
    if admission.is_core("pods") && creating {
        limit_ranger::set_defaults(admission, new);
        service_account::mutate(admission, new)?;
        tolerations::mutate(new);
        priority::mutate(admission, new)?;
        runtime_class::mutate(admission, new)?;
    }
    node_restriction::check(admission, Some(new), old.map(|old| &old.object))?;
    if admission.is_core("pods")
        && let Some(old) = old
    {
        priority::keep(new, &old.object);
    }
    if creating {
        in_use_protection::mutate(admission, new);
        if admission.is_core("nodes") {
            tolerations::taint_new_node(new);
        }
        if admission.is("ingresses", "networking.k8s.io") {
            default_class::of_ingress(admission, new);
        }
        if admission.is_core("persistentvolumeclaims") {
            default_class::of_claim(admission, new);
        }
    }
    if admission.is_core("services")
        && let Some(old) = old
    {
        service::keep_allocated(new, &old.object);
    }
    topology_labels::mutate(admission, new, creating);
    optional::mutate(admission, new, old.map(|old| &old.object));
    Ok(())
}

/// Refuses what the rules forbid, and takes what a valid object needs. Runs last before the write.
///
/// # Errors
/// What a rule refuses.
pub async fn admit(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Stored>,
) -> Result<(), ApiError> {
    limit_ranger::check(admission, new, old.map(|old| &old.object))?;
    pod_security::check(admission, new, old.map(|old| &old.object))?;
    claim_resize::check(admission, new, old.map(|old| &old.object))?;
    certificates::check(admission, new, old.map(|old| &old.object))?;
    optional::check(admission, new, old.map(|old| &old.object))?;
    if admission.is_core("services") {
        service::allocate(admission, new, old.map(|old| &old.object))?;
    }
    webhooks::validate(admission, new, old.map(|old| &old.object)).await?;
    // Last: what is charged is written.
    quota::check(admission, new, old.map(|old| &old.object)).await
}

/// Refuses deletions that the rules forbid.
///
/// # Errors
/// What a rule refuses.
pub async fn admit_delete(admission: &mut Admission<'_>, object: &Value) -> Result<(), ApiError> {
    namespace::may_delete(admission, object)?;
    node_restriction::check(admission, None, Some(object))?;
    webhooks::delete(admission, object).await
}

/// Gives back what a deleted object had.
pub fn released(server: &Server, call: &Call, object: &Value) {
    let names = &call.kind.names;
    if names.group.is_empty() && names.plural == "services" {
        server.allocations.release(object);
    }
}

/// When the store removes a new version of this kind by itself, in seconds since 1970.
pub fn expiry_secs(server: &Server, call: &Call) -> Option<u64> {
    events::expiry_secs(server, call)
}

/// Something other than `metadata.finalizers` that keeps a deleted object.
pub fn holds_deletion(call: &Call, object: &Value) -> bool {
    namespace::holds_deletion(call, object)
}

/// Whether a deletion is marked in the object's own way; then the general one is left out.
pub fn mark_deletion(call: &Call, object: &mut Value) -> bool {
    namespace::mark_deletion(call, object) || crate::crd::mark_deletion(call, object)
}

/// The propagation that a kind has when a delete says nothing.
pub fn deletion_defaults(
    call: &Call,
    options: DeleteOptions,
    warnings: &mut Vec<String>,
) -> DeleteOptions {
    garbage::deletion_defaults(call, options, warnings)
}

/// Whether a delete answers with the deleted object instead of a Status.
pub fn shows_deleted(call: &Call) -> bool {
    garbage::shows_deleted(call)
}
