package ctl

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
)

// ecsVersion is that of the Elastic Common Schema whose fields are used: those that 8.17 and 9.4 have in
// common.
const ecsVersion = "8.17.0"

// ecsOf is a record as a document of the Elastic Common Schema. What that has no field for is under
// py3run, as the schema asks of fields of one's own.
func ecsOf(e event) map[string]any {
	doc := map[string]any{}
	put(doc, "@timestamp", e.at.UTC().Format("2006-01-02T15:04:05.000000Z"))
	put(doc, "ecs.version", ecsVersion)
	put(doc, "message", e.message)
	put(doc, "event.kind", "event")
	if e.class == detectionFinding {
		put(doc, "event.kind", "alert")
	}
	put(doc, "event.category", e.categories)
	put(doc, "event.type", e.types)
	put(doc, "event.action", string(e.Event.Action))
	put(doc, "event.outcome", e.outcome)
	put(doc, "event.reason", e.Event.Reason)
	put(doc, "event.provider", "py3run")
	put(doc, "event.module", "py3run")
	put(doc, "event.dataset", "py3run.audit")
	put(doc, "event.id", e.hash)
	put(doc, "event.hash", e.hash)
	put(doc, "event.sequence", e.Seq)
	put(doc, "event.severity", int(e.severity))
	if e.Event.DurationNS > 0 {
		put(doc, "event.duration", e.Event.DurationNS)
	}
	if at := e.ended(); !at.IsZero() {
		put(doc, "event.end", at.UTC().Format(time.RFC3339Nano))
	}
	put(doc, "host.name", e.Host.Name)
	put(doc, "host.hostname", e.Host.Name)
	put(doc, "host.boot.id", e.Host.Boot)
	if e.Host.UptimeMS > 0 {
		put(doc, "host.uptime", e.Host.UptimeMS/1000)
	}
	put(doc, "user.name", e.User.Name)
	put(doc, "user.id", e.User.ID)
	put(doc, "user.roles", e.User.Roles)
	put(doc, "user.group.name", e.User.Groups)
	put(doc, "user.target.name", e.target)
	put(doc, "client.address", e.Client.IP)
	if e.client.IsValid() {
		put(doc, "client.ip", e.client.String())
		put(doc, "related.ip", []string{e.client.String()})
	}
	name, path, hash, size := e.aboutFile()
	put(doc, "file.name", name)
	put(doc, "file.path", path)
	put(doc, "file.hash.sha256", hash)
	if size >= 0 {
		put(doc, "file.size", size)
	}
	put(doc, "related.hash", distinct(hash))
	put(doc, "related.user", distinct(e.User.Name, e.Auth.Holder, e.Auth.OSUser, e.Auth.SudoUser, e.target))
	if e.class == processActivity {
		e.ecsProcess(doc)
	}
	if e.Alert != nil {
		put(doc, "rule.name", e.Alert.Rule)
	}
	labels := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) { // a dot would be a level more
		labels[strings.ReplaceAll(name, ".", "_")] = e.Labels[name]
	}
	put(doc, "labels", labels)
	delete(e.rest, "labels")
	if e.RunID != "" {
		e.rest["run_id"] = e.RunID
	}
	put(doc, "py3run", e.rest)
	return doc
}

// ecsProcess adds the process of a run. The real user is the operating system's, who has made the call.
func (e event) ecsProcess(doc map[string]any) {
	put(doc, "process.entity_id", e.RunID)
	put(doc, "process.name", "python")
	if p := e.Python; p != nil {
		put(doc, "process.executable", p.Executable)
	}
	if i := e.Invoked; i != nil && len(i.Argv) > 0 {
		put(doc, "process.args", i.Argv)
		put(doc, "process.args_count", len(i.Argv)+i.ArgvDropped)
	}
	if p := e.Process; p != nil && p.ExitCode != nil {
		put(doc, "process.exit_code", *p.ExitCode)
	}
	put(doc, "process.user.name", e.Auth.OSUser)
	if e.V > 0 {
		put(doc, "process.user.id", strconv.Itoa(e.Auth.OSUID))
	}
	if e.Event.Action == audit.ExecutionEnd {
		put(doc, "process.end", e.ended().UTC().Format(time.RFC3339Nano))
	}
}
