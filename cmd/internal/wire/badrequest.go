package wire

import "errors"

// A BadRequest is a mistake of the caller's. Message begins with the name of the field, if it is
// about one. It quotes names, kinds and the allowed choices, never the value of an api_key.
type BadRequest struct {
	Field   string // as limits.memory_mbs or argv[1]; empty when the request as a whole is wrong
	Message string
	Hint    string // may be empty
}

func (e *BadRequest) Error() string { return e.Message }

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

// A fault is a BadRequest before its field is known: at continues the field's path.
type fault struct{ at, text, hint string }

func (f *fault) badRequest(field string) *BadRequest {
	field += f.at
	message := f.text
	if field != "" {
		message = field + ": " + f.text
	}
	return &BadRequest{Field: field, Message: message, Hint: f.hint}
}
