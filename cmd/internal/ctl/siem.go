package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// The formats of other systems are views of a record: they say in the terms of those systems what it
// says, with the hash of its line, by which the record itself is found and proved.

// exportFormats are the formats of audit export.
var exportFormats = []string{"json", "csv", "ecs", "ocsf", "cef", "rfc5424"}

// exportPrinter writes records in a format. header: the output begins here.
func exportPrinter(to io.Writer, format string, header bool) func(audit.Line, audit.Record) error {
	var text func(event) ([]byte, error)
	switch format {
	case "csv":
		return csvPrinter(to, header)
	case "ecs":
		text = func(e event) ([]byte, error) { return jsonLine(ecsOf(e)) }
	case "ocsf":
		text = func(e event) ([]byte, error) { return jsonLine(ocsfOf(e)) }
	case "cef":
		text = func(e event) ([]byte, error) { return append(cefOf(e), '\n'), nil }
	case "rfc5424":
		text = func(e event) ([]byte, error) { return append(syslogOf(e), '\n'), nil }
	default:
		return func(line audit.Line, _ audit.Record) error {
			_, err := fmt.Fprintf(to, "%s\n", line.Text)
			return err
		}
	}
	return func(line audit.Line, rec audit.Record) error {
		out, err := text(eventOf(line, rec))
		if err == nil {
			_, err = to.Write(out)
		}
		return err
	}
}

// An event is a record with what all these formats ask of it.
type event struct {
	audit.Record
	kind
	at      time.Time // zero: not readable
	hash    string    // of the line
	message string
	outcome string         // success, failure or unknown
	target  string         // the user whom a change of the policy is about
	client  netip.Addr     // not valid: the caller gave none, or no address
	rest    map[string]any // what the formats have no field for, under the record's own keys
}

// A severity is the same in all formats: ECS and OCSF have it so, CEF and syslog have tables.
type severity int

const (
	informational severity = iota + 1
	low
	medium
	high
)

// A kind is what a record is to other systems.
type kind struct {
	categories, types []string // of ECS
	class             *ocsfClass
	activity          int    // of the class
	entity            string // what was changed, for the class entity management
	severity          severity
	title             string // for CEF: it says nothing of the event itself
}

var kinds = map[audit.Action]kind{
	audit.ExecutionStart:    {[]string{"process"}, []string{"start"}, processActivity, 1, "", informational, "Run started"},
	audit.ExecutionEnd:      {[]string{"process"}, []string{"end"}, processActivity, 2, "", informational, "Run ended"},
	audit.ExecutionOrphaned: {[]string{"process"}, []string{"end"}, processActivity, 2, "", medium, "Run died with its launcher"},
	audit.ExecutionDenied:   {[]string{"process", "api"}, []string{"start", "denied"}, processActivity, 1, "", medium, "Run refused"},
	audit.ExecutionCancel:   {[]string{"process"}, []string{"change"}, processActivity, 99, "", low, "Run cancelled"},
	audit.PolicyChanged:     {[]string{"configuration"}, []string{"change"}, entityManagement, 3, "Configuration file", medium, "Configuration file changed"},
	audit.AuditRepair:       {[]string{"file"}, []string{"change"}, entityManagement, 3, "Audit log", high, "Audit log repaired"},
	audit.AuditRetention:    {[]string{"file"}, []string{"deletion"}, entityManagement, 4, "Audit log", low, "Audit records removed"},
	audit.AuditAcknowledged: {[]string{"configuration"}, []string{"info"}, entityManagement, 3, "Finding", low, "Finding acknowledged"},
	audit.AuditHold:         {[]string{"configuration"}, []string{"creation"}, entityManagement, 1, "Legal hold", low, "Legal hold put in force"},
	audit.AuditHoldRelease:  {[]string{"configuration"}, []string{"deletion"}, entityManagement, 4, "Legal hold", medium, "Legal hold released"},
	audit.Alerted:           {[]string{"intrusion_detection"}, []string{"info"}, detectionFinding, 1, "", high, "Alert"},
	audit.UserAdded:         {[]string{"iam"}, []string{"user", "creation"}, accountChange, 1, "User", low, "User added"},
	audit.UserChanged:       {[]string{"iam"}, []string{"user", "change"}, accountChange, 99, "User", low, "User changed"},
	audit.UserDisabled:      {[]string{"iam"}, []string{"user", "change"}, accountChange, 5, "User", low, "User disabled"},
	audit.GroupChanged:      {[]string{"iam"}, []string{"group", "change"}, entityManagement, 3, "Group", low, "Group changed"},
	audit.KeyCreated:        {[]string{"iam"}, []string{"creation"}, entityManagement, 1, "API key", low, "API key created"},
	audit.KeyRevoked:        {[]string{"iam"}, []string{"deletion"}, entityManagement, 4, "API key", low, "API key revoked"},
	audit.KeyRotated:        {[]string{"iam"}, []string{"change"}, entityManagement, 3, "API key", low, "API key replaced"},
	audit.ScriptSaved:       {[]string{"file"}, []string{"change"}, entityManagement, 3, "Stored script", informational, "Stored script saved"},
	audit.ScriptShared:      {[]string{"file"}, []string{"change"}, entityManagement, 3, "Stored script", informational, "Stored script shared"},
	audit.ScriptDeleted:     {[]string{"file"}, []string{"deletion"}, entityManagement, 4, "Stored script", informational, "Stored script deleted"},
	audit.ScriptImported:    {[]string{"file"}, []string{"creation"}, entityManagement, 1, "Stored script", informational, "Stored script imported"},
	audit.PolicyRestored:    {[]string{"configuration"}, []string{"change"}, entityManagement, 3, "Policy", medium, "Policy restored"},
	audit.LimitsReset:       {[]string{"configuration"}, []string{"change"}, entityManagement, 3, "Limits", low, "Limits reset"},
	audit.ConfigChanged:     {[]string{"configuration"}, []string{"change"}, entityManagement, 3, "Configuration file", medium, "Configuration changed by the pages"},
	audit.SessionStarted:    {[]string{"authentication", "session"}, []string{"start"}, baseEvent, 99, "", informational, "Signed in to the pages"},
	audit.SessionEnded:      {[]string{"authentication", "session"}, []string{"end"}, baseEvent, 99, "", informational, "Signed out of the pages"},
	audit.SessionDenied:     {[]string{"authentication"}, []string{"start"}, baseEvent, 99, "", medium, "Sign-in to the pages refused"},
	audit.HistoryViewed:     {[]string{"api"}, []string{"access"}, entityManagement, 2, "Run", informational, "Runs of others looked at"},
	audit.CodeViewed:        {[]string{"api"}, []string{"access"}, entityManagement, 2, "Code", informational, "Code looked at"},
}

