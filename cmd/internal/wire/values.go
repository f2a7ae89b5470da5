package wire

import "py3run/cmd/internal/wire/strictjson"

// The values in a request are as the strict parser makes them.
type (
	Number      = strictjson.Number
	Object      = strictjson.Object
	Raw         = strictjson.Raw
	Token       = strictjson.Token
	SyntaxError = strictjson.SyntaxError
	Findings    = strictjson.Findings
)

const reasonEmpty = "the request is empty"

// maxInspectDepth is as deep as json.dumps can still build a result; it is well below Python's
// recursion limit.
const maxInspectDepth = 512

// Parse reads one strict JSON value: nil, bool, Number, string, []any or *Object. Containers may
// nest maxDepth deep. The values are parts of data, which must not change any more. Errors are
// *SyntaxError.
func Parse(data []byte, maxDepth int) (any, error) {
	return strictjson.Parse(data, strictjson.Options{MaxDepth: maxDepth, Empty: reasonEmpty})
}

// Inspect checks that raw, which comes from the untrusted Python process, is one strict JSON value
// by the rules of Parse, nested at most 512 deep. Paths in what it returns begin with result.
func Inspect(raw []byte) (Findings, error) {
	return strictjson.Inspect(raw, strictjson.Options{MaxDepth: maxInspectDepth, Root: "result", Empty: "the result is empty"})
}

// AppendJSON appends a value of a request as compact JSON. The size of a variable and its keyed
// hash are of this form.
func AppendJSON(b []byte, v any) []byte { return strictjson.Append(b, v) }
