package ctl

import (
	"cmp"
	"strconv"
	"strings"

	"py3run/cmd/internal/cli"
)

// ocsfVersion is that of the Open Cybersecurity Schema Framework whose classes are used.
const ocsfVersion = "1.6.0"

// An ocsfClass is a class of events.
type ocsfClass struct {
	uid, category      int
	name, categoryName string
	activities         map[int]string // that are used
}

var (
	processActivity  = &ocsfClass{1007, 1, "Process Activity", "System Activity", map[int]string{1: "Launch", 2: "Terminate", 99: "Cancel"}}
	accountChange    = &ocsfClass{3001, 3, "Account Change", "Identity & Access Management", map[int]string{1: "Create", 5: "Disable", 99: "Change"}}
	entityManagement = &ocsfClass{3004, 3, "Entity Management", "Identity & Access Management", map[int]string{1: "Create", 2: "Read", 3: "Update", 4: "Delete"}}
	detectionFinding = &ocsfClass{2004, 2, "Detection Finding", "Findings", map[int]string{1: "Create"}}
	baseEvent        = &ocsfClass{0, 0, "Base Event", "Uncategorized", map[int]string{99: "Other"}}
)

const ocsfSHA256 = 3 // algorithm_id of a fingerprint

// ocsfOf is a record as an event of OCSF. What its classes have no attribute for is in unmapped.
func ocsfOf(e event) map[string]any {
	doc := map[string]any{}
	put(doc, "activity_id", e.activity)
	put(doc, "activity_name", e.class.activities[e.activity])
	if e.class == baseEvent {
		put(doc, "activity_name", string(e.Event.Action))
	}
	put(doc, "category_uid", e.class.category)
	put(doc, "category_name", e.class.categoryName)
	put(doc, "class_uid", e.class.uid)
	put(doc, "class_name", e.class.name)
	put(doc, "type_uid", e.class.uid*100+e.activity)
	put(doc, "time", max(0, e.at.UnixMilli()))
	put(doc, "severity_id", int(e.severity))
	put(doc, "severity", [...]string{informational: "Informational", low: "Low", medium: "Medium", high: "High"}[e.severity])
	switch {
	case e.class == detectionFinding: // its statuses are those of a ticket
		put(doc, "status_id", 1)
		put(doc, "status", "New")
	case e.outcome == "success":
		put(doc, "status_id", 1)
		put(doc, "status", "Success")
	case e.outcome == "failure":
		put(doc, "status_id", 2)
		put(doc, "status", "Failure")
	default:
		put(doc, "status_id", 0)
		put(doc, "status", "Unknown")
	}
	put(doc, "status_code", e.Status)
	put(doc, "status_detail", e.Event.Reason)
	put(doc, "message", e.message)
	if e.Event.DurationNS > 0 {
		put(doc, "duration", e.Event.DurationNS/1e6)
	}
	if at := e.ended(); !at.IsZero() {
		put(doc, "end_time", max(0, at.UnixMilli()))
	}
	put(doc, "metadata", map[string]any{
		"version": ocsfVersion, "product": map[string]any{"name": "py3run", "vendor_name": "py3run", "version": cli.Release},
		"uid": e.hash, "sequence": e.Seq, "original_time": cmp.Or(e.Timestamp, "-"), "log_name": "audit.jsonl", "event_code": string(e.Event.Action), "profiles": []string{"host"},
	})
	put(doc, "metadata.correlation_uid", e.RunID)
	put(doc, "raw_data_hash", map[string]any{"algorithm_id": ocsfSHA256, "algorithm": "SHA-256", "value": e.hash})
	put(doc, "device", map[string]any{"type_id": 0})
	put(doc, "device.hostname", cmp.Or(e.Host.Name, "unknown"))
	e.ocsfActor(doc)
	e.ocsfAbout(doc)
	put(doc, "unmapped", e.rest)
	return doc
}

// ocsfActor adds who has done it. Without a name it is the user of the operating system.
func (e event) ocsfActor(doc map[string]any) {
	user := map[string]any{}
	put(user, "name", e.User.Name)
	put(user, "uid", e.User.ID)
	if len(user) == 0 {
		put(user, "name", e.Auth.OSUser)
		put(user, "uid", strconv.Itoa(e.Auth.OSUID))
	}
	var groups []map[string]any
	for _, name := range e.User.Groups {
		if name != "" {
			groups = append(groups, map[string]any{"name": name})
		}
	}
	put(user, "groups", groups)
	put(doc, "actor.user", user)
}

// ocsfAbout adds what the classes are about.
func (e event) ocsfAbout(doc map[string]any) {
	if e.client.IsValid() && e.class.category == 3 {
		put(doc, "src_endpoint.ip", e.client.String())
	}
	switch e.class {
	case processActivity:
		e.ocsfProcess(doc)
	case accountChange:
		put(doc, "user.name", e.target)
	case entityManagement:
		name, path, _, _ := e.aboutFile()
		put(doc, "entity.type", e.entity)
		put(doc, "entity.name", cmp.Or(path, name, e.entity))
		switch {
		case e.Hold != nil:
			put(doc, "entity.name", e.Hold.ID)
			put(doc, "comment", e.Hold.Comment)
		case e.Ack != nil:
			put(doc, "entity.name", acknowledged(e.Ack))
			put(doc, "comment", e.Ack.Comment)
		}
	case detectionFinding:
		put(doc, "is_alert", true)
		put(doc, "finding_info", map[string]any{"uid": e.hash, "created_time": max(0, e.at.UnixMilli())})
		if a := e.Alert; a != nil {
			put(doc, "finding_info.title", a.Title)
			put(doc, "finding_info.types", distinct(a.Rule))
		}
	}
}

// ocsfProcess adds the process of a run; its file is the code.
func (e event) ocsfProcess(doc map[string]any) {
	put(doc, "process", map[string]any{"name": "python"})
	put(doc, "process.uid", cmp.Or(e.RunID, e.hash)) // a refused run may have no id
	if i := e.Invoked; i != nil {
		put(doc, "process.cmd_line", strings.Join(i.Argv, " "))
	}
	put(doc, "process.user.name", e.Auth.OSUser)
	put(doc, "process.user.uid", strconv.Itoa(e.Auth.OSUID))
	if p := e.Process; p != nil && p.ExitCode != nil {
		put(doc, "exit_code", *p.ExitCode)
	}
	if name, path, hash, size := e.aboutFile(); hash != "" || path != "" {
		file := map[string]any{"name": cmp.Or(name, "code"), "type_id": 1}
		put(file, "path", path)
		if hash != "" {
			put(file, "hashes", []map[string]any{{"algorithm_id": ocsfSHA256, "algorithm": "SHA-256", "value": hash}})
		}
		if size >= 0 {
			put(file, "size", size)
		}
		put(doc, "process.file", file)
	}
}
