package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/scripts"
)

// A codeError says why the code of a run cannot be shown.
type codeError struct {
	run     string
	problem string
	hint    string
}

func (e *codeError) Error() string { return fmt.Sprintf("show code of run %s: %s", e.run, e.problem) }

// codeOf is the code that was run, byte for byte as its hash in the record has it: as it was kept beside
// the log, or as the script store has it.
func (d logContext) codeOf(r *audit.Reader, rec audit.Record) ([]byte, error) {
	if rec.Code.SHA256 == "" {
		why := "the record does not say which"
		if rec.Code.Source != "" {
			why = "py3run did not see it (" + plain(rec.Code.Source) + ")"
		}
		return nil, &codeError{run: rec.RunID, problem: why}
	}
	if rec.Script.Source == audit.ScriptStored && d.only != "" && !d.readsStored(rec) {
		return nil, &codeError{rec.RunID, "the user " + d.only + " may run the script " + plain(rec.Script.Name) + ", and not read it", "its author can share it: py3runctl script share --actions run,read"}
	}
	code, err := r.KeptCode(rec.Code.SHA256)
	if err == nil {
		return code, nil
	}
	missing := errors.Is(err, os.ErrNotExist)
	if rec.Script.Source == audit.ScriptStored {
		if code, stored := d.storedCode(rec); stored == nil {
			return code, nil
		} else if missing {
			err = stored
		}
	}
	switch {
	case !missing:
		return nil, err
	case rec.Code.Stored:
		return nil, &codeError{rec.RunID, fmt.Sprintf("it was kept, and is not there any more (%v)", err), "py3runctl audit prune removes kept code with the records that are too old"}
	case rec.Script.Source == audit.ScriptStored:
		return nil, &codeError{rec.RunID, err.Error(), "security.audit.log-code = true also keeps the code of later runs beside the log"}
	}
	return nil, &codeError{rec.RunID, "it was not kept", "security.audit.log-code = true keeps the code of later runs; code with SHA-256 " + rec.Code.SHA256 + " is what was run"}
}

// readsStored reports whether the caller may read the version of a stored script that was run. To run a
// script is not to read it.
func (d logContext) readsStored(rec audit.Record) bool {
	store, err := scripts.Open(scripts.Dir(config.StateDir(d.environ)))
	if err != nil {
		return false
	}
	defer store.Close()
	version, _ := strconv.Atoi(rec.Script.Version)
	script, _ := store.Text(rec.Script.Name, version)
	return script.Meta.Name != "" && d.may(access.ToRead, script.Object()) == nil
}

// storedCode is the code of a run of a stored script, if the store still has that version with the hash
// that was recorded.
func (d logContext) storedCode(rec audit.Record) ([]byte, error) {
	script, err := d.storedScript(rec)
	return script.Code, err
}

// storedScript is the version of a script that was run, likewise.
func (d logContext) storedScript(rec audit.Record) (scripts.Script, error) {
	version, err := strconv.Atoi(rec.Script.Version)
	if err != nil {
		return scripts.Script{}, fmt.Errorf("script %s: version %q is not a number", rec.Script.Name, rec.Script.Version)
	}
	store, err := scripts.Open(scripts.Dir(config.StateDir(d.environ)))
	if err != nil {
		return scripts.Script{}, err
	}
	defer store.Close()
	script, err := store.Text(rec.Script.Name, version)
	if err == nil && script.Version.SHA256 != rec.Code.SHA256 {
		err = fmt.Errorf("script %s@%d in the store is not what was run: its SHA-256 is %s", rec.Script.Name, version, script.Version.SHA256)
	}
	return script, err
}

// showCode prints the code of a run: as it is, and to a terminal without what that obeys.
func (d logContext) showCode(what string) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	lines, err := d.find(r, what)
	if err != nil {
		return err
	}
	var rec audit.Record
	for _, line := range lines {
		if rec, err = line.Record(); err != nil {
			return fmt.Errorf("record %d: %w", line.Seq, err)
		}
		if rec.Code.SHA256 != "" {
			break
		}
	}
	code, err := d.codeOf(r, rec)
	if err != nil {
		return err
	}
	if d.outIsTerminal {
		code = []byte(harmlessCode(string(code)))
	}
	if _, err = d.out.Write(code); err == nil && d.outIsTerminal && len(code) > 0 && code[len(code)-1] != '\n' {
		_, err = io.WriteString(d.out, "\n")
	}
	return err
}
