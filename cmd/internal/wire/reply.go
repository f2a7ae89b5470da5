package wire

import "encoding/json"

// A reply is what a bridge answers to a request: the fields that its callers know, and a few more
// that they can pass over. A field without a value is absent, because callers read error and
// traceback as strings and fail on a null.
type reply struct {
	Success   bool            `json:"success"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     string          `json:"error,omitempty"`
	Traceback string          `json:"traceback,omitempty"`
	Output    string          `json:"output,omitempty"` // what was printed to standard output, also before a failure
	ID        string          `json:"id,omitempty"`     // the caller's
	RunID     string          `json:"run_id,omitempty"`
	Failure   *Failure        `json:"failure,omitempty"`
	Warnings  []Warning       `json:"warnings,omitempty"`
	Audit     *AuditReceipt   `json:"audit,omitempty"`

	// Files is there only if the request has asked for files by the field collect, which the callers
	// that know no more than the fields above never do.
	Files map[string]Collected `json:"files,omitzero"`
}

// EncodeReply returns r as the reply of a bridge: one line, as Encode makes it, with fewer fields.
func (r *Result) EncodeReply() ([]byte, error) {
	out := r.consistent()
	line := reply{Success: out.Success, Result: out.Result, Error: out.Error, Traceback: out.Traceback,
		ID: out.ID, RunID: out.RunID, Failure: out.Failure, Warnings: out.Warnings, Audit: out.Audit, Files: out.Files}
	if out.Captured != nil {
		line.Output = out.Stdout
	}
	return r.line(&line, &line.Result)
}

// Ready is the line that a bridge writes before it reads its first request.
const Ready = `{"status":"ready"}` + "\n"
