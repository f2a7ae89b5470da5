package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/internal/atomicfile"
)

const (
	alertsName  = "alerts.json"
	deliverWait = 10 * time.Second // for the command, and for the answer of the webhook
	pendingMost = 1000             // how many alerts wait for delivery; older ones are dropped with a warning
)

// alertState is what one evaluation leaves for the next.
type alertState struct {
	Position audit.Position `json:"position"`
	Watched  *watched       `json:"watched"`
	Pending  []alert        `json:"pending,omitempty"` // not delivered yet

	Unrecorded []alert `json:"unrecorded,omitempty"` // not written into the log yet
}

// alerts applies the rules to the records since the last call. It prints each alert, writes a
// record of it and delivers it, and returns how many there were. The first call only learns what is
// usual, unless everything is set.
func (d logContext) alerts(statePath, format string, everything bool) (fired int, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if statePath == "" {
		statePath = filepath.Join(d.dir, alertsName)
	}
	unlock, err := lockState(statePath)
	if err != nil {
		return 0, err
	}
	defer unlock()
	state, known, err := readState(statePath)
	if err != nil {
		return 0, err
	}
	if known && everything {
		d.warnf("--everything counts on the first call only, and there is %s from an earlier one: to begin anew, remove it, or name another one with --state", statePath)
	}
	learning := !known && !everything
	found, err := d.evaluate(r, state)
	if err != nil {
		return 0, err
	}
	if days := d.config.Security.Audit.RetentionDays; days > 0 {
		now := time.Now()
		state.Watched.forget(now.AddDate(0, 0, -days), now)
	}
	if learning {
		d.say("learned what is usual from %d records; from now on what is new is told", state.Watched.Seq)
		return 0, writeState(statePath, state)
	}
	for _, a := range found {
		if err := d.printAlert(a, format); err != nil {
			return 0, fmt.Errorf("tell of alerts: %v (all come again)", err)
		}
	}
	state.Unrecorded = append(state.Unrecorded, found...)
	if err := d.record(&state.Unrecorded); err != nil {
		d.warnf("alerts are not recorded: %v (%d wait for the next time)", err, len(state.Unrecorded))
	}
	if len(d.config.Alerts.Command) > 0 || d.config.Alerts.Webhook != "" {
		state.Pending = append(state.Pending, found...)
		if over := len(state.Pending) - pendingMost; over > 0 {
			d.warnf("%d alerts could not be delivered for so long that they are dropped", over)
			state.Pending = state.Pending[over:]
		}
	}
	if err := writeState(statePath, state); err != nil { // before the delivery: an alert may be delivered twice, but must not get lost
		return 0, err
	}
	failed := d.deliver(state)
	if err := writeState(statePath, state); err != nil {
		return len(found), err
	}
	return len(found), failed
}

// evaluate applies the rules to the new records.
func (d logContext) evaluate(r *audit.Reader, state *alertState) (found []alert, err error) {
	state.Watched.days = &d.config.Security.Audit.RetentionDays
	tampered := func(seq uint64, title string) {
		if d.config.Alerts.Tampering {
			found = append(found, alert{Rule: ruleTampering, Title: title, Time: time.Now().UTC().Format(time.RFC3339Nano), Seq: seq})
		}
	}
	bad := func(err error) {
		d.warn(err)
		tampered(state.Watched.Seq, fmt.Sprintf("what follows record %d is no record: %v", state.Watched.Seq, err))
	}
	look := func(from audit.Position) (n int, err error) {
		for e, err := range d.entries(r, from, &state.Position, bad) {
			if err != nil {
				return n, err
			}
			if e.Record.Seq > state.Watched.Seq { // else it was looked at before the log was found to be another one
				n++
				found = append(found, state.Watched.look(e, d.config.Alerts)...)
			}
		}
		return n, nil
	}
	_, err = look(state.Position)
	gone := new(audit.PositionError)
	if !errors.As(err, &gone) {
		return found, err
	}
	if !gone.Pruned {
		tampered(gone.Position.Seq, "the log is not what it was: "+gone.Error())
	}
	state.Position = audit.Position{}
	n, err := look(state.Position)
	if n == 0 && err == nil && !gone.Pruned { // its numbers begin anew
		state.Watched.Seq = 0
		_, err = look(audit.Position{})
	}
	return found, err
}

