package launch

import (
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
)

// Where the file of limits cannot be used, nobody counts refusals. Then the end of the log bounds what a
// flood of them adds to it: what has a record of the last minute gets no other one. Processes that look at
// the same moment can each write one.
const (
	uncountedTime = time.Minute
	uncountedMost = 100 // refusals within that time, after which made-up names have no records
	uncountedLook = 1000
)

// newest returns the alerts and refusals among the newest records of the log, of the last minute.
func newest(dir string) (list []audit.Record) {
	r, err := audit.OpenReader(dir)
	if err != nil {
		return nil
	}
	defer r.Close()
	now, seen := time.Now(), 0
	for line, err := range r.Backward() {
		if seen++; err != nil || seen > uncountedLook || now.Sub(line.Time).Abs() >= uncountedTime {
			return list
		}
		if line.Action != audit.Alerted && line.Action != audit.ExecutionDenied {
			continue
		}
		if rec, err := line.Record(); err == nil {
			list = append(list, rec)
		}
	}
	return list
}

func isAlerted(list []audit.Record, rule string) bool {
	for _, rec := range list {
		if rec.Alert != nil && rec.Alert.Rule == rule {
			return true
		}
	}
	return false
}

// isRecorded reports whether a refusal needs no record of its own beside these.
func isRecorded(list []audit.Record, who access.Subject, code string) bool {
	refusals := 0
	for _, rec := range list {
		if rec.Event.Action != audit.ExecutionDenied {
			continue
		}
		refusals++
		same := rec.User.Name == who.Name
		if who.KeyID != "" {
			same = rec.Auth.KeyID == who.KeyID
		}
		if same && rec.Event.Reason == code && rec.Auth.Method == audit.AuthMethod(who.Method) {
			return true
		}
	}
	return refusals >= uncountedMost && who.Standing == access.Asserted
}
