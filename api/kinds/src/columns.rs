//! The columns of `kubectl get`, one list a kind, in the order in which the kind's cells are made.
//!
//! Names, types, formats and priorities are those of Kubernetes 1.36; the help texts are ours.

use crate::kind::Column;

/// A column as written in the tables below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnRow {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
    description: &'static str,
}

impl ColumnRow {
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    pub(crate) fn to_column(self) -> Column {
        Column {
            name: self.name.to_string(),
            kind: self.kind.to_string(),
            format: self.format.to_string(),
            description: self.description.to_string(),
            priority: self.priority,
        }
    }
}

const fn column(kind: &'static str, name: &'static str, description: &'static str) -> ColumnRow {
    ColumnRow { name, kind, format: "", priority: 0, description }
}

const fn text(name: &'static str, description: &'static str) -> ColumnRow {
    column("string", name, description)
}

const fn integer(name: &'static str, description: &'static str) -> ColumnRow {
    column("integer", name, description)
}

const fn boolean(name: &'static str, description: &'static str) -> ColumnRow {
    column("boolean", name, description)
}

/// A text column marked as holding a name.
const fn named(name: &'static str, description: &'static str) -> ColumnRow {
    ColumnRow { format: "name", ..text(name, description) }
}

pub(crate) const NAME: ColumnRow = named(
    "Name",
    "Name of the object, unique within its namespace or, for a cluster-scoped kind, within the \
     cluster.",
);
const NAME_WIDE: ColumnRow = NAME.wide();
const AGE: ColumnRow = text("Age", "Time since the object was created.");
const CREATED_AT: ColumnRow = column("date", "Created At", "Time at which the object was created.");
const CONTAINERS: ColumnRow =
    text("Containers", "Names of the containers in the pod template.").wide();
const IMAGES: ColumnRow = text("Images", "Images of the containers in the pod template.").wide();
const SELECTOR: ColumnRow =
    text("Selector", "Label selector of the pods that belong to the object.").wide();

/// Kinds without columns of their own.
pub(crate) const PLAIN: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const COMPONENTSTATUSES: &[ColumnRow] = &[
    NAME,
    text("Status", "Where the object is in its life."),
    text("Message", "What the probe of the component said."),
    text("Error", "Error of the probe."),
];

pub(crate) const CONFIGMAPS: &[ColumnRow] = &[NAME, text("Data", "Number of keys."), AGE];

pub(crate) const ENDPOINTS: &[ColumnRow] =
    &[NAME, text("Endpoints", "Addresses and ports that are ready."), AGE];

pub(crate) const EVENTS: &[ColumnRow] = &[
    text("Last Seen", "Time since the event was last seen."),
    text("Type", "Normal or Warning."),
    text("Reason", "Short word for why this happened."),
    text("Object", "Object that the event is about."),
    text("Subobject", "Part of the object that the event is about.").wide(),
    text("Source", "Component and host that reported the event.").wide(),
    text("Message", "What happened."),
    text("First Seen", "Time since the event was first seen.").wide(),
    text("Count", "How often the event was seen.").wide(),
    NAME_WIDE,
];

pub(crate) const LIMITRANGES: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const NAMESPACES: &[ColumnRow] =
    &[NAME, text("Status", "Where the object is in its life."), AGE];

pub(crate) const NODES: &[ColumnRow] = &[
    NAME,
    text("Status", "Ready condition, and whether pods may be scheduled."),
    text("Roles", "Roles from the node-role labels."),
    AGE,
    text("Version", "Version of the kubelet."),
    text("Internal-IP", "First internal address.").wide(),
    text("External-IP", "First external address.").wide(),
    text("OS-Image", "Operating system.").wide(),
    text("Kernel-Version", "Version of the kernel.").wide(),
    text("Container-Runtime", "Name and version of the container runtime.").wide(),
];

pub(crate) const PERSISTENTVOLUMECLAIMS: &[ColumnRow] = &[
    NAME,
    text("Status", "Where the object is in its life."),
    text("Volume", "Volume that the claim is bound to."),
    text("Capacity", "Size of the bound volume."),
    text("Access Modes", "Ways in which the volume can be mounted."),
    text("StorageClass", "Name of the StorageClass."),
    text("VolumeAttributesClass", "Name of the VolumeAttributesClass."),
    AGE,
    text("VolumeMode", "Whether the volume is a filesystem or a raw block device.").wide(),
];

