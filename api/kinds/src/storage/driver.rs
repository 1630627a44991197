//! CSIDrivers.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells::{self, NONE, UNSET};
use crate::check;
use crate::edit::{Edit, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle::spec_changed;
use crate::read::{Read, part, same};

const MIN_TOKEN_SECS: i64 = 600;
const MAX_TOKEN_SECS: i64 = 1 << 32;
const MIN_REFRESH_SECS: i64 = 10;
const SECRETS_ADVICE: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this \
                              CSI driver, set to true to prevent possible logging of tokens in \
                              volume attributes";

/// Behaviour of CSIDrivers.
pub(crate) struct CSIDriver;

impl Behaviour for CSIDriver {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("attachRequired", true);
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            spec.default_to(key, false);
        }
        spec.default_to("fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.items("volumeLifecycleModes").is_empty() {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object.map_mut("spec").drop_field("preventPodSchedulingIfMissing");
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        new.map_mut("spec").drop_field("preventPodSchedulingIfMissing");
        step_generation(new, old, spec_changed(new, old));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        let policy = spec.text("fsGroupPolicy");
        check::one_of(errors, &path.child("fsGroupPolicy"), policy, &policies);
        let requests = spec.items("tokenRequests");
        check_tokens(requests, &path.child("tokenRequests"), errors);
        for mode in spec.texts("volumeLifecycleModes") {
            let modes = ["Persistent", "Ephemeral"];
            check::one_of(errors, &path.child("volumeLifecycleModes"), mode, &modes);
        }
        let key = "nodeAllocatableUpdatePeriodSeconds";
        if let Some(period) = spec.int(key).filter(|period| *period < MIN_REFRESH_SECS) {
            let detail = "must be greater than or equal to 10 seconds";
            errors.invalid(&path.child(key), &json!(period), detail);
        }
        let key = "serviceAccountTokenInSecrets";
        if let Some(flag) = spec.flag_opt(key).filter(|_| requests.is_empty()) {
            let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.invalid(&path.child(key), &json!(flag), detail);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        self.validate(new, errors);
        // The first path really is misspelt upstream.
        let fields = [
            ("attachRequired", "attachedRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ];
        for (key, reported) in fields {
            let path = FieldPath::new("spec").child(reported);
            let (new, old) = (part(new, &["spec"]), part(old, &["spec"]));
            check::immutable(errors, &path, new.field(key), old.field(key));
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = part(object, &["spec"]);
        let requests = |object: &Value| part(object, &["spec", "tokenRequests"]).clone();
        let changed = old.is_none_or(|old| !same(&requests(object), &requests(old)));
        let asked = !spec.items("tokenRequests").is_empty();
        if changed && asked && spec.field("serviceAccountTokenInSecrets").is_none() {
            return vec![SECRETS_ADVICE.to_string()];
        }
        Vec::new()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let modes = spec.texts("volumeLifecycleModes").join(",");
        let audiences = match spec.field("tokenRequests") {
            None => UNSET.to_string(),
            Some(_) => {
                let requests = spec.items("tokenRequests").iter();
                requests.map(|request| request.text("audience")).collect::<Vec<_>>().join(",")
            }
        };
        vec![
            cells::name(object),
            json!(spec.flag_opt("attachRequired").unwrap_or(true)),
            json!(spec.flag("podInfoOnMount")),
            json!(spec.flag("storageCapacity")),
            json!(audiences),
            json!(spec.flag("requiresRepublish")),
            json!(if modes.is_empty() { NONE } else { &modes }),
            cells::age(object, now),
        ]
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn check_tokens(requests: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    for (index, request) in requests.iter().enumerate() {
        let (audience, here) = (request.text("audience"), path.index(index));
        if requests[..index].iter().any(|earlier| earlier.text("audience") == audience) {
            errors.duplicate(&here.child("audience"), &json!(audience));
            continue;
        }
        let Some(secs) = request.int("expirationSeconds") else { continue };
        let here = here.child("expirationSeconds");
        if secs < MIN_TOKEN_SECS {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&here, &json!(secs), detail);
        }
        if secs > MAX_TOKEN_SECS {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&here, &json!(secs), detail);
        }
    }
}
