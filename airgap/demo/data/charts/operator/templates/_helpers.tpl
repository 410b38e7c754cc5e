{{- define "operator.name" -}}
{{ .Values.nameOverride | default "wandb" | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{ .Values.manager.serviceAccount.name | default (printf "%s-manager" (include "operator.name" .)) }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default "latest" }}
{{- end -}}
{{- end }}

{{- define "operator.hasCACerts" -}}
{{- if or .Values.customCACerts .Values.caCertsConfigMap }}true{{ end -}}
{{- end }}