pub(crate) const PERSISTENTVOLUMES: &[ColumnRow] = &[
    NAME,
    text("Capacity", "Size of the volume."),
    text("Access Modes", "Ways in which the volume can be mounted."),
    text("Reclaim Policy", "What happens to the volume once its claim is gone."),
    text("Status", "Where the object is in its life."),
    text("Claim", "Claim that the volume is bound to."),
    text("StorageClass", "Name of the StorageClass."),
    text("VolumeAttributesClass", "Name of the VolumeAttributesClass."),
    text("Reason", "Short word for why this happened."),
    AGE,
    text("VolumeMode", "Whether the volume is a filesystem or a raw block device.").wide(),
];

pub(crate) const PODS: &[ColumnRow] = &[
    NAME,
    text("Ready", "Ready containers of all containers."),
    text("Status", "Phase of the pod, or the reason of what holds it up."),
    text(
        "Restarts",
        "How often containers were started again, and how long ago that last happened.",
    ),
    AGE,
    text("IP", "First address of the pod.").wide(),
    text("Node", "Node that the pod runs on.").wide(),
    text("Nominated Node", "Node on which room is being made for the pod.").wide(),
    text("Readiness Gates", "Readiness gates that hold, of all.").wide(),
];

pub(crate) const PODTEMPLATES: &[ColumnRow] = &[
    NAME,
    text("Containers", "Names of the containers in the pod template."),
    text("Images", "Images of the containers in the pod template."),
    text("Pod Labels", "Labels of the pods made from the template."),
];

pub(crate) const REPLICATIONCONTROLLERS: &[ColumnRow] = &[
    NAME,
    integer("Desired", "Number of pods wanted."),
    integer("Current", "Number of pods that exist."),
    integer("Ready", "Number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const RESOURCEQUOTAS: &[ColumnRow] = &[
    NAME,
    text("Request", "Used and hard amounts of requests and of counted objects."),
    text("Limit", "Used and hard amounts of limits."),
    AGE,
];

pub(crate) const SECRETS: &[ColumnRow] = &[
    NAME,
    text("Type", "Type, which says how the data is to be read."),
    text("Data", "Number of keys."),
    AGE,
];

pub(crate) const SERVICEACCOUNTS: &[ColumnRow] = &[NAME, AGE];

pub(crate) const SERVICES: &[ColumnRow] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "Virtual address inside the cluster."),
    text("External-IP", "Addresses outside the cluster."),
    text("Port(s)", "Ports, node ports and protocols."),
    AGE,
    text("Selector", "Labels of the pods behind the service.").wide(),
];

pub(crate) const APISERVICES: &[ColumnRow] = &[
    NAME,
    text("Service", "Service behind the API, or Local."),
    text("Available", "Whether the API can be used."),
    AGE,
];

pub(crate) const CONTROLLERREVISIONS: &[ColumnRow] = &[
    NAME,
    text("Controller", "Object whose history this is part of."),
    text("Revision", "Number of the revision."),
    AGE,
];

