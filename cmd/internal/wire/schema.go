package wire

import _ "embed"

//go:embed schema/request.json
var requestSchema string

//go:embed schema/result.json
var resultSchema string

//go:embed schema/audit.json
var auditSchema string

// Schema returns the JSON Schema (draft 2020-12) named request, result or audit.
func Schema(name string) ([]byte, bool) {
	switch name {
	case "request":
		return []byte(requestSchema), true
	case "result":
		return []byte(resultSchema), true
	case "audit":
		return []byte(auditSchema), true
	}
	return nil, false
}
