//! Service accounts: a `default` one in every namespace.
//!
//! Source: kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go, v1.36.

use informer::{Action, Object};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::world::{Changed, World};

const DEFAULT: &str = "default";

/// The controller; its keys are namespaces.
#[derive(Debug)]
pub(crate) struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn component(&self) -> &'static str {
        "serviceaccount-controller"
    }

    fn wakes(&self, _world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Namespace(versions) => vec![versions.key()],
            Changed::ServiceAccount(versions) if versions.new.is_none() => {
                vec![ObjectKey::new("", &versions.key().namespace)]
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let namespace = world.namespaces.get(key);
        let account = world.service_accounts.get(&ObjectKey::new(&key.name, DEFAULT));
        plan(namespace.as_deref(), account.as_deref())
    }
}

fn plan(namespace: Option<&Namespace>, account: Option<&ServiceAccount>) -> Plan {
    let Some(namespace) = namespace.filter(|namespace| is_open(namespace)) else {
        return Plan::nothing();
    };
    if account.is_some() {
        return Plan::nothing();
    }
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.into()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    Plan::of([Action::create(&account)])
}

/// Whether things can be made in a namespace.
pub(crate) fn is_open(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase != Some("Terminating") && !namespace.is_terminating()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_namespaces_get_one() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        let made = plan(Some(&namespace), None);
        assert_eq!(made.steps[0].action.key, ObjectKey::new("a", DEFAULT));
        assert_eq!(plan(Some(&namespace), Some(&ServiceAccount::default())), Plan::nothing());
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert_eq!(plan(Some(&namespace), None), Plan::nothing());
        assert_eq!(plan(None, None), Plan::nothing());
    }
}
