//! What the demo applies.

/// Image that is imported from an archive.
pub(super) const WEB_V1: &str = "registry.example/web:v1";
/// Image that is pulled from the local registry.
pub(super) const WEB_V2: &str = "127.0.0.1:5000/web:v2";

/// Namespace, ConfigMap, Secret, Deployment, Service.
pub(super) const WEB: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: demo}
data: {GREETING: hello, page.txt: "a page from the ConfigMap\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: demo}
stringData: {PASSWORD: open-sesame}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: registry.example/web:v1
        imagePullPolicy: IfNotPresent
        ports: [{name: http, containerPort: 8080}]
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: web, key: GREETING}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: web, key: PASSWORD}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {cpu: 500m, memory: 64Mi}
        startupProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 30}
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        livenessProbe: {exec: {command: [cat, /version]}, periodSeconds: 5}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
        volumeMounts:
        - {name: pages, mountPath: /pages}
        - {name: scratch, mountPath: /scratch}
      volumes:
      - {name: pages, configMap: {name: web}}
      - {name: scratch, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"#;

/// The pod from which requests are sent.
pub(super) const CLIENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: demo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: registry.example/web:v1
    command: [sleep, "1000000"]
"#;
