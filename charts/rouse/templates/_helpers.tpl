{{/*
Names are fixed (see values.yaml), so there is no `fullname`: a role's objects are called
rouse-ROLE. Helpers that need the role take (dict "root" $ "role" "controller").
*/}}

{{- define "rouse.selectorLabels" -}}
app.kubernetes.io/name: rouse
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* Labels of the release's objects that belong to no single role; takes the root. */}}
{{- define "rouse.commonLabels" -}}
app.kubernetes.io/part-of: rouse
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- if not .Values.standalone }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "rouse.labels" -}}
{{ include "rouse.selectorLabels" . }}
{{ include "rouse.commonLabels" .root }}
{{- end }}

{{- define "rouse.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (printf "v%s" .Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* The table of runtimes as the controller reads it: each with its image. */}}
{{- define "rouse.runtimes" -}}
{{- $image := .Values.image -}}
{{- $table := dict -}}
{{- range $name, $runtime := .Values.runtimes -}}
{{- if $runtime -}}
{{- $own := printf "runtime-%s:%s" $name ($image.tag | default (printf "v%s" $.Chart.AppVersion)) -}}
{{- if contains "/" $image.repository }}{{ $own = printf "%s/%s" (dir $image.repository) $own }}{{ end -}}
{{- if $image.registry }}{{ $own = printf "%s/%s" $image.registry $own }}{{ end -}}
{{- $_ := set $table $name (merge (dict "image" ($runtime.image | default $own)) $runtime) -}}
{{- end -}}
{{- end -}}
{{- toJson $table -}}
{{- end }}

{{/* Host of the Service that every Function's ExternalName points to. */}}
{{- define "rouse.activatorHost" -}}
rouse-activator.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "rouse.username" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:rouse-{{ .role }}
{{- end }}

{{/*
Refuses a domain that can't be reached, because it, or one above it, is reserved; takes
(dict "domain" "of" "reserved").
*/}}
{{- define "rouse.checkDomain" -}}
{{- range .reserved -}}
{{- if or (eq $.domain .) (hasSuffix (printf ".%s" .) $.domain) -}}
{{- fail (printf "%s: %q is %s or below it, which is reserved; give another domain" $.of $.domain .) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Arguments that both roles take. */}}
{{- define "rouse.commonArgs" -}}
- --namespace={{ .Release.Namespace }}
- --cluster-domain={{ .Values.clusterDomain }}
{{- $reserved := list .Values.clusterDomain "svc" "localhost" }}
{{- with .Values.public.domain }}
{{- include "rouse.checkDomain" (dict "domain" . "of" "public.domain" "reserved" $reserved) }}
{{- $reserved = append $reserved . }}
- --public-domain={{ . }}
{{- end }}
{{- range $namespace, $suffixes := .Values.hostSuffixes }}
{{- range $suffixes }}
{{- include "rouse.checkDomain" (dict "domain" . "of" (printf "hostSuffixes.%s" $namespace) "reserved" $reserved) }}
- --host-suffix={{ $namespace }}={{ . }}
{{- end }}
{{- end }}
- --admin-addr=0.0.0.0:9090
- --peer-token-file=/var/run/secrets/rouse.dev/peer/token
- --log={{ .Values.log.format }}
- {{ printf "--log-filter=%s" .Values.log.filter | quote }}
{{- end }}

{{/* The pod template of a role; takes also "args" and "ports" (YAML lists), "grace" (seconds) and, where there are more than the
role's own, "mounts" and "volumes" (YAML lists). */}}
{{- define "rouse.podTemplate" -}}
{{- $role := index .root.Values .role -}}
metadata:
  labels:
    {{- include "rouse.selectorLabels" . | nindent 4 }}
    app.kubernetes.io/part-of: rouse
    {{- with $role.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $role.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: rouse-{{ .role }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $role.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .role }}
      image: {{ include "rouse.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        - {{ .role }}
        {{- include "rouse.commonArgs" .root | nindent 8 }}
        {{- .args | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.name
        - name: POD_UID
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.uid
        - name: POD_IP
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: status.podIP
        {{- with $role.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- with .ports }}
        {{- . | nindent 8 }}
        {{- end }}
        - name: admin
          containerPort: 9090
          protocol: TCP
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 1
        timeoutSeconds: 1
        failureThreshold: 3
      {{- with $role.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop:
            - ALL
      volumeMounts:
        - name: peer-token
          mountPath: /var/run/secrets/rouse.dev/peer
          readOnly: true
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    # Proves this pod to the activators' peer port, over TLS and only after the activator proved its
    # key. Its audience makes it worthless at the API server.
    - name: peer-token
      projected:
        sources:
          - serviceAccountToken:
              audience: rouse.dev/peer
              expirationSeconds: 3600
              path: token
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- with $role.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $role.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $role.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "rouse.selectorLabels" $ | nindent 10 }}
      matchLabelKeys:
        - pod-template-hash
    {{- end }}
{{- end }}

{{/*
The pod template of what Rouse runs in namespaces of tenants, which the controller takes as JSON. Takes
(dict "root" $ "role" "source"), and beside it "args", "env" and "ports" (YAML lists), "grace" (seconds)
and, where there are any, "mounts" and "volumes" (YAML lists).
*/}}
{{- define "rouse.residentTemplate" -}}
{{- $role := index .root.Values .role -}}
metadata:
  labels:
    app.kubernetes.io/part-of: rouse
    {{- with $role.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $role.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: rouse-{{ .role }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $role.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .role }}
      image: {{ include "rouse.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        - {{ .role }}
        {{- .args | nindent 8 }}
        - --admin-addr=0.0.0.0:9090
        - --log={{ .root.Values.log.format }}
        - {{ printf "--log-filter=%s" .root.Values.log.filter | quote }}
      env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.namespace
        {{- .env | nindent 8 }}
        {{- with $role.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- .ports | nindent 8 }}
        - name: admin
          containerPort: 9090
          protocol: TCP
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 1
        timeoutSeconds: 1
        failureThreshold: 3
      {{- with $role.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop:
            - ALL
      {{- with .mounts }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with .volumes }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $role.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # There is one pod: it shall not wait for a lost node for the five minutes that are usual.
  tolerations:
    {{- range list "not-ready" "unreachable" }}
    - key: node.kubernetes.io/{{ . }}
      operator: Exists
      effect: NoExecute
      tolerationSeconds: 15
    {{- end }}
    {{- with $role.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $role.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The pod template of the pods that run sources. */}}
{{- define "rouse.sourceTemplate" -}}
{{- $args := list (printf "- --activator-host=%s" (include "rouse.activatorHost" .)) "- --secrets=/var/run/secrets/rouse.dev/source" "- --doors-addr=0.0.0.0:8083" -}}
{{- range .Values.source.addresses.allowed }}{{ $args = append $args (printf "- --allow-address=%s" .) }}{{ end -}}
{{- range .Values.source.addresses.forbidden }}{{ $args = append $args (printf "- --forbid-address=%s" .) }}{{ end -}}
{{- $env := "- name: HOST_IP\n  valueFrom:\n    fieldRef:\n      apiVersion: v1\n      fieldPath: status.hostIPs" -}}
{{- $ports := "- name: doors\n  containerPort: 8083\n  protocol: TCP" -}}
{{- include "rouse.residentTemplate" (dict "root" . "role" "source" "args" (join "\n" $args) "env" $env "ports" $ports "grace" 40) -}}
{{- end }}

{{/* The pod template of the pods that keep what Functions printed. */}}
{{- define "rouse.keeperTemplate" -}}
{{- $args := "- --kept=/var/lib/rouse/kept\n- --heir-addr=0.0.0.0:8086" -}}
{{- $env := "- name: POD_UID\n  valueFrom:\n    fieldRef:\n      apiVersion: v1\n      fieldPath: metadata.uid" -}}
{{- $ports := "- name: heir\n  containerPort: 8086\n  protocol: TCP" -}}
{{- $mounts := "- name: kept\n  mountPath: /var/lib/rouse/kept" -}}
{{- $volumes := "- name: kept\n  emptyDir: {}" -}}
{{- include "rouse.residentTemplate" (dict "root" . "role" "keeper" "args" $args "env" $env "ports" $ports "grace" 60 "mounts" $mounts "volumes" $volumes) -}}
{{- end }}

{{/* CEL: is the object `it` of what Rouse runs in namespaces of tenants? It has no owner. */}}
{{- define "rouse.isResident" -}}
it.metadata.name in ['rouse-source', 'rouse-keeper'] && it.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'rouse' && 'rouse-' + it.metadata.?labels[?'app.kubernetes.io/component'].orValue('') == it.metadata.name && it.metadata.?ownerReferences.orValue([]).size() == 0
{{- end }}

{{/* CEL: does the object `it` carry Rouse's mark, and does a Function control it? */}}
{{- define "rouse.isChild" -}}
it.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'rouse' && it.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false) && owner.kind == 'Function' && owner.apiVersion.startsWith('rouse.dev/') && owner.uid == it.metadata.?labels[?'rouse.dev/function-uid'].orValue(''))
{{- end }}

{{/*
The defaults of a policy's matchConstraints, written out: the field is one to its managers, and one
that lacks them is changed by every apply.
*/}}
{{- define "rouse.matchDefaults" -}}
matchPolicy: Equivalent
namespaceSelector: {}
objectSelector: {}
{{- end }}
