package wire

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultFilename is the name of code that has none.
const DefaultFilename = "main.py"

// Protocol is the one version of request and result that this package speaks.
const Protocol = 1

const (
	maxRequestDepth = 64
	keptDepth       = 2  // the request and its fields are taken apart; arrays and objects in these are Raw
	maxNamed        = 16 // unknown fields that get a warning of their own
)

// A Request is one accepted request. It is complete and consistent, and still only what the caller says: user and client_ip
// are not proved, limits may only tighten what the operator set.
type Request struct {
	ID      string // the caller's; empty = not given
	Command Command

	Code, Expression string
	Module, Function string
	Args             []any // values as Parse makes them, but that arrays and objects are *Raw; likewise those of Kwargs and Variables
	Kwargs           *Object
	Variables        *Object // names are Python identifiers that user code may bind
	Line             int     // from 1; 0 = not given
	Column           int     // from 0

	Argv     []string
	Stdin    *string // nil = not given, which the program sees as empty
	Filename string  // what tracebacks show; never opened

	User, ClientIP string
	SecurityMode   string // ADMIN, DESIGNER_ADMIN, RESTRICTED or empty
	Limits         Limits
	ResultFormat   string  // plain or tagged
	ResultFrom     string  // auto, last_expression, result or none
	Labels         *Object // of strings
}

// A Command says what a request wants done.
type Command string

const (
	CommandExecute        Command = "execute"
	CommandEvaluate       Command = "evaluate"
	CommandCallModule     Command = "call_module"
	CommandCheckSyntax    Command = "check_syntax"
	CommandGetCompletions Command = "get_completions"
	CommandVersion        Command = "version"
	CommandListModules    Command = "list_modules"
	CommandPing           Command = "ping"
)

// commands: what each needs, and whether it runs anything of the user's. Those that do leave audit records.
var commands = [...]struct {
	name  Command
	needs []string
	runs  bool
}{
	{CommandExecute, []string{"code"}, true},
	{CommandEvaluate, []string{"expression"}, true},
	{CommandCallModule, []string{"module", "function"}, true},
	{CommandCheckSyntax, []string{"code"}, false},
	{CommandGetCompletions, []string{"code", "line", "column"}, false},
	{CommandVersion, nil, false},
	{CommandListModules, nil, false},
	{CommandPing, nil, false},
}

// RunsCode reports whether the command runs something of the user's, and so needs a grant and leaves two audit records.
func (c Command) RunsCode() bool {
	for _, row := range commands {
		if row.name == c {
			return row.runs
		}
	}
	return false
}

