//! Resource quotas: what a write adds is charged before it is made.
//!
//! The charge is an update of the quota's status, so that of several writes at once each sees what
//! the others took. The controller counts anew when something goes away.
//!
//! Source of behaviour: kubernetes apiserver `pkg/admission/plugin/resourcequota`, v1.36.

use objects::quota::{self, Amounts};
use objects::{ApiError, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use crate::call::Call;
use crate::encode;
use crate::options::{FieldValidation, WriteOptions};
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::route::Verb;
use crate::verbs::list;

/// Refuses an object that would exceed a quota of its namespace, and charges one that does not.
pub(super) async fn check(
    admission: &Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let call = admission.call;
    let names = &call.kind.names;
    // Updates of other kinds never take more.
    let grows = names.group.is_empty()
        && matches!(names.plural.as_str(), "pods" | "services" | "persistentvolumeclaims");
    if !call.kind.namespaced() || !call.path.subresource.is_empty() || (old.is_some() && !grows) {
        return Ok(());
    }
    let Some(kind) = call.registry.resource("", "v1", "resourcequotas") else { return Ok(()) };
    let quotas = list::every(admission.server, kind, call.namespace());
    if quotas.is_empty() {
        return Ok(());
    }
    let charge = Charge::new(call, new, old);
    let mut charged = Vec::new();
    for record in &quotas {
        let quota = encode::parse(record);
        // First all are asked, so that a refusal by one charges none.
        if charge.on(&quota, call, new)?.is_some() {
            charged.push(quota.name().to_owned());
        }
    }
    if admission.dry_run {
        return Ok(());
    }
    for name in charged {
        let mut on_quota = call.on(kind, call.namespace(), &name, Verb::Update);
        on_quota.path.subresource = "status".into();
        let spend = Spend { charge: &charge, subject: call, new };
        let options = WriteOptions {
            dry_run: false,
            field_manager: String::new(),
            field_validation: FieldValidation::Ignore,
            force: false,
        };
        let write = pipeline::write(admission.server, &on_quota, &options, &spend);
        match Box::pin(write).await {
            // A quota that went away limits nothing.
            Err(error) if error.code == 404 => {}
            written => drop(written?),
        }
    }
    Ok(())
}

/// What a write adds.
struct Charge {
    group: String,
    plural: String,
    now: Amounts,
    before: Option<(Amounts, Value)>,
}

impl Charge {
    fn new(call: &Call, new: &Value, old: Option<&Value>) -> Self {
        let (group, plural) = (call.kind.names.group.clone(), call.kind.names.plural.clone());
        let before = old.map(|old| (quota::usage(&group, &plural, old), old.clone()));
        Self { now: quota::usage(&group, &plural, new), before, group, plural }
    }

    /// The amounts of a quota's `status.used` after the write; `None` if it does not concern it.
    fn on(&self, quota: &Value, call: &Call, new: &Value) -> Result<Option<Amounts>, ApiError> {
        let hard = quota::amounts(quota.map_at(&["status", "hard"]));
        let mut added: Amounts = self.now.clone();
        added.retain(|name, _| hard.contains_key(name));
        if !quota::is_in_scope(quota, &self.group, &self.plural, new) || hard.is_empty() {
            return Ok(None);
        }
        let refuse = |why: String| ApiError::forbidden(&call.resource(), new.name(), &why);
        let is_new_pod = self.group.is_empty() && self.plural == "pods" && self.before.is_none();
        if is_new_pod && let Some(unsaid) = quota::unsaid(hard.keys().map(String::as_str), new) {
            return Err(refuse(format!("failed quota: {}: {unsaid}", quota.name())));
        }
        if let Some((before, old)) = &self.before
            && quota::is_in_scope(quota, &self.group, &self.plural, old)
        {
            for (name, amount) in &mut added {
                if let Some(before) = before.get(name) {
                    *amount = amount.sub(before);
                }
            }
        }
        added.retain(|_, amount| amount.sign() > 0);
        if added.is_empty() {
            return Ok(None);
        }
        let mut used = quota::amounts(quota.map_at(&["status", "used"]));
        let unknown: Vec<&str> =
            added.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
        if !unknown.is_empty() {
            let (name, unknown) = (quota.name(), unknown.join(","));
            let why = format!("status unknown for quota: {name}, resources: {unknown}");
            return Err(refuse(why));
        }
        let (before, mut exceeded) = (used.clone(), Vec::new());
        for (name, amount) in &added {
            let sum = used[name].add(amount);
            if sum > hard[name] {
                exceeded.push(name.clone());
            }
            used.insert(name.clone(), sum);
        }
        if exceeded.is_empty() {
            return Ok(Some(used));
        }
        let only = |amounts: &Amounts| {
            let mut amounts = amounts.clone();
            amounts.retain(|name, _| exceeded.contains(name));
            quota::print(&amounts)
        };
        Err(refuse(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            quota.name(),
            only(&added),
            only(&before),
            only(&hard),
        )))
    }
}

/// Writes the charge into a quota's status, decided anew against its newest version.
struct Spend<'a> {
    charge: &'a Charge,
    subject: &'a Call,
    new: &'a Value,
}

impl Change for Spend<'_> {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let Some(old) = old else { return Err(call.not_found()) };
        let mut quota = old.object.clone();
        if let Some(used) = self.charge.on(&quota, self.subject, self.new)? {
            for (name, amount) in used {
                quota.set_at(&["status", "used", &name], json!(amount.to_string()));
            }
        }
        Ok(Produced { object: quota, ownership: Ownership::Keep, warnings: Vec::new() })
    }
}
