package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// decode reads the lines that scan refuses: those of a later version, and wrong ones.
func decode(line []byte) (facts, error) {
	if err := checkJSON(line); err != nil {
		return facts{}, err
	}
	var top map[string]json.RawMessage
	var r struct {
		V     int64  `json:"v"`
		Time  string `json:"@timestamp"`
		Event struct {
			Action   string `json:"action"`
			Outcome  string `json:"outcome"`
			Duration *int64 `json:"duration_ns"`
		} `json:"event"`
		Seq   uint64 `json:"seq"`
		Prev  string `json:"prev"`
		RunID string `json:"run_id"`
		Host  struct {
			Jump int64 `json:"clock_jump_ms"`
		} `json:"host"`
	}
	if err := json.Unmarshal(line, &top); err != nil {
		return facts{}, errors.New("not a JSON object")
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return facts{}, err
	}
	f := facts{
		v: r.V, seq: r.Seq, prev: []byte(r.Prev), runID: []byte(r.RunID), action: []byte(r.Event.Action), outcome: []byte(r.Event.Outcome),
		at: readTime([]byte(r.Time)), jumpMS: r.Host.Jump, duration: r.Event.Duration != nil,
	}
	for i, name := range keys().names {
		if _, ok := top[name]; ok {
			f.keys |= 1 << i
		}
	}
	if !f.isRecord() {
		return facts{}, errors.New("no v or seq above 0")
	}
	return f, nil
}

// checkJSON refuses what is not one JSON value, and objects in which a name stands twice: readers
// differ in which of the two they take.
func checkJSON(line []byte) error {
	if !json.Valid(line) {
		return errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil: a list
		value bool            // what comes next in an object
	}
	var open []level
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			if name, ok := token.(string); ok && !open[n-1].value {
				if open[n-1].names[name] {
					return fmt.Errorf("name %s twice", strconv.QuoteToASCII(name))
				}
				open[n-1].names[name] = true
				open[n-1].value = true
				continue
			}
			open[n-1].value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}

// faults says what is wrong with the form of a record's line.
func (f *facts) faults(line []byte) (faults []string) {
	if len(line) >= maxLine {
		faults = append(faults, fmt.Sprintf("%d bytes with its newline, at most %d are allowed", len(line)+1, maxLine))
	}
	if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		faults = append(faults, fmt.Sprintf("byte %#02x at %d is not printable ASCII", line[i], i))
	}
	if missing := f.missing(); missing != "" {
		faults = append(faults, "lacks "+missing)
	}
	return faults
}
