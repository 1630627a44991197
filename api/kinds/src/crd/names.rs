//! Which of the names that definitions ask for they get, and what their conditions say.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/controller/status` and
//! `pkg/controller/establish`, v1.36.

use std::collections::BTreeSet;

use objects::ObjectExt;
use objects::conditions::{self, Condition};
use objects::k8s::jiff::Timestamp;
use serde_json::{Value, json};

use super::validate;
use crate::read::{Read, part};

/// The names that other definitions of the group have.
#[derive(Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Counts the accepted names of another definition of the group.
    pub fn add(&mut self, definition: &Value) {
        let names = part(definition, &["status", "acceptedNames"]);
        let note = |set: &mut BTreeSet<String>, name: &str| {
            if !name.is_empty() {
                set.insert(name.to_string());
            }
        };
        note(&mut self.resources, names.text("plural"));
        note(&mut self.resources, names.text("singular"));
        for short in names.texts("shortNames") {
            note(&mut self.resources, short);
        }
        note(&mut self.kinds, names.text("kind"));
        note(&mut self.kinds, names.text("listKind"));
    }
}

fn conflict(wanted: &str, accepted: &str, taken: &BTreeSet<String>) -> Option<String> {
    (wanted != accepted && taken.contains(wanted)).then(|| format!("{wanted:?} is already in use"))
}

/// The status that a definition should have, now that these names are taken. A definition whose
/// names are accepted is established with it.
pub fn status(definition: &Value, taken: &Taken, now: Timestamp) -> Value {
    let wanted = part(definition, &["spec", "names"]);
    let accepted = part(definition, &["status", "acceptedNames"]);
    let mut names = accepted.clone();
    if !names.is_object() {
        names = json!({});
    }
    let mut refused: Option<(&str, String)> = None;
    let single = [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
    ];
    let of_kind =
        [("kind", "KindConflict", &taken.kinds), ("listKind", "ListKindConflict", &taken.kinds)];
    for (field, reason, set) in single {
        match conflict(wanted.text(field), accepted.text(field), set) {
            Some(why) => refused = Some((reason, why)),
            None => set_or_drop(&mut names, field, wanted.get(field)),
        }
    }
    let short: Vec<String> = wanted
        .texts("shortNames")
        .into_iter()
        .filter(|name| !accepted.texts("shortNames").contains(name))
        .filter_map(|name| conflict(name, "", &taken.resources))
        .collect();
    match short.as_slice() {
        [] => set_or_drop(&mut names, "shortNames", wanted.get("shortNames")),
        [one] => refused = Some(("ShortNamesConflict", one.clone())),
        many => refused = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    for (field, reason, set) in of_kind {
        match conflict(wanted.text(field), accepted.text(field), set) {
            Some(why) => refused = Some((reason, why)),
            None => set_or_drop(&mut names, field, wanted.get(field)),
        }
    }
    set_or_drop(&mut names, "categories", wanted.get("categories"));
    let mut status = part(definition, &["status"]).clone();
    status["acceptedNames"] = names;
    let mut list = part(definition, &["status"]).items("conditions").to_vec();
    set_conditions(&mut list, refused.as_ref(), now);
    if let Some((status, reason, message)) = validate::approval_condition(definition) {
        let kind = "KubernetesAPIApprovalPolicyConformant";
        let message = &message;
        let shown = Condition { kind, status, reason, message, observed_generation: 0 };
        conditions::set(&mut list, &shown, now);
    }
    status["conditions"] = Value::Array(list);
    status
}

fn set_or_drop(names: &mut Value, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => names[field] = value.clone(),
        None => {
            names.remove_at(&[field]);
        }
    }
}

fn set_conditions(list: &mut Vec<Value>, refused: Option<&(&str, String)>, now: Timestamp) {
    let (status, reason, message) = match refused {
        Some((reason, why)) => ("False", *reason, why.as_str()),
        None => ("True", "NoConflicts", "no conflicts found"),
    };
    let condition = |kind, status, reason, message| Condition {
        kind,
        status,
        reason,
        message,
        observed_generation: 0,
    };
    conditions::set(list, &condition("NamesAccepted", status, reason, message), now);
    if conditions::is_true(list, "Established") {
        return;
    }
    let established = match refused {
        None => condition(
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        ),
        Some(_) => condition("Established", "False", "NotAccepted", "not all names are accepted"),
    };
    conditions::set(list, &established, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str) -> Value {
        json!({
            "spec": {"group": "x.com", "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": ["s"],
            }},
            "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": null,
                "storedVersions": ["v1"]},
        })
    }

    fn conditions(status: &Value) -> Vec<String> {
        let all = status.items("conditions").iter();
        all.map(|one| format!("{}={} {}", one.text("type"), one.text("status"), one.text("reason")))
            .collect()
    }

    #[test]
    fn free_names_are_given_and_stay_given() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = definition("as", "A");
        let given = status(&first, &Taken::default(), now);
        assert_eq!(
            conditions(&given),
            ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
        );
        assert_eq!(given["acceptedNames"], first["spec"]["names"]);
        first["status"] = given.clone();
        let mut taken = Taken::default();
        taken.add(&first);
        // Its own names are no conflict, even if others are counted with them.
        assert_eq!(status(&first, &taken, Timestamp::now()), given);
    }

    #[test]
    fn a_taken_name_keeps_a_definition_from_being_served() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = definition("as", "A");
        first["status"] = status(&first, &Taken::default(), now);
        let mut taken = Taken::default();
        taken.add(&first);
        let second = definition("bs", "A");
        let refused = status(&second, &taken, now);
        assert_eq!(
            conditions(&refused),
            ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]
        );
        assert_eq!(refused["acceptedNames"]["plural"], "bs");
        assert_eq!(refused["acceptedNames"]["kind"], "");
    }
}
