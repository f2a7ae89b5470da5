package audit

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

// brief is what a BriefReader keeps of a record.
func brief(r Record) Record {
	b := Record{V: r.V, Timestamp: r.Timestamp, Event: r.Event, Seq: r.Seq, RunID: r.RunID, Host: Host{Name: r.Host.Name}, User: User{Name: r.User.Name},
		Auth: Auth{Method: r.Auth.Method, OSUser: r.Auth.OSUser, KeyID: r.Auth.KeyID, Holder: r.Auth.Holder}, Client: Client{IP: r.Client.IP}, Script: r.Script, Command: r.Command,
		Code: r.Code, Labels: r.Labels, Status: r.Status, Process: r.Process}
	if r.Invoked != nil {
		b.Invoked = &Invocation{Command: r.Invoked.Command}
	}
	return b
}

// What a BriefReader reads of a line is what encoding/json reads, whatever the line is.
func TestBriefReader(t *testing.T) {
	t.Parallel()
	line := func(r Record) []byte {
		r.follow(origin)
		r.Seq = 41
		text, _, err := (&draft{record: r, maxString: maxString}).encode()
		must(t, err)
		return text
	}
	full, alert := endRecord("r1"), startRecord("r2")
	full.User = User{Name: "a\x1b\"\\\u202e\n\u2028é\x7f😀", Roles: []string{"x"}}
	full.Labels = map[string]string{"job": "7", "a,\"b": "", "é": "\n"}
	full.Invoked, full.Script = &Invocation{Command: "exec", Argv: []string{"x"}, Stdin: &Input{Bytes: 1}}, Script{Name: "s", Version: "3", Source: ScriptStored, Path: "/x"}
	full.Auth = Auth{Method: AuthAPIKey, OSUID: 3, OSUser: "gw", KeyID: "k", Holder: "h", LoginUID: new(5), SudoUser: "z"}
	full.Code.Stored, full.Event.End, full.Event.Reason = true, "2026-01-01T00:00:00Z", "why"
	process := *full.Process
	process.PeakProcesses, process.ResultBytes = 3, 2
	full.Host.UptimeMS, full.Host.ClockJumpMS, full.User.ID, full.User.Groups, full.Auth.SudoSource = 5, 6, "7", []string{"g"}, SudoLogin
	full.Invoked.ArgvDropped, full.Code.Source = 1, "c"
	full.Process = &process
	full.Failure = &FailureDetail{Type: "ValueError", Line: 2, Limit: &LimitHit{Name: "timeout_seconds", Configured: 1, Used: 1.5}, Where: []Frame{{File: "main.py", Line: 2, Function: "f"}}}
	alert.Alert = &Alert{Rule: "r", Title: "t", Seq: 4}
	for _, part := range []any{full.Event, full.Host, full.User, full.Auth, full.Client, full.Script, *full.Invoked, full.Code, *full.Process} { // a new field must not make each line unusual
		for i := range reflect.TypeOf(part).NumField() {
			if reflect.ValueOf(part).Field(i).IsZero() {
				t.Errorf("the record has no %s of %T", reflect.TypeOf(part).Field(i).Name, part)
			}
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	fast := 0
	for i, text := range [][]byte{line(startRecord("r1")), line(full), line(alert)} {
		for n := range 8000 {
			changed := append([]byte{}, text...)
			for range min(n, 1+random.IntN(2)) {
				at := random.IntN(len(changed))
				switch random.IntN(4) {
				case 0:
					changed[at] = byte(' ' + random.IntN(95))
				case 1:
					changed = append(changed[:at], changed[at+1:]...)
				case 2:
					changed[at] ^= 0x20
				case 3:
					changed = append(changed[:at], append([]byte{changed[random.IntN(len(changed))]}, changed[at:]...)...)
				}
			}
			var b BriefReader
			s := briefScanner{scanner: scanner{text: changed}, reader: &b}
			var got, want Record
			if !s.record(&got) {
				if n == 0 && i < 2 {
					t.Fatalf("too unusual: %s", changed)
				}
				continue
			}
			fast++
			err := json.Unmarshal(changed, &want)
			if e := new(json.UnmarshalTypeError); errors.As(err, &e) { // in what is left out; the rest was read
				err = nil
				continue
			}
			if err != nil || !reflect.DeepEqual(got, brief(want)) {
				t.Fatalf("%s\nread  %+v\nwant  %+v, %v", changed, got, brief(want), err)
			}
		}
	}
	if fast < 1000 {
		t.Errorf("only %d lines were read", fast)
	}
	var b BriefReader
	if rec, err := b.Record(Line{Text: line(alert)}); err != nil || rec.Alert == nil || rec.Alert.Title != "t" {
		t.Errorf("an alert: %+v, %v", rec, err)
	}
	if _, err := b.Record(Line{Text: []byte(`{"v":1`)}); err == nil {
		t.Error("half a line was read")
	}
}
