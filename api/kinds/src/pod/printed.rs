//! Pod specs as a real API server prints them in messages: Go's names in Go's order, absent parts
//! included, and unified diffs of that. People compare such messages, tools search them.

use serde_json::Value;

use crate::read::Read;

/// What a field is, which decides how its absence is printed.
#[derive(Clone, Copy)]
enum Kind {
    /// A pointer, list or map: `null`.
    Nullable,
    /// A string: `""`.
    Text,
    /// A number: `0`.
    Number,
    /// A boolean: `false`.
    Flag,
    /// A pointer to a struct of known fields.
    Struct(&'static [Field]),
    /// A struct of known fields that is always there.
    Inline(&'static [Field]),
    /// A list of structs of known fields.
    List(&'static [Field]),
}

/// Go's name, the JSON name, and the kind.
type Field = (&'static str, &'static str, Kind);

use Kind::{Flag, Inline, List, Nullable, Number, Struct, Text};

const RESOURCES: &[Field] = &[
    ("Limits", "limits", Nullable),
    ("Requests", "requests", Nullable),
    ("Claims", "claims", Nullable),
];
const ENV: &[Field] =
    &[("Name", "name", Text), ("Value", "value", Text), ("ValueFrom", "valueFrom", Nullable)];
const PORT: &[Field] = &[
    ("Name", "name", Text),
    ("HostPort", "hostPort", Number),
    ("ContainerPort", "containerPort", Number),
    ("Protocol", "protocol", Text),
    ("HostIP", "hostIP", Text),
];
const MOUNT: &[Field] = &[
    ("Name", "name", Text),
    ("ReadOnly", "readOnly", Flag),
    ("RecursiveReadOnly", "recursiveReadOnly", Nullable),
    ("MountPath", "mountPath", Text),
    ("SubPath", "subPath", Text),
    ("MountPropagation", "mountPropagation", Nullable),
    ("SubPathExpr", "subPathExpr", Text),
];
const CONTAINER: &[Field] = &[
    ("Name", "name", Text),
    ("Image", "image", Text),
    ("Command", "command", Nullable),
    ("Args", "args", Nullable),
    ("WorkingDir", "workingDir", Text),
    ("Ports", "ports", List(PORT)),
    ("EnvFrom", "envFrom", Nullable),
    ("Env", "env", List(ENV)),
    ("Resources", "resources", Inline(RESOURCES)),
    ("ResizePolicy", "resizePolicy", Nullable),
    ("RestartPolicy", "restartPolicy", Nullable),
    ("RestartPolicyRules", "restartPolicyRules", Nullable),
    ("VolumeMounts", "volumeMounts", List(MOUNT)),
    ("VolumeDevices", "volumeDevices", Nullable),
    ("LivenessProbe", "livenessProbe", Nullable),
    ("ReadinessProbe", "readinessProbe", Nullable),
    ("StartupProbe", "startupProbe", Nullable),
    ("Lifecycle", "lifecycle", Nullable),
    ("TerminationMessagePath", "terminationMessagePath", Text),
    ("TerminationMessagePolicy", "terminationMessagePolicy", Text),
    ("ImagePullPolicy", "imagePullPolicy", Text),
    ("SecurityContext", "securityContext", Nullable),
    ("Stdin", "stdin", Flag),
    ("StdinOnce", "stdinOnce", Flag),
    ("TTY", "tty", Flag),
];
/// What an ephemeral container has besides.
const EPHEMERAL_TAIL: Field = ("TargetContainerName", "targetContainerName", Text);
/// Fields that Go keeps in the security context and JSON in the spec itself.
const FROM_SPEC: [&str; 5] =
    ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];
const SECURITY: &[Field] = &[
    ("HostNetwork", "hostNetwork", Flag),
    ("HostPID", "hostPID", Flag),
    ("HostIPC", "hostIPC", Flag),
    ("ShareProcessNamespace", "shareProcessNamespace", Nullable),
    ("HostUsers", "hostUsers", Nullable),
    ("SELinuxOptions", "seLinuxOptions", Nullable),
    ("WindowsOptions", "windowsOptions", Nullable),
    ("RunAsUser", "runAsUser", Nullable),
    ("RunAsGroup", "runAsGroup", Nullable),
    ("RunAsNonRoot", "runAsNonRoot", Nullable),
    ("SupplementalGroups", "supplementalGroups", Nullable),
    ("SupplementalGroupsPolicy", "supplementalGroupsPolicy", Nullable),
    ("FSGroup", "fsGroup", Nullable),
    ("FSGroupChangePolicy", "fsGroupChangePolicy", Nullable),
    ("Sysctls", "sysctls", Nullable),
    ("SeccompProfile", "seccompProfile", Nullable),
    ("AppArmorProfile", "appArmorProfile", Nullable),
    ("SELinuxChangePolicy", "seLinuxChangePolicy", Nullable),
];
const TOLERATION: &[Field] = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Value", "value", Text),
    ("Effect", "effect", Text),
    ("TolerationSeconds", "tolerationSeconds", Nullable),
];
const POD_SPEC: &[Field] = &[
    ("Volumes", "volumes", Nullable),
    ("InitContainers", "initContainers", List(CONTAINER)),
    ("Containers", "containers", List(CONTAINER)),
    ("EphemeralContainers", "ephemeralContainers", Nullable),
    ("RestartPolicy", "restartPolicy", Text),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Nullable),
    ("ActiveDeadlineSeconds", "activeDeadlineSeconds", Nullable),
    ("DNSPolicy", "dnsPolicy", Text),
    ("NodeSelector", "nodeSelector", Nullable),
    ("ServiceAccountName", "serviceAccountName", Text),
    ("AutomountServiceAccountToken", "automountServiceAccountToken", Nullable),
    ("NodeName", "nodeName", Text),
    ("SecurityContext", "securityContext", Struct(SECURITY)),
    ("ImagePullSecrets", "imagePullSecrets", Nullable),
    ("Hostname", "hostname", Text),
    ("Subdomain", "subdomain", Text),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", Nullable),
    ("Affinity", "affinity", Nullable),
    ("SchedulerName", "schedulerName", Text),
    ("Tolerations", "tolerations", List(TOLERATION)),
    ("HostAliases", "hostAliases", Nullable),
    ("PriorityClassName", "priorityClassName", Text),
    ("Priority", "priority", Nullable),
    ("PreemptionPolicy", "preemptionPolicy", Nullable),
    ("DNSConfig", "dnsConfig", Nullable),
    ("ReadinessGates", "readinessGates", Nullable),
    ("RuntimeClassName", "runtimeClassName", Nullable),
    ("Overhead", "overhead", Nullable),
    ("EnableServiceLinks", "enableServiceLinks", Nullable),
    ("TopologySpreadConstraints", "topologySpreadConstraints", Nullable),
    ("OS", "os", Nullable),
    ("SchedulingGates", "schedulingGates", Nullable),
    ("ResourceClaims", "resourceClaims", Nullable),
    ("Resources", "resources", Nullable),
    ("HostnameOverride", "hostnameOverride", Nullable),
    ("SchedulingGroup", "schedulingGroup", Nullable),
];

