// Package scripts keeps the scripts that are stored on this host, each with its history. Stored are
// files: the bytes of a version by their SHA-256, and beside the name what is known about it. Who may
// do what with a script is decided elsewhere (package access).
package scripts

import (
	"time"

	"py3run/cmd/internal/access"
)

// Meta is what is known about a script, whatever its versions are.
type Meta struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Author      string         `json:"author"`
	Public      bool           `json:"public,omitempty"` // everybody who may run code may run and read it
	Shares      []access.Share `json:"shared_with,omitempty"`
	Current     int            `json:"current"` // the newest version; 0: deleted
}

// A Version is one text of a script.
type Version struct {
	Number  int       `json:"version"` // from 1
	SHA256  string    `json:"sha256"`
	Bytes   int64     `json:"bytes"`
	Author  string    `json:"author"`
	At      time.Time `json:"time"`
	Comment string    `json:"comment,omitempty"`
	Deleted bool      `json:"deleted,omitempty"` // the script was deleted here; there is no text
}

// A Script is one version of a script with its text.
type Script struct {
	Meta      Meta
	Version   Version
	Code      []byte     // exactly the bytes with Version.SHA256
	Variables []Variable // that it declares
}

// A Variable is an input that a script declares.
type Variable struct {
	Name     string
	Type     string // of the JSON value: string, integer, number, boolean, array or object
	Required bool
	Default  any
	Min, Max *float64
	Choices  []any
	Pattern  string // the whole string has to match
	Doc      string
}
