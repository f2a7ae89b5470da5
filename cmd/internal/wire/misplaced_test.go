package wire

import (
	"strings"
	"testing"
)

const someKey = "p3r_k7qm2x9a_0123456789abcdefghijABCDEFGHIJ0123456789abc_0aB1cD"

// A key in a wrong place is refused, and stands nowhere in what the caller gets.
func TestMisplacedKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"code":"1","user":"KEY"}`:                               "user: has the form of an API key: use api_key",
		`{"code":"1","id":"KEY"}`:                                 "id: has the form of an API key: use api_key",
		`{"command":"KEY"}`:                                       "command: has the form of an API key: use api_key",
		`{"script":"KEY"}`:                                        "script: has the form of an API key: use api_key",
		`{"code":"1","security_mode":"KEY"}`:                      "security_mode: has the form of an API key: use api_key",
		`{"code":"1","filename":"KEY"}`:                           "filename: has the form of an API key: use api_key",
		`{"code":"1","client_ip":"KEY"}`:                          "client_ip: has the form of an API key: use api_key",
		`{"code":"1","user":"Bearer KEY"}`:                        "user: has the form of an API key: use api_key",
		`{"code":"1","user":"\u0070\u0033r_` + someKey[4:] + `"}`: "user: has the form of an API key: use api_key",
		`{"code":"1","KEY":1}`:                                    "the name of a field has the form of an API key",
		`{"code":"1","apikey":"KEY"}`:                             "apikey: unknown field, which resembles api_key",
		`{"code":"1","api-key":"KEY"}`:                            "api-key",
		`{"code":"1","apiKey":"KEY"}`:                             "apiKey: unknown field, which resembles api_key",
		`{"code":"1","x-api-key":"KEY"}`:                          "x-api-key",
		`{"code":"1","X_API_Key":null}`:                           "X_API_Key: unknown field, which resembles api_key",
		`{"code":"1","Api_Key":"KEY"}`:                            "Api_Key: differs from api_key only by upper and lower case",
	} {
		r, warnings, err := Decode([]byte(strings.ReplaceAll(text, "KEY", someKey)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error()+err.(*BadRequest).Hint+err.(*BadRequest).Field+r.ID, "p3r_") || len(warnings) > 0 {
			t.Errorf("%s: %v, id %q, %v", text, err, r.ID, warnings)
		}
	}
	err := MisplacedKey("--user", "Bearer "+someKey)
	if want := "--user: has the form of an API key: use --api-key-file"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := MisplacedKey("--user", "p3r_short"); err != nil {
		t.Error(err)
	}
	for _, text := range []string{
		`{"code":"x = 'KEY'","variables":{"k":"KEY"},"argv":["KEY"],"api_key":"KEY"}`, `{"code":"1","user":"p3r_short"}`, `{"code":"1","api":"x"}`,
	} {
		if _, _, err := Decode([]byte(strings.ReplaceAll(text, "KEY", someKey))); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