// otherKind is that of records of later versions.
var otherKind = kind{[]string{"configuration"}, []string{"info"}, baseEvent, 99, "", informational, "Audit record"}

// mapped are the keys of a record that all formats have fields for.
var mapped = []string{"v", "@timestamp", "event", "seq", "run_id", "host", "user"}

func eventOf(line audit.Line, rec audit.Record) event {
	e := event{Record: rec, at: line.Time, hash: line.Hash().String(), rest: map[string]any{}}
	if e.Event.Action == "" { // its line is not one that this version can decode
		e.Event.Action, e.RunID = line.Action, line.RunID
	}
	known := false
	if e.kind, known = kinds[e.Event.Action]; !known || rec.V == 0 {
		e.kind = otherKind
	}
	switch rec.Event.Outcome {
	case audit.Success:
		e.outcome = "success"
	case audit.Failure, audit.Denied:
		e.outcome = "failure"
	default:
		e.outcome = "unknown"
	}
	if e.outcome == "failure" {
		e.severity = max(e.severity, low)
	}
	what, _, words := wordsOf(rec)
	e.message = strings.TrimSuffix(strings.Join([]string{what, named(rec.User.Name, store.Asserted(rec)), strings.Join(words, ", ")}, ": "), ": ")
	if addr, err := netip.ParseAddr(rec.Client.IP); err == nil {
		e.client = addr.Unmap().WithZone("")
	}
	if rec.Policy != nil && e.class == accountChange {
		for _, change := range rec.Policy.Changes { // "user NAME: what has changed"
			if name, ok := strings.CutPrefix(change, "user "); ok && e.target == "" {
				e.target, _, _ = strings.Cut(name, ": ")
			}
		}
	}
	if e.class == accountChange && e.target == "" {
		e.class, e.activity = entityManagement, 3
	}
	d := json.NewDecoder(bytes.NewReader(line.Text))
	d.UseNumber()
	if d.Decode(&e.rest) == nil {
		for _, key := range mapped {
			delete(e.rest, key)
		}
	}
	return e
}

// put sets a field of a document by its path, unless the value is empty.
func put(doc map[string]any, path string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case []string:
		if len(v) == 0 {
			return
		}
	case []map[string]any:
		if len(v) == 0 {
			return
		}
	case map[string]any:
		if len(v) == 0 {
			return
		}
	}
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		inner, ok := doc[part].(map[string]any)
		if !ok {
			inner = map[string]any{}
			doc[part] = inner
		}
		doc = inner
	}
	doc[parts[len(parts)-1]] = value
}

// distinct are the texts that are not empty, each once, in their order.
func distinct(texts ...string) (list []string) {
	for _, text := range texts {
		if text != "" && !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// labelText is the labels of a record in one text, by name.
func (e event) labelText() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		list = append(list, name+"="+e.Labels[name])
	}
	return strings.Join(list, " ")
}

// ended is when a run ended; zero: the record does not say.
func (e event) ended() time.Time {
	if at, err := time.Parse(time.RFC3339Nano, e.Event.End); err == nil {
		return at
	}
	if e.Event.Action == audit.ExecutionEnd {
		return e.at
	}
	return time.Time{}
}

// aboutFile is the file or code that a record names: its name, path, hash and size; size -1: not known.
func (e event) aboutFile() (name, path, hash string, size int64) {
	if p := e.Policy; p != nil && e.class != processActivity {
		return p.Path[strings.LastIndexByte(p.Path, '/')+1:], p.Path, p.NewSHA256, -1
	}
	name, path, hash, size = scriptOf(e.Script.Name, e.Script.Version), e.Script.Path, e.Code.SHA256, e.Code.Bytes
	if hash == "" {
		size = -1
	}
	return name, path, hash, size
}
