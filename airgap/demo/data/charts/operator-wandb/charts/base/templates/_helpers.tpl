{{- define "base.fullname" -}}
{{ printf "%s-%s" .Release.Name (.Chart.Name | kebabcase) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "base.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | kebabcase }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "base.labels" -}}
{{ include "base.selector" . }}
app.kubernetes.io/version: {{ include "base.version" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The digest's first digits, else the tag as it stands. */}}
{{- define "base.version" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.digest | trimPrefix "sha256:" | trunc 12 }}
{{- else -}}
{{ .Values.image.tag | default "latest" }}
{{- end -}}
{{- end }}

{{/* Takes root and image: prefix/repository, then @digest, else :tag. */}}
{{- define "base.image" -}}
{{- with .root.Values.global.repositoryPrefix }}{{ . | trimSuffix "/" }}/{{ end -}}
{{ .image.repository }}
{{- if .image.digest -}} @{{ .image.digest }} {{- else -}} :{{ .image.tag | default "latest" }} {{- end -}}
{{- end }}

{{/* Takes root and container. */}}
{{- define "base.env" -}}
{{- $env := merge dict (.container.env | default dict) .root.Values.env (.root.Values.global.extraEnv | default dict) -}}
{{- range $name, $value := $env }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  {{- tpl (toYaml $value) $.root | nindent 2 }}
  {{- else }}
  value: {{ tpl (toString $value) $.root | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Takes root and containers, a map by name. */}}
{{- define "base.containers" -}}
{{- range $name, $container := .containers }}
{{- $image := $container.image | default $.root.Values.image }}
- name: {{ $name }}
  image: {{ include "base.image" (dict "root" $.root "image" $image) | quote }}
  imagePullPolicy: {{ $image.pullPolicy | default "IfNotPresent" }}
  {{- range $key, $value := omit $container "image" "env" }}
  {{ $key }}: {{- toYaml $value | nindent 4 }}
  {{- end }}
  {{- with include "base.env" (dict "root" $.root "container" $container) }}
  env: {{- . | nindent 4 }}
  {{- end }}
  resources: {{- toYaml $.root.Values.resources | nindent 4 }}
  securityContext: {{- toYaml $.root.Values.securityContext | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- if include "base.caCerts" $.root }}
    - {name: ca-certs, mountPath: /usr/local/share/ca-certificates, readOnly: true}
    {{- end }}
{{- end }}
{{- end }}

{{/* The name of the ConfigMap with the site's CA certificates, or nothing. */}}
{{- define "base.caCerts" -}}
{{- if .Values.global.customCACerts -}}
{{ .Release.Name }}-ca-certs
{{- else -}}
{{ .Values.global.caCertsConfigMap }}
{{- end -}}
{{- end }}

{{/* Takes root, spec (containers, initContainers) and restartPolicy. */}}
{{- define "base.pod" -}}
serviceAccountName: {{ include "base.fullname" .root }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .spec.initContainers }}
initContainers: {{- include "base.containers" (dict "root" $.root "containers" .) | nindent 2 }}
{{- end }}
containers: {{- include "base.containers" (dict "root" .root "containers" .spec.containers) | nindent 2 }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with include "base.caCerts" .root }}
  - name: ca-certs
    configMap:
      name: {{ . }}
  {{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