/// Writes one value: compact, or with one space of indent a level.
struct Writer {
    out: String,
    pretty: bool,
    depth: usize,
}

impl Writer {
    fn new(pretty: bool) -> Self {
        Self { out: String::new(), pretty, depth: 0 }
    }

    fn line(&mut self) {
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', self.depth));
        }
    }

    /// Writes a bracketed sequence by a function for each part.
    fn group<T>(&mut self, brackets: [char; 2], items: &[T], each: impl Fn(&mut Self, &T)) {
        self.out.push(brackets[0]);
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.line();
            each(self, item);
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.line();
        }
        self.out.push(brackets[1]);
    }

    fn key(&mut self, name: &str) {
        self.out.push_str(&Value::from(name).to_string());
        self.out.push_str(if self.pretty { ": " } else { ":" });
    }

    fn fields(&mut self, value: &Value, fields: &[Field]) {
        self.group(['{', '}'], fields, |w, (name, key, kind)| {
            w.key(name);
            w.field(value.field(key), *kind);
        });
    }

    fn field(&mut self, value: Option<&Value>, kind: Kind) {
        match (kind, value) {
            (Inline(fields), value) => {
                self.fields(value.unwrap_or(&Value::Null), fields);
            }
            (Struct(fields), Some(value)) => self.fields(value, fields),
            (List(fields), Some(Value::Array(items))) if !items.is_empty() => {
                self.group(['[', ']'], items, |w, item| w.fields(item, fields));
            }
            (Text, None) => self.out.push_str("\"\""),
            (Number, None) => self.out.push('0'),
            (Flag, None) => self.out.push_str("false"),
            (Struct(_) | List(_) | Nullable, None) | (List(_), _) => self.out.push_str("null"),
            (_, Some(value)) => self.plain(value),
        }
    }

    /// Writes a value whose Go type is not known: as it is.
    fn plain(&mut self, value: &Value) {
        match value {
            Value::Array(items) => self.group(['[', ']'], items, Self::plain),
            Value::Object(map) => {
                let entries: Vec<(&String, &Value)> = map.iter().collect();
                self.group(['{', '}'], &entries, |w, (key, value)| {
                    w.key(key);
                    w.plain(value);
                });
            }
            other => self.out.push_str(&other.to_string()),
        }
    }
}

/// The spec with the fields moved that Go keeps elsewhere.
fn as_go(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let moved: Vec<(&str, Value)> =
        FROM_SPEC.iter().filter_map(|key| Some((*key, spec.field(key)?.clone()))).collect();
    if let Some(security) = spec.get_mut("securityContext").and_then(Value::as_object_mut) {
        security.extend(moved.into_iter().map(|(key, value)| (key.to_string(), value)));
    }
    spec
}

