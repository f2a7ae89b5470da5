package wire

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"py3run/cmd/internal/wire/strictjson"
)

func readProtocol(_ *Request, v any) *fault {
	if _, ok := v.(Number); !ok {
		return wrongKind(v, "a number")
	}
	var n int
	if readInteger(&n, Protocol, v) != nil || n != Protocol {
		return &fault{"", fmt.Sprintf("not supported; this version speaks protocol %d", Protocol), "leave the field out"}
	}
	return nil
}

// readCommand reads the command; more are those that are known beside those of every request.
func readCommand(r *Request, v any, more []Command) *fault {
	var name string
	if f := readString(&name, v); f != nil {
		return f
	}
	if slices.Contains(more, Command(name)) {
		r.Command = Command(name)
		return nil
	}
	if name == string(CommandShutdown) || name == string(CommandClearGlobals) {
		return &fault{"", strconv.Quote(name) + " is not available", "each request here is a process of its own: there is nothing to shut down or to clear"}
	}
	known := make([]string, len(commands))
	for i, row := range commands {
		if string(row.name) == name {
			r.Command = row.name
			return nil
		}
		known[i] = string(row.name)
	}
	for _, command := range more {
		known = append(known, string(command))
	}
	return &fault{"", "unknown command " + strictjson.Show(name) + didYouMean(name, known), "known: " + strings.Join(known, ", ")}
}

func readID(r *Request, v any) *fault {
	if f := readString(&r.ID, v); f != nil {
		return f
	}
	for _, c := range []byte(r.ID) {
		if c < 0x20 || c > 0x7e {
			return &fault{text: "want printable ASCII"}
		}
	}
	return length(r.ID, 1, 128)
}

func readFilename(r *Request, v any) *fault {
	if f := readString(&r.Filename, v); f != nil {
		return f
	}
	for _, c := range r.Filename {
		if !unicode.IsPrint(c) {
			return &fault{text: "want printable characters"}
		}
	}
	return length(r.Filename, 1, 255)
}

func readUser(r *Request, v any) *fault {
	if f := readString(&r.User, v); f != nil {
		return f
	}
	if strings.ContainsFunc(r.User, unicode.IsControl) {
		return &fault{text: "a control character in the name"}
	}
	return length(r.User, 1, 256)
}

const (
	keyMost    = 256 // bytes of an API key; those that py3run makes are shorter
	scriptMost = 256 // characters of a script's name with its version
)

// readKey reads an API key. No message has anything of it.
func readKey(r *Request, v any) *fault {
	text, ok := v.(string)
	switch {
	case !ok:
		return wrongKind(v, "a string")
	case text == "":
		return &fault{text: "empty", hint: "leave it out to come without a key"}
	case len(text) > keyMost:
		return &fault{text: fmt.Sprintf("longer than %d bytes, which no API key is", keyMost)}
	}
	r.Key = Secret(text)
	return nil
}

// readScript reads the name of a stored script. Whether there is such a script is not known here.
func readScript(r *Request, v any) *fault {
	if f := readString(&r.Script, v); f != nil {
		return f
	}
	for _, c := range r.Script {
		if !unicode.IsPrint(c) {
			return &fault{text: "want printable characters"}
		}
	}
	return length(r.Script, 1, scriptMost)
}

// SecurityModes are those that need no profile in a policy.
var SecurityModes = []string{"ADMIN", "DESIGNER_ADMIN", "RESTRICTED"}

// readMode reads the name of a profile. Whether the policy has one of that name is not known here.
func readMode(r *Request, v any) *fault {
	if f := readString(&r.SecurityMode, v); f != nil {
		return f
	}
	for i, c := range []byte(r.SecurityMode) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '@' && c != '-') {
			return &fault{text: "want " + strings.Join(SecurityModes, ", ") + " or the name of another profile"}
		}
	}
	return length(r.SecurityMode, 1, 64)
}

func readClientIP(r *Request, v any) *fault {
	if f := readString(&r.ClientIP, v); f != nil {
		return f
	}
	ip, err := netip.ParseAddr(r.ClientIP)
	// To netip, a zone may be any text. An audit record takes only the name or number of an
	// interface.
	outside := func(c rune) bool { return c <= ' ' || c > '~' }
	if err != nil || len(ip.Zone()) > 64 || strings.ContainsFunc(ip.Zone(), outside) {
		return &fault{text: "not an IP address", hint: "send the address alone, without port or name, such as 192.0.2.7 or 2001:db8::7"}
	}
	return nil
}

