{{- define "redis.selector" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: master
{{- end }}

{{/* Takes image and global. */}}
{{- define "redis.image" -}}
{{- $registry := (.global | default dict).imageRegistry | default .image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest -}} @{{ .image.digest }} {{- else -}} :{{ .image.tag }} {{- end -}}
{{- end }}

{{- define "redis.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.image.pullSecrets -}}
{{- if kindIs "map" . -}} {{- $names = append $names .name -}} {{- else -}} {{- $names = append $names . -}} {{- end -}}
{{- end -}}
{{- with uniq $names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
