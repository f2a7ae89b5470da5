package wire

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/wire/strictjson"
)

// Limits are the limits of one run. In a request they can only tighten; in a result they are what
// was in force. Zero means "not given" and "no limit". A request may hold any positive finite
// number, so a conversion to nanoseconds or bytes must round up to at least one and stop at the
// largest: 1e-12 must not become "no limit".
type Limits struct {
	TimeoutSeconds float64
	CPUSeconds     float64
	MemoryMB       float64 // of 2^20 bytes, as all MB here
	Processes      float64
	OutputMB       float64
	FileMB         float64
	DiskMB         float64
	IdleSeconds    float64
}

var limitTable = [...]struct {
	name  string
	whole bool
}{
	{"timeout_seconds", false},
	{"cpu_seconds", false},
	{"memory_mb", false},
	{"processes", true},
	{"output_mb", false},
	{"file_mb", false},
	{"disk_mb", false},
	{"idle_seconds", false},
}

// LimitNames lists the limits in the order in which they are written.
func LimitNames() []string {
	names := make([]string, len(limitTable))
	for i, row := range limitTable {
		names[i] = row.name
	}
	return names
}

// Get returns the limit of that JSON name, and whether there is one of that name.
func (l Limits) Get(name string) (float64, bool) {
	if p := l.field(name); p != nil {
		return *p, true
	}
	return 0, false
}

// Set changes the limit of that JSON name, and reports whether there is one of that name.
func (l *Limits) Set(name string, value float64) bool {
	p := l.field(name)
	if p != nil {
		*p = value
	}
	return p != nil
}

// field is a switch, and not a function in the table: with that one, each Get would need memory for a copy.
func (l *Limits) field(name string) *float64 {
	switch name {
	case "timeout_seconds":
		return &l.TimeoutSeconds
	case "cpu_seconds":
		return &l.CPUSeconds
	case "memory_mb":
		return &l.MemoryMB
	case "processes":
		return &l.Processes
	case "output_mb":
		return &l.OutputMB
	case "file_mb":
		return &l.FileMB
	case "disk_mb":
		return &l.DiskMB
	case "idle_seconds":
		return &l.IdleSeconds
	}
	return nil
}

// MarshalJSON writes the limits that are set.
func (l Limits) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, row := range limitTable {
		v := *l.field(row.name)
		switch {
		case v == 0:
			continue
		case math.IsNaN(v) || math.IsInf(v, 0):
			return nil, fmt.Errorf("limit %s: %v is not JSON", row.name, v)
		case len(out) > 1:
			out = append(out, ',')
		}
		out = append(strconv.AppendQuote(out, row.name), ':')
		format := byte('f')
		if v >= 1e15 || v < 1e-6 {
			format = 'e'
		}
		out = strconv.AppendFloat(out, v, format, -1, 64)
	}
	return append(out, '}'), nil
}

func readLimits(r *Request, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object of numbers")
	}
	known := LimitNames()
	for i, name := range object.Names {
		at := slices.Index(known, name)
		if at < 0 {
			f := misspelt(name, known)
			if f == nil {
				f = &fault{text: "unknown limit" + didYouMean(name, known), hint: "known: " + strings.Join(known, ", ")}
			}
			f.at = strictjson.Member(name)
			return f
		}
		if object.Values[i] == nil {
			continue
		}
		if f := readLimit(r.Limits.field(name), limitTable[at].whole, object.Values[i]); f != nil {
			f.at = "." + name
			return f
		}
	}
	return nil
}

func readLimit(to *float64, whole bool, v any) *fault {
	n, ok := v.(Number)
	if !ok {
		return wrongKind(v, "a number above 0")
	}
	f, err := strconv.ParseFloat(string(n), 64)
	switch {
	case err != nil: // an integer of more than 308 digits
		return &fault{text: "the number does not fit a double"}
	case f <= 0:
		return &fault{text: "want a number above 0", hint: "leave the limit out to have the operator's"}
	case whole && f != math.Trunc(f):
		return &fault{text: "want a whole number"}
	}
	*to = f
	return nil
}
