package wire

import (
	"slices"
	"strings"

	"py3run/cmd/internal/wire/strictjson"
)

// An API key has one field, from which nothing gets into a message or a record. In any other field it
// would get into both, so a request that has one there is refused, and the message does not quote it.

const (
	keyStart = "p3r_"
	keyForm  = "has the form of an API key: "
	keyLeast = 16 // characters of a key behind its start, from which on a text has its form; a part of a key counts, too
)

// recordedFields are those whose text stands in messages and records as it is.
var recordedFields = []string{"id", "user", "client_ip", "command", "script", "security_mode", "filename"}

// LooksLikeKey reports whether a text has an API key in it, or a large part of one.
func LooksLikeKey(text string) bool {
	for {
		_, rest, found := strings.Cut(text, keyStart)
		if !found {
			return false
		}
		n := 0
		for n < len(rest) && isKeyByte(rest[n]) {
			n++
		}
		if n >= keyLeast {
			return true
		}
		text = rest
	}
}

func isKeyByte(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// misplacedKey refuses a request that has an API key elsewhere than in api_key, or in a field whose name
// only resembles that: it would be ignored, and the request would run for somebody else.
func misplacedKey(object *Object) *fault {
	for i, name := range object.Names {
		text, _ := object.Values[i].(string)
		switch {
		case LooksLikeKey(name):
			return &fault{"", "the name of a field has the form of an API key", `send it as "api_key"`}
		case slices.Contains(recordedFields, name) && LooksLikeKey(text):
			return &fault{name, keyForm + "use api_key", "take the key for known to others if this text was kept anywhere"}
		case nearlyKey(name):
			return &fault{strictjson.Join("", name), "unknown field, which resembles api_key", `send the API key as "api_key"`}
		}
	}
	return nil
}

// MisplacedKey refuses an API key in a flag or an argument, as a request with it in such a field is refused;
// nil: there is none.
func MisplacedKey(flag, text string) error {
	if !LooksLikeKey(text) {
		return nil
	}
	f := fault{flag, keyForm + "use --api-key-file", "others can have read it in the list of processes, and the shell can keep it in its history: revoke it, and have another one made"}
	return f.badRequest("")
}

// nearlyKey reports whether the name of a field resembles api_key: apikey, apiKey, X-API-Key.
func nearlyKey(name string) bool {
	const longest = 16
	if name == "api_key" || len(name) > longest || strings.EqualFold(name, "api_key") { // that has a message of its own
		return false
	}
	letters := strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(name))
	return letters == "apikey" || letters == "xapikey"
}
