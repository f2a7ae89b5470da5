package scripts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
)

// A VariablesError says what is wrong with the variables that a caller gave to a script. It names
// variables, rules and kinds of values, and never a value: that may be a secret.
type VariablesError struct {
	Findings []Finding // in the order of the script's declaration, then the unknown ones
	Ref      string    // the script and its version, for a caller who may read them; empty: the caller may not
}

// A Finding is one thing that is wrong. Rule is required, type, min, max, choices, pattern or unknown.
type Finding struct {
	Variable, Rule, Text string
}

// FindingsShown is how many findings a message tells at most: a caller can name any number of variables.
const FindingsShown = 20

func (e *VariablesError) Error() string {
	var texts []string
	for _, f := range e.Findings[:min(len(e.Findings), FindingsShown)] {
		texts = append(texts, "variable "+shown(f.Variable)+": "+f.Text)
	}
	if more := len(e.Findings) - FindingsShown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// Hint says where the rules stand; empty: the caller may not read them, and the message has to do.
func (e *VariablesError) Hint() string {
	if e.Ref == "" {
		return ""
	}
	return "py3runctl script show " + e.Ref + " prints the rules, in the block # /// py3run"
}

// Check compares the variables that a caller gives with those that a script declares, and returns
// those that the code gets. Given and result are in the form of a request. A script that declares
// nothing takes any variables. Otherwise one that is not declared is an error, as a mistyped one
// would be; null counts as not given, because many callers write null for what they do not have;
// and what is optional and not given has its default, or is null. The error is a *[VariablesError]
// with all findings.
func (v Version) Check(given *wire.Object) (*wire.Object, error) {
	if len(v.Variables) == 0 {
		return given, nil
	}
	var findings []Finding
	got, names, steps := map[string]any{}, []string{}, stepsMost
	if given != nil {
		for i, name := range given.Names {
			got[name] = given.Values[i]
		}
	}
	complete := &wire.Object{}
	for _, d := range v.Variables {
		names = append(names, d.Name)
		value := got[d.Name]
		rule, text := "", ""
		switch {
		case value != nil:
			rule, text = d.check(value, &steps)
		case d.Required:
			rule, text = "required", "is required: "+d.Type.named()
		default:
			value = d.Default
		}
		if text != "" {
			findings = append(findings, Finding{d.Name, rule, text})
		}
		complete.Names, complete.Values = append(complete.Names, d.Name), append(complete.Values, value)
	}
	if given != nil {
		for _, name := range given.Names {
			if !slices.Contains(names, name) {
				findings = append(findings, Finding{name, "unknown", "the script declares no such variable" + didYouMean(name, names)})
			}
		}
	}
	if len(findings) > 0 {
		return nil, &VariablesError{Findings: findings}
	}
	return complete, nil
}

// check returns the rule that a value breaks, and how; empty: none. It takes the steps of matching a
// pattern from those that are left: this is before the limits of a run.
func (v Variable) check(value any, steps *int) (rule, text string) {
	if !v.Type.has(value) {
		return "type", "want " + v.Type.named() + ", got " + kindOf(value)
	}
	size, what := sizeOf(value)
	switch {
	case v.Min != "" && compareNumbers(size, v.Min) < 0:
		return "min", fmt.Sprintf("the %s is below min = %s", what, v.Min)
	case v.Max != "" && compareNumbers(size, v.Max) > 0:
		return "max", fmt.Sprintf("the %s is above max = %s", what, v.Max)
	case len(v.Choices) > 0 && !slices.ContainsFunc(v.Choices, func(c any) bool { return equal(c, value) }):
		return "choices", "the " + string(v.Type) + " is none of the choices: " + v.choicesText()
	}
	if v.Pattern == "" {
		return "", ""
	}
	s := value.(string)
	if len(s) > matchedMost {
		return "pattern", fmt.Sprintf("the string has more than %d bytes, too many for a pattern", matchedMost)
	}
	pattern, cost, err := compile(v.Pattern)
	if err != nil { // a script whose pattern is broken cannot be saved
		return "pattern", "the script's pattern is broken"
	}
	if *steps -= cost * (stepsBegin + utf8.RuneCountInString(s)); *steps < 0 {
		*steps = 0
		return "pattern", fmt.Sprintf("the string is too long for so large a pattern: a character takes %d steps, and all patterns of a request at most %d", cost, stepsMost)
	}
	if !pattern.MatchString(s) {
		return "pattern", "the string does not match pattern = " + shown(v.Pattern)
	}
	return "", ""
}

// choicesShown is how many choices a message tells at most.
const choicesShown = 10

// choicesText lists the choices: they are the script's, and no secret of a caller.
func (v Variable) choicesText() string {
	var texts []string
	for _, c := range v.Choices[:min(len(v.Choices), choicesShown)] {
		if text, ok := c.(string); ok {
			texts = append(texts, shown(text))
		} else {
			texts = append(texts, fmt.Sprint(c))
		}
	}
	if more := len(v.Choices) - choicesShown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// has tells whether a value is of a type.
func (t Type) has(value any) bool {
	switch value := value.(type) {
	case string:
		return t == String
	case bool:
		return t == Boolean
	case wire.Number:
		return t == Number || t == Integer && value.IsInteger()
	case []any:
		return t == Array
	case *wire.Object:
		return t == Map
	case *wire.Raw:
		return t == Array && value.IsArray() || t == Map && !value.IsArray()
	}
	return false
}

func (t Type) named() string {
	if strings.IndexByte("aio", t[0]) >= 0 {
		return "an " + string(t)
	}
	return "a " + string(t)
}

// kindOf names the kind of a value. 1.0 is no integer: Python makes a float of it.
func kindOf(value any) string {
	if n, ok := value.(wire.Number); ok && !n.IsInteger() {
		return "a number with a fraction or an exponent"
	}
	for _, t := range types {
		if t.has(value) {
			return t.named()
		}
	}
	return "null"
}

// sizeOf is what min and max are compared with, and what that is called: a number itself, the
// characters of a string, the elements of an array, the members of an object.
func sizeOf(value any) (size wire.Number, what string) {
	count := func(n int) wire.Number { return wire.Number(strconv.Itoa(n)) }
	switch value := value.(type) {
	case wire.Number:
		return value, "number"
	case string:
		return count(utf8.RuneCountInString(value)), "number of characters"
	case []any:
		return count(len(value)), "number of elements"
	case *wire.Object:
		return count(len(value.Names)), "number of members"
	case *wire.Raw:
		if value.IsArray() {
			return count(elements(value)), "number of elements"
		}
		return count(elements(value)), "number of members"
	}
	return "0", "value"
}

// elements counts what is directly in a container.
func elements(r *wire.Raw) (n int) {
	depth := 0
	for t := range r.Tokens() {
		switch {
		case t.Kind == ']' || t.Kind == '}':
			depth--
			continue
		case depth == 1 && (r.IsArray() || t.Kind == ':'):
			n++
		}
		if t.Kind == '[' || t.Kind == '{' {
			depth++
		}
	}
	return n
}

// equal compares two scalars: 1 and 1.0 are one number.
func equal(a, b any) bool {
	x, isNumber := a.(wire.Number)
	if y, ok := b.(wire.Number); ok && isNumber {
		return compareNumbers(x, y) == 0
	}
	return a == b
}
