package wire

import (
	_ "embed"
	"strings"
)

//go:embed schema/request.json
var requestSchema string

//go:embed schema/result.json
var resultSchema string

//go:embed schema/audit.json
var auditSchema string

//go:embed schema/stream.json
var streamSchema string

// Schema returns the JSON Schema (draft 2020-12) named request, result, stream or audit. That of a
// stream contains that of a result, to which it refers.
func Schema(name string) ([]byte, bool) {
	switch name {
	case "request":
		return []byte(requestSchema), true
	case "result":
		return []byte(resultSchema), true
	case "stream":
		return []byte(strings.Replace(streamSchema, `"result": {}`, `"result": `+strings.TrimSpace(resultSchema), 1)), true
	case "audit":
		return []byte(auditSchema), true
	}
	return nil, false
}