fn write_spec(spec: &Value, pretty: bool) -> String {
    let mut writer = Writer::new(pretty);
    let ephemeral: Vec<Field> =
        CONTAINER.iter().copied().chain(std::iter::once(EPHEMERAL_TAIL)).collect();
    let spec = as_go(spec);
    writer.group(['{', '}'], POD_SPEC, |w, (name, key, kind)| {
        w.key(name);
        match spec.field(key).and_then(Value::as_array) {
            Some(items) if *key == "ephemeralContainers" && !items.is_empty() => {
                w.group(['[', ']'], items, |w, item| w.fields(item, &ephemeral));
            }
            _ => w.field(spec.field(key), *kind),
        }
    });
    writer.out
}

/// A pod spec on one line.
pub(crate) fn pod_spec(spec: &Value) -> String {
    write_spec(spec, false)
}

/// What changed from one pod spec to another.
pub(crate) fn pod_spec_diff(old: &Value, new: &Value) -> String {
    unified_diff(&write_spec(old, true), &write_spec(new, true))
}

/// What changed from one ephemeral container to another.
pub(crate) fn ephemeral_diff(old: &Value, new: &Value) -> String {
    let print = |container: &Value| {
        let fields: Vec<Field> =
            CONTAINER.iter().copied().chain(std::iter::once(EPHEMERAL_TAIL)).collect();
        let mut writer = Writer::new(true);
        writer.fields(container, &fields);
        writer.out
    };
    unified_diff(&print(old), &print(new))
}

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// A run of lines: equal, or different (old and new).
struct Run {
    equal: bool,
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
}

/// A unified diff without file names.
fn unified_diff(old: &str, new: &str) -> String {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let mut out = String::new();
    for hunk in hunks(runs(&old, &new)) {
        let (first, last) = (&hunk[0], &hunk[hunk.len() - 1]);
        let range = |start: usize, end: usize| match end - start {
            1 => format!("{}", start + 1),
            0 => format!("{start},0"),
            length => format!("{},{length}", start + 1),
        };
        let (old_range, new_range) =
            (range(first.old.start, last.old.end), range(first.new.start, last.new.end));
        out.push_str(&format!("@@ -{old_range} +{new_range} @@\n"));
        let mut add = |mark: char, lines: &[&str]| {
            for line in lines {
                out.push(mark);
                out.push_str(line);
                out.push('\n');
            }
        };
        for run in &hunk {
            if run.equal {
                add(' ', &old[run.old.clone()]);
            } else {
                add('-', &old[run.old.clone()]);
                add('+', &new[run.new.clone()]);
            }
        }
    }
    out
}

/// Groups runs into hunks with some context.
fn hunks(runs: Vec<Run>) -> Vec<Vec<Run>> {
    let mut hunks: Vec<Vec<Run>> = Vec::new();
    let mut hunk: Vec<Run> = Vec::new();
    let count = runs.len();
    for (index, run) in runs.into_iter().enumerate() {
        let length = run.old.len();
        if !run.equal {
            hunk.push(run);
        } else if index == 0 || index + 1 == count || length > 2 * CONTEXT {
            let keep = length.min(CONTEXT);
            let (old, new) = (run.old, run.new);
            if index > 0 {
                let head = Run {
                    equal: true,
                    old: old.start..old.start + keep,
                    new: new.start..new.start + keep,
                };
                hunk.push(head);
                hunks.push(std::mem::take(&mut hunk));
            }
            if index + 1 < count {
                let (old_from, new_from) = (old.end - keep, new.end - keep);
                hunk.push(Run { equal: true, old: old_from..old.end, new: new_from..new.end });
            }
        } else {
            hunk.push(run);
        }
    }
    if hunk.iter().any(|run| !run.equal) {
        hunks.push(hunk);
    }
    hunks
}

/// Splits two texts into equal and different runs along a longest common subsequence.
fn runs(old: &[&str], new: &[&str]) -> Vec<Run> {
    let (rows, columns) = (old.len(), new.len());
    // best[i][j]: most lines that old[i..] and new[j..] share in order.
    let mut best = vec![vec![0_usize; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            best[i][j] = if old[i] == new[j] {
                best[i + 1][j + 1] + 1
            } else {
                best[i + 1][j].max(best[i][j + 1])
            };
        }
    }
    let mut out: Vec<Run> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < rows || j < columns {
        let equal = i < rows && j < columns && old[i] == new[j];
        let (di, dj) = if equal {
            (1, 1)
        } else if j == columns || (i < rows && best[i + 1][j] >= best[i][j + 1]) {
            (1, 0)
        } else {
            (0, 1)
        };
        match out.last_mut() {
            Some(run) if run.equal == equal => {
                run.old.end += di;
                run.new.end += dj;
            }
            _ => out.push(Run { equal, old: i..i + di, new: j..j + dj }),
        }
        i += di;
        j += dj;
    }
    out
}
