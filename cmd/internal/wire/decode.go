package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"py3run/cmd/internal/wire/strictjson"
)

const (
	maxRequestDepth = 64
	keptDepth       = 2  // the request and its fields become trees; arrays and objects inside them stay Raw
	maxNamed        = 16 // how many unknown fields get a warning of their own
)

// Decode reads a request by the rules of the contract. The warnings name unknown top-level fields.
// An error is a *BadRequest. The Request beside it holds only the id, if that could be read, so
// that the refusal can name it.
func Decode(data []byte) (Request, []Warning, error) { return decode(data, nil) }

// DecodeLine reads a request to a bridge. It also accepts the commands of a bridge alone.
func DecodeLine(data []byte) (Request, []Warning, error) {
	return decode(data, []Command{CommandClearGlobals, CommandShutdown})
}

// decode reads a request; more are the commands that it accepts beside those of every request.
func decode(data []byte, more []Command) (Request, []Warning, error) {
	v, err := strictjson.Parse(data, strictjson.Options{MaxDepth: maxRequestDepth, RawDepth: keptDepth, Empty: reasonEmpty, Secret: "api_key"})
	if err != nil {
		return Request{}, nil, badSyntax(err)
	}
	object, ok := v.(*Object)
	if !ok {
		return Request{}, nil, &BadRequest{Message: "the request: " + kind(v) + ", want an object", Hint: hintExample}
	}
	refused := Request{}
	if f := misplacedKey(object); f != nil {
		return refused, nil, f.badRequest("")
	}
	if id, ok := object.Get("id"); ok && readID(&refused, id) != nil {
		refused.ID = ""
	}
	warnings, f := unknownFields(object)
	if f != nil {
		return refused, nil, f.badRequest("")
	}
	object = object.WithoutNull()
	request := Request{Filename: DefaultFilename, ResultFormat: "plain", ResultFrom: "auto"}
	if key, ok := object.Get("api_key"); ok { // first: a refusal, too, leaves it nowhere
		f := readKey(&request, key)
		if text, ok := key.(string); ok {
			strictjson.Forget(data, text)
		}
		if f != nil {
			return refused, nil, f.badRequest("api_key")
		}
	}
	if name, ok := object.Get("command"); ok {
		if f := readCommand(&request, name, more); f != nil {
			return refused, nil, f.badRequest("command")
		}
	}
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

// fields are the names at the top level of a request. Their order here does not matter: each field
// is read where it stands in the request.
var fields = [...]struct {
	name string
	read func(*Request, any) *fault
}{
	{"protocol", readProtocol},
	{"id", readID},
	{"command", func(*Request, any) *fault { return nil }}, // decode reads it
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
	{"api_key", func(*Request, any) *fault { return nil }}, // decode reads it
	{"script", readScript},
	{"security_mode", readMode},
	{"limits", readLimits},
	{"result_format", func(r *Request, v any) *fault { return readChoice(&r.ResultFormat, v, "plain", "tagged") }},
	{"result_from", func(r *Request, v any) *fault {
		return readChoice(&r.ResultFrom, v, "auto", "last_expression", "result", "none")
	}},
	{"labels", readLabels},
	{"files", readFiles},
	{"collect", readCollect},
}

func fieldNames() []string {
	names := make([]string, len(fields))
	for i, row := range fields {
		names[i] = row.name
	}
	return names
}

func (r *Request) settleCommand(given *Object) *fault {
	if r.Command == "" {
		for _, by := range [...]struct {
			field   string
			command Command
		}{{"code", CommandExecute}, {"script", CommandExecute}, {"expression", CommandEvaluate}, {"module", CommandCallModule}} {
			if _, ok := given.Get(by.field); ok {
				r.Command = by.command
				break
			}
		}
	}
	if r.Command == "" {
		return &fault{"", `nothing to do: want "code", "script", "expression", "module" with "function", or a "command"`, hintExample}
	}
	if f := r.settleScript(given); f != nil {
		return f
	}
	for _, row := range commands {
		if row.name == r.Command {
			for _, need := range row.needs {
				if need == "code" && r.Script != "" {
					continue
				}
				if _, ok := given.Get(need); !ok {
					return &fault{need, "missing; " + string(r.Command) + " needs " + strings.Join(row.needs, ", "), ""}
				}
			}
			for _, of := range [...]struct {
				field string
				asked int
			}{{"files", len(r.Files)}, {"collect", len(r.Collect)}} {
				if of.asked > 0 && !row.runs {
					return &fault{of.field, string(r.Command) + " runs no code that could use it", "leave it out"}
				}
			}
		}
	}
	return nil
}

// settleScript refuses a stored script beside other code.
func (r *Request) settleScript(given *Object) *fault {
	if r.Script == "" {
		return nil
	}
	for _, other := range [...]string{"code", "expression", "module"} {
		if _, ok := given.Get(other); ok {
			return &fault{"script", "stands beside " + other, "a request has one of the two"}
		}
	}
	if r.Command != CommandExecute {
		return &fault{"script", string(r.Command) + " runs no stored script", "only execute does; leave the command out"}
	}
	return nil
}

// unknownFields warns of unknown top-level names. It refuses a name that differs from a known one,
// or from another unknown one, only by case: readers that fold case, as Go and many gateways do,
// would take one for the other.
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
			message := strictjson.Join("", name) + ": unknown field, ignored" + didYouMean(name, known)
			warnings = append(warnings, Warning{Code: "unknown_field", Message: message})
		}
	}
	if unknown > maxNamed {
		warnings = append(warnings, Warning{Code: "unknown_field", Message: fmt.Sprintf("and %d more unknown fields, ignored", unknown-maxNamed)})
	}
	return warnings, nil
}

// misspelt refuses a name that differs from a known one only by case: USER, and u\u017fer with its
// long s.
func misspelt(name string, known []string) *fault {
	for _, k := range known {
		if strings.EqualFold(name, k) {
			return caseFault(name, k)
		}
	}
	return nil
}

func caseFault(name, other string) *fault {
	return &fault{strictjson.Join("", name), "differs from " + strictjson.Join("", other) + " only by upper and lower case", "names are matched exactly; send one of the two"}
}

// fold maps all names that strings.EqualFold takes for equal to the same name.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}
