//! Deletes a pod politely: disruption budgets are asked first.

use objects::selector::Selector;
use objects::{ApiError, ObjectExt, conditions};
use serde_json::{Value, json};

use crate::admission::webhooks;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::codec;
use crate::encode;
use crate::options::{DeleteOptions, WriteOptions};
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::route::Verb;
use crate::server::Server;
use crate::subresources::binding;
use crate::verbs::{delete, get, list};

/// `POST …/pods/NAME/eviction`.
pub(super) async fn answer(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions", false)?;
    let schema = patch::schema::builtin("io.k8s.api.policy.v1.Eviction");
    let decoded = codec::decode_as(
        &call.headers,
        body,
        ("policy", "v1", "Eviction"),
        schema.as_ref(),
        options.field_validation,
    )?;
    let eviction = decoded.object;
    if !eviction.name().is_empty() && eviction.name() != call.name() {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let create = webhooks::Operation::Create;
    let dry_run = options.dry_run;
    let warnings = webhooks::action(server, call, create, &eviction, dry_run).await?;
    let empty = json!({});
    let asked = eviction.at(&["deleteOptions"]).filter(|value| !value.is_null());
    let mut delete_options = DeleteOptions::from_object(asked.unwrap_or(&empty))?;
    delete_options.dry_run |= options.dry_run;
    let mut one = call.clone();
    one.path.subresource.clear();
    one.verb = Verb::Delete;
    let record = server.store.get(&one.key(one.name())).ok_or_else(|| one.not_found())?;
    let pod = encode::parse(&record);
    if !harmless(&pod) {
        spend_budget(server, &one, &pod, &options).await?;
    }
    delete::remove(server, &one, &delete_options).await?;
    let mut answer = binding::created(form);
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

/// Pods that run nothing do not count for any budget.
fn harmless(pod: &Value) -> bool {
    let phase = pod.str_at(&["status", "phase"]);
    matches!(phase, "Succeeded" | "Failed" | "Pending") || !pod.deletion_timestamp().is_empty()
}

async fn spend_budget(
    server: &Server,
    call: &Call,
    pod: &Value,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let Some(kind) = call.registry.resource("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    let empty = serde_json::Map::new();
    let labels = pod.labels().unwrap_or(&empty);
    let budgets: Vec<Value> = list::every(server, kind, call.namespace())
        .iter()
        .map(|record| encode::parse(record))
        .filter(|budget| {
            Selector::from_label_selector(budget.at(&["spec", "selector"]))
                .is_ok_and(|selector| selector.matches(labels))
        })
        .collect();
    if budgets.len() > 1 {
        return Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support.",
        ));
    }
    let Some(budget) = budgets.first() else { return Ok(()) };
    let ready = conditions::is_true(pod.list_at(&["status", "conditions"]), "Ready");
    if !ready && ignores_unready(budget) {
        return Ok(());
    }
    let mut on_budget = call.on(kind, call.namespace(), budget.name(), Verb::Update);
    on_budget.path.subresource = "status".into();
    pipeline::write(server, &on_budget, options, &Spend(pod.name().to_string())).await.map(drop)
}

fn ignores_unready(budget: &Value) -> bool {
    let always = budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    let healthy = budget.i64_at(&["status", "currentHealthy"]).unwrap_or(0);
    let wanted = budget.i64_at(&["status", "desiredHealthy"]).unwrap_or(0);
    always || (healthy >= wanted && wanted > 0)
}

/// Takes one from the disruptions that a budget allows.
struct Spend(String);

impl Change for Spend {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let Some(old) = old else { return Err(call.not_found()) };
        let mut budget = old.object.clone();
        let observed = budget.i64_at(&["status", "observedGeneration"]).unwrap_or(0);
        let left = budget.i64_at(&["status", "disruptionsAllowed"]).unwrap_or(0);
        if observed < budget.generation() {
            let why = format!(
                "The disruption budget {} is still being processed by the server.",
                budget.name()
            );
            return Err(too_many(&why, Some(10)));
        }
        if left <= 0 {
            let wanted = budget.i64_at(&["status", "desiredHealthy"]).unwrap_or(0);
            let healthy = budget.i64_at(&["status", "currentHealthy"]).unwrap_or(0);
            return Err(too_many(
                &format!(
                    "The disruption budget {} needs {wanted} healthy pods and has {healthy} \
                     currently",
                    budget.name()
                ),
                None,
            ));
        }
        budget.set_at(&["status", "disruptionsAllowed"], json!(left - 1));
        let now = objects::time::format_time(call.now);
        budget.set_at(&["status", "disruptedPods", &self.0], json!(now));
        Ok(Produced { object: budget, ownership: Ownership::Keep, warnings: Vec::new() })
    }
}

fn too_many(cause: &str, retry_after_secs: Option<u32>) -> ApiError {
    let mut error = ApiError::new(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    error.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]}));
    error.retry_after_secs = retry_after_secs;
    error
}