func (d logContext) printAlert(a alert, format string) error {
	if d.formatOf(format) == "json" {
		return writeJSON(d.out, a)
	}
	looked := ""
	if a.Acknowledged != nil {
		looked = plain(fmt.Sprintf(" (%s)", a.Acknowledged))
	}
	_, err := fmt.Fprintf(d.out, "%s  %-15s  record %d  %s%s\n", plain(d.shownTime(a.Time)), a.Rule, a.Seq, plain(a.Title), looked)
	return err
}

// record writes the alerts into the log. It leaves those that cannot be written.
func (d logContext) record(found *[]alert) error {
	if len(*found) == 0 {
		return nil
	}
	if over := len(*found) - pendingMost; over > 0 {
		d.warnf("%d alerts could not be recorded for so long that they are dropped", over)
		*found = (*found)[over:]
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	for ; len(*found) > 0; *found = (*found)[1:] {
		a := (*found)[0]
		if a.Record > 0 {
			continue // it is in the log
		}
		if _, err := log.Append(audit.Record{
			Event: audit.Event{Action: audit.Alerted, Outcome: audit.Unknown, Reason: a.Rule}, RunID: a.RunID, Host: audit.ThisHost(),
			User: audit.User{Name: a.User}, Auth: audit.Auth{Method: audit.AuthNone, OSUID: os.Getuid()}, Script: audit.Script{Name: a.Script},
			Alert: &audit.Alert{Rule: a.Rule, Title: a.Title, Seq: a.Seq},
		}); err != nil {
			return err
		}
	}
	return nil
}

// deliver delivers the alerts that wait, oldest first. One that cannot be delivered, and all later
// ones, wait for the next call.
func (d logContext) deliver(state *alertState) error {
	rules := d.config.Alerts
	for len(state.Pending) > 0 {
		text, err := json.Marshal(state.Pending[0])
		if err != nil {
			return err
		}
		if len(rules.Command) > 0 {
			err = runCommand(rules.Command, text)
		}
		if err == nil && rules.Webhook != "" {
			err = post(rules, text)
		}
		if err != nil {
			return fmt.Errorf("deliver alert %s of record %d: %w (%d wait for the next time)", state.Pending[0].Rule, state.Pending[0].Seq, err, len(state.Pending))
		}
		state.Pending = state.Pending[1:]
	}
	return nil
}

func runCommand(argv []string, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), deliverWait)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdin = bytes.NewReader(append(text, '\n'))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	if out, err := c.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("took longer than %v", deliverWait)
		}
		said := strings.TrimSpace(string(out[:min(len(out), 500)]))
		return fmt.Errorf("%s: %w%s", argv[0], err, strings.TrimRight(": "+plain(said), ": "))
	}
	return nil
}

func post(rules config.Alerts, text []byte) error {
	client := http.Client{Timeout: deliverWait}
	answer, err := client.Post(rules.Webhook, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the webhook answers %s", answer.Status)
	}
	return nil
}

// lockState makes sure that only one evaluation runs at a time.
func lockState(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s.lock: another evaluation is under way: %w", path, err)
	}
	return func() {
		unix.Flock(int(f.Fd()), unix.LOCK_UN) // a process that is being started has a copy of the descriptor until its exec
		f.Close()
	}, nil
}

func readState(path string) (*alertState, bool, error) {
	state := &alertState{Watched: newWatched()}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return state, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, state)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", path, err)
	}
	return state, true, nil
}

func writeState(path string, state *alertState) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return replaceFile(path, text, 0o600)
}

// replaceFile writes a file completely or not at all. A device or a pipe is written to and not
// replaced.
func replaceFile(path string, text []byte, mode os.FileMode) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return os.WriteFile(path, text, mode)
	}
	return writeFile(path, text, mode, 0)
}

// newFile writes a file that must not exist, completely or not at all.
func newFile(path string, text []byte) error {
	return writeFile(path, text, 0o600, unix.RENAME_NOREPLACE)
}

// writeFile writes a file completely or not at all. flags are those of renameat2(2).
func writeFile(path string, text []byte, mode os.FileMode, flags uint) error {
	err := func() error {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return err
		}
		defer dir.Close()
		f, err := atomicfile.Create(int(dir.Fd()), "", 0o600)
		if err != nil {
			return err
		}
		defer f.Discard()
		_, err = f.Write(text)
		if err = errors.Join(err, f.Chmod(mode)); err != nil { // whatever the umask says
			return err
		}
		return f.Put(int(dir.Fd()), filepath.Base(path), flags)
	}()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, cause(err))
	}
	return nil
}

// cause is an error without the name of its file, which is a temporary one.
func cause(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	if link := new(os.LinkError); errors.As(err, &link) {
		return link.Err
	}
	return err
}