// Limits are the bounds of one run: of a request, where they can only tighten, or of a result, where they are in force.
// Zero is "not given" and "no limit". A request may hold any positive finite number, so a conversion to nanoseconds or
// bytes must round up to at least one and stop at the largest: 1e-12 must not become "no limit".
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
	value func(*Limits) *float64
	whole bool
}{
	{"timeout_seconds", func(l *Limits) *float64 { return &l.TimeoutSeconds }, false},
	{"cpu_seconds", func(l *Limits) *float64 { return &l.CPUSeconds }, false},
	{"memory_mb", func(l *Limits) *float64 { return &l.MemoryMB }, false},
	{"processes", func(l *Limits) *float64 { return &l.Processes }, true},
	{"output_mb", func(l *Limits) *float64 { return &l.OutputMB }, false},
	{"file_mb", func(l *Limits) *float64 { return &l.FileMB }, false},
	{"disk_mb", func(l *Limits) *float64 { return &l.DiskMB }, false},
	{"idle_seconds", func(l *Limits) *float64 { return &l.IdleSeconds }, false},
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

func (l *Limits) field(name string) *float64 {
	for _, row := range limitTable {
		if row.name == name {
			return row.value(l)
		}
	}
	return nil
}

// MarshalJSON writes the limits that are set.
func (l Limits) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, row := range limitTable {
		v := *row.value(&l)
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

// A BadRequest is the caller's mistake. Message begins with the field's name where there is one, and quotes names, kinds
// and closed choices, never the value of an api_key.
type BadRequest struct {
	Field   string // as limits.memory_mbs or argv[1]; empty when the request as a whole is wrong
	Message string
	Hint    string // may be empty
}

func (e *BadRequest) Error() string { return e.Message }

// Decode reads a request by the rules of the contract. The warnings name top-level fields that nobody knows. An error is a
// *BadRequest; the Request beside it holds nothing but the id, if that much could be read, so that the refusal can echo it.
func Decode(data []byte) (Request, []Warning, error) {
	v, err := parse(textOf(data), maxRequestDepth, keptDepth)
	if err != nil {
		return Request{}, nil, badSyntax(err)
	}
	object, ok := v.(*Object)
	if !ok {
		return Request{}, nil, &BadRequest{Message: "the request: " + kind(v) + ", want an object", Hint: hintExample}
	}
	refused := Request{}
	if id, ok := object.Get("id"); ok && readID(&refused, id) != nil {
		refused.ID = ""
	}
	warnings, f := unknownFields(object)
	if f != nil {
		return refused, nil, f.badRequest("")
	}
	object = object.given()
	request := Request{Filename: DefaultFilename, ResultFormat: "plain", ResultFrom: "auto"}
	for i, name := range object.Names {
		for _, row := range fields {
			if row.name == name {
				if f := row.read(&request, object.Values[i]); f != nil {
					return refused, nil, f.badRequest(name)
				}
			}
		}
	}
	if f := request.settleCommand(object); f != nil {
		return refused, nil, f.badRequest("")
	}
	return request, warnings, nil
}

const hintExample = `send one JSON object, such as {"code": "result = x * 2", "variables": {"x": 21}}`

func badSyntax(err error) *BadRequest {
	var syntax *SyntaxError
	switch {
	case !errors.As(err, &syntax):
		return &BadRequest{Message: err.Error()}
	case syntax.Reason == reasonEmpty:
		return &BadRequest{Message: syntax.Reason, Hint: hintExample}
	}
	return &BadRequest{Field: syntax.Path, Message: syntax.Error()}
}

// A fault is a BadRequest before it is known in which field: at continues the field's path.
type fault struct{ at, text, hint string }

func (f *fault) badRequest(field string) *BadRequest {
	field += f.at
	message := f.text
	if field != "" {
		message = field + ": " + f.text
	}
	return &BadRequest{Field: field, Message: message, Hint: f.hint}
}

// fields are the protocol names of the top level. Order does not matter; each is read where it stands in the request.
var fields = [...]struct {
	name string
	read func(*Request, any) *fault
}{
	{"protocol", readProtocol},
	{"id", readID},
	{"command", readCommand},
	{"code", func(r *Request, v any) *fault { return readString(&r.Code, v) }},
	{"expression", func(r *Request, v any) *fault { return readString(&r.Expression, v) }},
	{"module", func(r *Request, v any) *fault { return readString(&r.Module, v) }},
	{"function", func(r *Request, v any) *fault { return readString(&r.Function, v) }},
	{"args", readArgs},
	{"kwargs", func(r *Request, v any) *fault { return readObject(&r.Kwargs, v) }},
	{"variables", func(r *Request, v any) *fault { return readNames(&r.Variables, v) }},
	{"line", func(r *Request, v any) *fault { return readInteger(&r.Line, 1, v) }},
	{"column", func(r *Request, v any) *fault { return readInteger(&r.Column, 0, v) }},
	{"argv", readArgv},
	{"stdin", func(r *Request, v any) *fault { r.Stdin = new(string); return readString(r.Stdin, v) }},
	{"filename", readFilename},
	{"user", readUser},
	{"client_ip", readClientIP},
	{"security_mode", func(r *Request, v any) *fault {
		return readChoice(&r.SecurityMode, v, "ADMIN", "DESIGNER_ADMIN", "RESTRICTED")
	}},
	{"limits", readLimits},
	{"result_format", func(r *Request, v any) *fault { return readChoice(&r.ResultFormat, v, "plain", "tagged") }},
	{"result_from", func(r *Request, v any) *fault {
		return readChoice(&r.ResultFrom, v, "auto", "last_expression", "result", "none")
	}},
	{"labels", readLabels},

	{"script", func(*Request, any) *fault { return notYet("send the script's text as code") }},
	{"api_key", func(*Request, any) *fault { return notYet("leave it out; a key that nobody checks proves nothing") }},
	{"files", func(*Request, any) *fault { return notYet("send data in variables or stdin") }},
	{"collect", func(*Request, any) *fault { return notYet("hand data back in the variable result") }},
}

func notYet(hint string) *fault { return &fault{text: "not available in this version", hint: hint} }

func fieldNames() []string {
	names := make([]string, len(fields))
	for i, row := range fields {
		names[i] = row.name
	}
	return names
}

// unknownFields warns of top-level names that mean nothing here, and refuses those that another reader of the same bytes,
// one that folds case as Go and many gateways do, could take for a protocol name or for each other.
func unknownFields(object *Object) ([]Warning, *fault) {
	known := fieldNames()
	var warnings []Warning
	var folded map[string]string
	unknown := 0
	for _, name := range object.Names {
		if slices.Contains(known, name) {
			continue
		}
		if f := misspelt(name, known); f != nil {
			return nil, f
		}
		if folded == nil {
			folded = make(map[string]string)
		}
		key := fold(name)
		if other, ok := folded[key]; ok {
			return nil, caseFault(name, other)
		}
		folded[key] = name
		if unknown++; unknown <= maxNamed {
			message := join("", name) + ": unknown field, ignored" + didYouMean(name, known)
			warnings = append(warnings, Warning{Code: "unknown_field", Message: message})
		}
	}
	if unknown > maxNamed {
		warnings = append(warnings, Warning{Code: "unknown_field", Message: fmt.Sprintf("and %d more unknown fields, ignored", unknown-maxNamed)})
	}
	return warnings, nil
}

// given is the object without the members that are null: many writers in Java write a field that has no value as null. It is for objects of
// protocol fields; a null in data is data.
func (o *Object) given() *Object {
	if !slices.Contains(o.Values, nil) {
		return o
	}
	rest := &Object{}
	for i, v := range o.Values {
		if v != nil {
			rest.Names, rest.Values = append(rest.Names, o.Names[i]), append(rest.Values, v)
		}
	}
	return rest
}

// misspelt refuses a name that differs from a known one by case folding only: USER, and u\u017fer with its long s.
func misspelt(name string, known []string) *fault {
	for _, k := range known {
		if strings.EqualFold(name, k) {
			return caseFault(name, k)
		}
	}
	return nil
}

func caseFault(name, other string) *fault {
	return &fault{join("", name), "differs from " + join("", other) + " only by upper and lower case", "names are matched exactly; send one of the two"}
}

// fold maps all names that strings.EqualFold takes for equal to one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

func (r *Request) settleCommand(given *Object) *fault {
	if r.Command == "" {
		for _, by := range [...]struct {
			field   string
			command Command
		}{{"code", CommandExecute}, {"expression", CommandEvaluate}, {"module", CommandCallModule}} {
			if _, ok := given.Get(by.field); ok {
				r.Command = by.command
				break
			}
		}
	}
	if r.Command == "" {
		return &fault{"", `nothing to do: want "code", "expression", "module" with "function", or a "command"`, hintExample}
	}
	for _, row := range commands {
		if row.name == r.Command {
			for _, need := range row.needs {
				if _, ok := given.Get(need); !ok {
					return &fault{need, "missing; " + string(r.Command) + " needs " + strings.Join(row.needs, ", "), ""}
				}
			}
		}
	}
	return nil
}

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

func readCommand(r *Request, v any) *fault {
	var name string
	if f := readString(&name, v); f != nil {
		return f
	}
	if name == "shutdown" || name == "clear_globals" {
		return &fault{"", strconv.Quote(name) + " is only in bridge", "each request here is a process of its own: there is nothing to shut down or to clear"}
	}
	known := make([]string, len(commands))
	for i, row := range commands {
		if string(row.name) == name {
			r.Command = row.name
			return nil
		}
		known[i] = string(row.name)
	}
	return &fault{"", "unknown command " + show(name) + didYouMean(name, known), "known: " + strings.Join(known, ", ")}
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

func readClientIP(r *Request, v any) *fault {
	if f := readString(&r.ClientIP, v); f != nil {
		return f
	}
	ip, err := netip.ParseAddr(r.ClientIP)
	// A zone may be any text for netip; in an audit record it is an interface's name or number.
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
			f.at = member(name)
			return f
		}
		if object.Values[i] == nil {
			continue
		}
		if f := readLimit(limitTable[at].value(&r.Limits), limitTable[at].whole, object.Values[i]); f != nil {
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

func readLabels(r *Request, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object of strings")
	}
	object = object.given()
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
			f.at = member(name)
			return f
		}
	}
	r.Labels = object
	return nil
}

// ParseLabels reads labels that are written NAME=VALUE, by the rules of the field. The error is a *BadRequest.
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

// readObject reads an object of any names, which a call takes as keywords.
func readObject(to **Object, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object")
	}
	*to = object
	return nil
}