func readArgs(r *Request, v any) *fault {
	list, ok := v.([]any)
	if !ok {
		return wrongKind(v, "an array")
	}
	r.Args = list
	return nil
}

func readArgv(r *Request, v any) *fault {
	list, ok := v.([]any)
	if !ok {
		return wrongKind(v, "an array of strings")
	}
	r.Argv = make([]string, len(list))
	for i, v := range list {
		f := readString(&r.Argv[i], v)
		if f == nil && strings.Contains(r.Argv[i], "\x00") {
			f = &fault{text: "a NUL character, which no argument can hold"}
		}
		if f != nil {
			f.at = "[" + strconv.Itoa(i) + "]"
			return f
		}
	}
	return nil
}

// readObject reads an object with any names. A call takes them as keywords.
func readObject(to **Object, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object")
	}
	*to = object
	return nil
}

// readNames reads an object whose names become Python variables.
func readNames(to **Object, v any) *fault {
	var object *Object
	if f := readObject(&object, v); f != nil {
		return f
	}
	for _, name := range object.Names {
		if reason := BadName(name); reason != "" {
			f := &fault{at: strictjson.Member(name), text: reason}
			if better := pythonName(name); BadName(better) == "" {
				f.hint = `rename it, for example to "` + better + `", or put it into an object of its own`
			}
			return f
		}
	}
	*to = object
	return nil
}

func readLabels(r *Request, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object of strings")
	}
	object = object.WithoutNull()
	if len(object.Names) > 32 {
		return &fault{text: fmt.Sprintf("%d labels, at most 32 are allowed", len(object.Names))}
	}
	for i, name := range object.Names {
		var value string
		f := length(name, 0, 64)
		if f != nil {
			f.text = "the name is " + f.text
		} else if f = readString(&value, object.Values[i]); f == nil {
			f = length(value, 0, 256)
		}
		if f != nil {
			f.at = strictjson.Member(name)
			return f
		}
	}
	r.Labels = object
	return nil
}

// ParseLabels reads labels that are written as NAME=VALUE, by the rules of the field labels. The
// error is a *BadRequest.
func ParseLabels(pairs []string) (*Object, error) {
	object := &Object{}
	for _, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		if _, twice := object.Get(name); !found || name == "" || twice || !utf8.ValidString(pair) {
			return nil, &BadRequest{Field: "labels", Message: fmt.Sprintf("label %q: want NAME=VALUE, each name once", pair)}
		}
		object.Names, object.Values = append(object.Names, name), append(object.Values, value)
	}
	var r Request
	if f := readLabels(&r, object); f != nil {
		return nil, f.badRequest("labels")
	}
	return r.Labels, nil
}

func readString(to *string, v any) *fault {
	s, ok := v.(string)
	if !ok {
		return wrongKind(v, "a string")
	}
	*to = s
	return nil
}

// readInteger accepts 1, 1.0 and 1e0: many writers know only doubles.
func readInteger(to *int, least int, v any) *fault {
	n, ok := v.(Number)
	if !ok {
		return wrongKind(v, "an integer")
	}
	f, err := strconv.ParseFloat(string(n), 64)
	switch {
	case err != nil || f > math.MaxInt32:
		return &fault{text: "the number is too large"}
	case f != math.Trunc(f):
		return &fault{text: "want a whole number"}
	case f < float64(least):
		return &fault{text: fmt.Sprintf("want %d or more", least)}
	}
	*to = int(f)
	return nil
}

func readChoice(to *string, v any, choices ...string) *fault {
	if f := readString(to, v); f != nil {
		return f
	}
	if !slices.Contains(choices, *to) {
		return &fault{text: "want " + strings.Join(choices[:len(choices)-1], ", ") + " or " + choices[len(choices)-1]}
	}
	return nil
}

func length(s string, least, most int) *fault {
	switch n := utf8.RuneCountInString(s); {
	case n < least:
		return &fault{text: "empty"}
	case n > most:
		return &fault{text: fmt.Sprintf("%d characters, at most %d are allowed", n, most)}
	}
	return nil
}

func wrongKind(v any, want string) *fault {
	f := &fault{text: kind(v) + ", want " + want}
	if v == nil {
		f.hint = "leave the field out instead"
	}
	return f
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	case *Raw:
		if v.IsArray() {
			return "array"
		}
	}
	return "object"
}
