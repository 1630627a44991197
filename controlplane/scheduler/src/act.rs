//! What the scheduler writes to the API: bindings, verdicts and evictions.

use std::sync::Arc;

use informer::{
    Action, ActionError, EventRecorder, EventType, Occurrence, PatchType, ResourcePath, Verb,
    carry_out_one,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use objects::time::format_time;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::plan::Diagnosis;
use crate::pod::PodInfo;
use crate::preempt::Eviction;

/// The writer.
#[derive(Clone)]
pub(crate) struct Act {
    pub(crate) client: Client,
    pub(crate) recorder: EventRecorder,
}

impl Act {
    /// Binds a pod to a node and says so.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), ActionError> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid(),
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let action = Action {
            resource: ResourcePath::of::<Pod>(),
            key: pod.key.clone(),
            verb: Verb::CreateSubresource("binding", binding),
        };
        carry_out_one(&self.client, &action).await?;
        info!(pod = %pod.key, node, "bound");
        let message = format!("Successfully assigned {} to {node}", pod.key);
        self.record(pod, EventType::Normal, "Scheduled", message);
        Ok(())
    }

    /// Tells why no node can take a pod. The same verdict is not written twice.
    pub(crate) async fn tell(&self, pod: &PodInfo, diagnosis: &Diagnosis) {
        let message = diagnosis.message();
        self.record(pod, EventType::Warning, "FailedScheduling", message.clone());
        let nominated = diagnosis.eviction.as_ref().map(|eviction| eviction.node.as_str());
        let status = pod.pod.status.as_ref();
        let known = status
            .and_then(|status| status.conditions.as_deref())
            .and_then(|all| all.iter().find(|condition| condition.type_ == "PodScheduled"));
        let same_condition = known.is_some_and(|known| {
            known.status == "False" && known.message.as_deref() == Some(message.as_str())
        });
        let same_node = nominated.is_none()
            || status.and_then(|status| status.nominated_node_name.as_deref()) == nominated;
        if same_condition && same_node {
            return;
        }
        let was_false = known.filter(|known| known.status == "False");
        let since = was_false.and_then(|known| known.last_transition_time.as_ref());
        let since = since.map_or_else(Timestamp::now, |time| time.0);
        let mut status = json!({"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": format_time(since),
        }]});
        if let Some(node) = nominated {
            status["nominatedNodeName"] = json!(node);
        }
        self.patch_status(pod, status).await;
    }

    /// Makes the victims of a preemption go.
    pub(crate) async fn evict(&self, pod: &PodInfo, eviction: &Eviction) {
        for victim in &eviction.victims {
            let message = "default-scheduler: preempting to accommodate a higher priority pod";
            let condition = json!({"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": message,
                "lastTransitionTime": format_time(Timestamp::now()),
            }]});
            self.patch_status(victim, condition).await;
            let action = Action::delete::<Pod>(victim.key.clone(), victim.uid());
            match carry_out_one(&self.client, &action).await {
                Ok(_) => {
                    let text = format!("Preempted by pod {} on node {}", pod.uid(), eviction.node);
                    self.record(victim, EventType::Normal, "Preempted", text);
                }
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "victim was not deleted");
                }
            }
        }
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let (key, form) = (pod.key.clone(), PatchType::Strategic);
        let action = Action::patch::<Pod>(key, form, Some("status"), body);
        if let Err(error) = carry_out_one(&self.client, &action).await {
            // It is only a report: the next verdict writes it again.
            debug!(error = &error as &dyn std::error::Error, "status not written");
        }
    }

    fn record(&self, pod: &PodInfo, kind: EventType, reason: &str, message: String) {
        let pod: &Arc<Pod> = &pod.pod;
        self.recorder.record(Occurrence::of(&**pod, kind, reason, message));
    }
}