// readNames reads an object whose names Python code binds.
func readNames(to **Object, v any) *fault {
	var object *Object
	if f := readObject(&object, v); f != nil {
		return f
	}
	for _, name := range object.Names {
		if reason := badName(name); reason != "" {
			f := &fault{at: member(name), text: reason}
			if better := pythonName(name); badName(better) == "" {
				f.hint = `rename it, for example to "` + better + `", or put it into an object of its own`
			}
			return f
		}
	}
	*to = object
	return nil
}

// badName says why Python code cannot, or must not, bind name; "" if it can. Python compares names after NFKC, which the
// standard library does not have: a letter that NFKC changes passes here and is the bootstrap's to normalise. None of
// these becomes an underscore that way, so no name turns into a dunder name.
func badName(name string) string {
	switch {
	case utf8.RuneCountInString(name) > 256:
		return "longer than 256 characters"
	case name == "" || !isNameStart(first(name)) || strings.ContainsFunc(name, func(r rune) bool { return !isNamePart(r) }):
		return "not a Python identifier"
	case isKeyword(name):
		return "a Python keyword"
	case len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__"):
		return "names like __x__ belong to Python"
	}
	return ""
}

// pythonName is the name a person would choose instead of name.
func pythonName(name string) string {
	name = strings.Map(func(r rune) rune {
		if isNamePart(r) {
			return r
		}
		return '_'
	}, name)
	switch {
	case name == "" || len(name) > 64:
		return ""
	case !isNameStart(first(name)):
		return "_" + name
	case isKeyword(name):
		return name + "_"
	}
	return name
}