pub(crate) const DAEMONSETS: &[ColumnRow] = &[
    NAME,
    integer("Desired", "Number of nodes that should run the pod."),
    integer("Current", "Number of nodes that run the pod."),
    integer("Ready", "Number of pods that are ready."),
    integer("Up-to-date", "Number of nodes that run the newest pod."),
    integer("Available", "Number of nodes on which the pod is available."),
    text("Node Selector", "Labels of the nodes that should run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const DEPLOYMENTS: &[ColumnRow] = &[
    NAME,
    text("Ready", "Ready pods of the pods wanted."),
    text("Up-to-date", "Number of pods of the newest template."),
    text("Available", "Number of pods available for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const REPLICASETS: &[ColumnRow] = &[
    NAME,
    integer("Desired", "Number of pods wanted."),
    integer("Current", "Number of pods that exist."),
    integer("Ready", "Number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const STATEFULSETS: &[ColumnRow] =
    &[NAME, text("Ready", "Ready pods of the pods wanted."), AGE, CONTAINERS, IMAGES];

pub(crate) const HORIZONTALPODAUTOSCALERS: &[ColumnRow] = &[
    NAME,
    text("Reference", "Object whose scale is controlled."),
    text("Targets", "Measured and wanted value of each metric."),
    text("MinPods", "Smallest number of replicas allowed."),
    text("MaxPods", "Largest number of replicas allowed."),
    text("Replicas", "Number of replicas now."),
    AGE,
];

pub(crate) const CRONJOBS: &[ColumnRow] = &[
    NAME,
    text("Schedule", "Schedule in cron format."),
    text("Timezone", "Time zone of the schedule."),
    boolean("Suspend", "Whether runs are suspended."),
    integer("Active", "Number of running jobs."),
    text("Last Schedule", "Time since the last run was started."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const JOBS: &[ColumnRow] = &[
    NAME,
    text("Status", "Where the object is in its life."),
    text("Completions", "Completed pods of the completions wanted."),
    text("Duration", "How long the job has run or ran."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const CERTIFICATESIGNINGREQUESTS: &[ColumnRow] = &[
    NAME,
    AGE,
    text("SignerName", "Signer that is asked."),
    text("Requestor", "User who asked."),
    text("RequestedDuration", "How long the certificate should be valid."),
    text("Condition", "Whether the request is approved, denied, failed, issued or pending."),
];

pub(crate) const INGRESSCLASSES: &[ColumnRow] = &[
    NAME,
    text("Controller", "Controller in charge."),
    text("Parameters", "Object with further configuration."),
    AGE,
];

pub(crate) const INGRESSES: &[ColumnRow] = &[
    NAME,
    text("Class", "Class of the ingress."),
    text("Hosts", "Host names that are routed."),
    text("Address", "Addresses of the load balancer."),
    text("Ports", "Ports that are served."),
    AGE,
];

pub(crate) const IPADDRESSES: &[ColumnRow] =
    &[NAME, text("ParentRef", "Object that the address belongs to.")];

pub(crate) const NETWORKPOLICIES: &[ColumnRow] =
    &[NAME, text("Pod-Selector", "Label selector of the pods that the policy governs."), AGE];

pub(crate) const SERVICECIDRS: &[ColumnRow] = &[NAME, text("CIDRs", "Address ranges."), AGE];

pub(crate) const PODDISRUPTIONBUDGETS: &[ColumnRow] = &[
    NAME,
    text("Min Available", "Number or share of pods that must stay available."),
    text("Max Unavailable", "Number or share of pods that may be unavailable."),
    integer("Allowed Disruptions", "Number of evictions allowed now."),
    AGE,
];

pub(crate) const CLUSTERROLEBINDINGS: &[ColumnRow] = &[
    NAME,
    text("Role", "Kind and name of the role that is granted."),
    AGE,
    text("Users", "Users among the subjects.").wide(),
    text("Groups", "Groups among the subjects.").wide(),
    text("ServiceAccounts", "Service accounts among the subjects, as namespace/name.").wide(),
];

pub(crate) const CLUSTERROLES: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const ROLEBINDINGS: &[ColumnRow] = &[
    NAME,
    text("Role", "Kind and name of the role that is granted."),
    AGE,
    text("Users", "Users among the subjects.").wide(),
    text("Groups", "Groups among the subjects.").wide(),
    text("ServiceAccounts", "Service accounts among the subjects, as namespace/name.").wide(),
];

pub(crate) const ROLES: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const CSIDRIVERS: &[ColumnRow] = &[
    NAME,
    boolean("AttachRequired", "Whether volumes are attached before they are mounted."),
    boolean("PodInfoOnMount", "Whether the driver is told about the pod at mounting."),
    boolean("StorageCapacity", "Whether the scheduler looks at the published capacity."),
    text("TokenRequests", "Audiences of the service account tokens that the driver is given."),
    boolean("RequiresRepublish", "Whether mounted volumes are published again from time to time."),
    text("Modes", "Kinds of volume that the driver offers."),
    AGE,
];

pub(crate) const CSINODES: &[ColumnRow] =
    &[NAME, integer("Drivers", "Number of drivers on the node."), AGE];

pub(crate) const CSISTORAGECAPACITIES: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const STORAGECLASSES: &[ColumnRow] = &[
    NAME,
    text("Provisioner", "Driver that makes the volumes."),
    text("ReclaimPolicy", "What happens to a volume once its claim is gone."),
    text("VolumeBindingMode", "When volumes are made and bound."),
    text("AllowVolumeExpansion", "Whether volumes can grow."),
    AGE,
];

pub(crate) const VOLUMEATTACHMENTS: &[ColumnRow] = &[
    NAME,
    named("Attacher", "Driver that attaches the volume."),
    text("PV", "Volume to attach."),
    text("Node", "Node to attach it to."),
    boolean("Attached", "Whether the volume is attached."),
    AGE,
];

pub(crate) const VOLUMEATTRIBUTESCLASSES: &[ColumnRow] =
    &[NAME, text("DriverName", "Driver that understands the attributes."), AGE];

pub(crate) const MUTATINGADMISSIONPOLICIES: &[ColumnRow] = &[
    NAME,
    integer("Mutations", "Number of mutations."),
    text("ParamKind", "Kind of the parameter objects."),
    AGE,
];

pub(crate) const MUTATINGADMISSIONPOLICYBINDINGS: &[ColumnRow] = &[
    NAME,
    text("PolicyName", "Policy that is bound."),
    text("ParamRef", "Parameter object that is bound."),
    AGE,
];

pub(crate) const MUTATINGWEBHOOKCONFIGURATIONS: &[ColumnRow] =
    &[NAME, integer("Webhooks", "Number of webhooks."), AGE];

pub(crate) const VALIDATINGADMISSIONPOLICIES: &[ColumnRow] = &[
    NAME,
    integer("Validations", "Number of validations."),
    text("ParamKind", "Kind of the parameter objects."),
    AGE,
];

pub(crate) const VALIDATINGADMISSIONPOLICYBINDINGS: &[ColumnRow] = &[
    NAME,
    text("PolicyName", "Policy that is bound."),
    text("ParamRef", "Parameter object that is bound."),
    AGE,
];

pub(crate) const VALIDATINGWEBHOOKCONFIGURATIONS: &[ColumnRow] =
    &[NAME, integer("Webhooks", "Number of webhooks."), AGE];

pub(crate) const CUSTOMRESOURCEDEFINITIONS: &[ColumnRow] = &[NAME, CREATED_AT];

pub(crate) const PRIORITYCLASSES: &[ColumnRow] = &[
    NAME,
    integer("Value", "Priority of pods of this class."),
    boolean("Global-Default", "Whether pods without a class get this one."),
    AGE,
    text("PreemptionPolicy", "Whether pods of this class may preempt others."),
];

pub(crate) const LEASES: &[ColumnRow] = &[NAME, text("Holder", "Who holds the lease."), AGE];

pub(crate) const RUNTIMECLASSES: &[ColumnRow] =
    &[NAME, text("Handler", "Handler of the container runtime."), AGE];

pub(crate) const ENDPOINTSLICES: &[ColumnRow] = &[
    NAME,
    text("AddressType", "Type of the addresses."),
    text("Ports", "Ports that are served."),
    text("Endpoints", "Addresses of the endpoints."),
    AGE,
];

pub(crate) const DEVICECLASSES: &[ColumnRow] = &[NAME, AGE];

pub(crate) const RESOURCECLAIMS: &[ColumnRow] = &[
    NAME,
    text("State", "Whether the claim is pending, allocated, reserved or being deleted."),
    AGE,
];

pub(crate) const RESOURCECLAIMTEMPLATES: &[ColumnRow] = &[NAME, AGE];

pub(crate) const RESOURCESLICES: &[ColumnRow] = &[
    NAME,
    text("Node", "Node that the devices belong to."),
    text("Driver", "Name of the driver."),
    text("Pool", "Pool that the devices belong to."),
    AGE,
];

pub(crate) const FLOWSCHEMAS: &[ColumnRow] = &[
    NAME,
    text("PriorityLevel", "Priority level of matching requests."),
    text("MatchingPrecedence", "Order among schemas, lowest first."),
    text("DistinguisherMethod", "How requests are split into flows."),
    AGE,
    text("MissingPL", "Whether the priority level does not exist."),
];

pub(crate) const PRIORITYLEVELCONFIGURATIONS: &[ColumnRow] = &[
    NAME,
    text("Type", "Exempt or Limited."),
    text("NominalConcurrencyShares", "Shares of the server's concurrency."),
    text("Queues", "Number of queues."),
    text("HandSize", "Number of queues that a flow is dealt."),
    text("QueueLengthLimit", "Longest that one queue may get."),
    AGE,
];
