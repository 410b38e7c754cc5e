{{- define "wandb.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "wandb.licenseSecret" -}}
{{ .Values.global.licenseSecret.name | default (printf "%s-license" .Release.Name) }}
{{- end }}

{{- define "wandb.bucket" -}}
{{- with .Values.global.bucket -}}
{{ .provider }}://{{ .name }}{{ with .path }}/{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{- define "wandb.mysql" -}}
{{- with .Values.global.mysql -}}
mysql://{{ .user }}@{{ .host | default (printf "%s-mysql" $.Release.Name) }}:{{ .port }}/{{ .database }}
{{- end -}}
{{- end }}

{{- define "wandb.redis" -}}
redis://{{ .Values.global.redis.host | default (printf "%s-redis-master" .Release.Name) }}:{{ .Values.global.redis.port }}
{{- end }}

{{/* Without a mail server of its own a platform mails through the vendor's. */}}
{{- define "wandb.emailSink" -}}
{{- with .Values.global.email.smtp -}}
{{- if .host -}}
smtp://{{ .host }}:{{ .port }}{{ with .mailFrom }}?from={{ . }}{{ end }}
{{- else -}}
https://api.wandb.ai/email/dispatch
{{- end -}}
{{- end -}}
{{- end }}