func first(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// What may be in an identifier: XID_Start and XID_Continue of the Unicode Standard, Annex 31, without what NFKC makes an underscore of: see badName.

func isNameStart(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || r > 0x7f && unicode.In(r, unicode.Nl, unicode.Other_ID_Start)
}

func isNamePart(r rune) bool {
	return isNameStart(r) || unicode.IsDigit(r) || r > 0x7f && (unicode.In(r, unicode.Mn, unicode.Mc, unicode.Other_ID_Continue) || r == '\u203f' || r == '\u2040' || r == '\u2054')
}

// isKeyword knows the hard keywords of Python 3.8 to 3.13.
func isKeyword(name string) bool {
	switch name {
	case "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
		"elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
		"not", "or", "pass", "raise", "return", "try", "while", "with", "yield":
		return true
	}
	return false
}

func readString(to *string, v any) *fault {
	s, ok := v.(string)
	if !ok {
		return wrongKind(v, "a string")
	}
	*to = s
	return nil
}

// readInteger takes 1, 1.0 and 1e0 alike: many writers know only doubles.
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

// didYouMean names the known name that a person who wrote name may have meant.
func didYouMean(name string, known []string) string {
	const most = 32 // longer than any known name by far; a caller's megabyte is not compared
	if len(name) > most {
		return ""
	}
	best, least := "", 3
	for _, k := range known {
		d := distance(name, k)
		if len(name) >= 3 && (strings.HasPrefix(k, name) || strings.Contains(name, k)) {
			d = min(d, 2)
		}
		if d < least && d < len(name) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return `; did you mean "` + best + `"?`
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
