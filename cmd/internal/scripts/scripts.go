// Package scripts keeps the scripts that are stored on this host, each with its history. Stored are
// files: the bytes of a version by their SHA-256, and beside the name what is known about it. Who may
// do what with a script is decided elsewhere (package access).
//
//	DIR/objects/SHA256               the bytes of a version; written once
//	DIR/names/NAME/meta.json         a Meta, the current version, and how far the history goes
//	DIR/names/NAME/versions.jsonl    the history: a Version a line, each with the hash of the line before
//	DIR/names/NAME/lock              held by whoever changes the script
//	DIR                              locked itself: shared by all of them, and held by a restore
//
// A folder is a part of a name; in the name of a directory, + stands for its slash.
//
//	Save ─► object ─► line of the history ─► meta.json       the last step is a rename: before it,
//	                                                         there is no new version; after it, there is
//	Resolve ◄─ meta.json ◄─ object                           takes no lock, and hashes what it has read
package scripts

import (
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// Meta is what is known about a script, whatever its versions are.
type Meta struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Author      string         `json:"author"`
	Created     time.Time      `json:"created"`
	Public      bool           `json:"public,omitempty"` // everybody who may run code may run and read it
	Shares      []access.Share `json:"shared_with,omitempty"`
	Origin      *Origin        `json:"origin,omitempty"` // of an imported script
	Current     int            `json:"current"`          // the newest version; 0: deleted
	Latest      int            `json:"latest"`           // number of the newest line of the history, a deletion included
}

// Object is the script as the rules of access see it.
func (m Meta) Object() access.Object {
	return access.Object{Kind: access.StoredScript, Name: m.Name, Owner: m.Author, Public: m.Public, Shares: m.Shares}
}

// An Origin is what an imported script was where it comes from: text, none of which is proved.
type Origin struct {
	Name     string `json:"name"`
	Folder   string `json:"folder,omitempty"`
	Author   string `json:"author,omitempty"`
	Created  string `json:"created,omitempty"`
	Modified string `json:"modified,omitempty"`
	Version  string `json:"version,omitempty"`
}

// A Version is one text of a script.
type Version struct {
	Number    int        `json:"version"` // from 1
	SHA256    string     `json:"sha256,omitempty"`
	Bytes     int64      `json:"bytes"`
	Author    string     `json:"author"`
	At        time.Time  `json:"time"`
	Comment   string     `json:"comment,omitempty"`
	Deleted   bool       `json:"deleted,omitempty"`   // the script was deleted here; there is no text
	Variables []Variable `json:"variables,omitempty"` // that this text declares
}

// A Script is one version of a script with its text.
type Script struct {
	Meta    Meta
	Version Version
	Code    []byte // exactly the bytes with Version.SHA256
	Removed bool   // the script was deleted after this version
}

// Object is this version as the rules of access see it.
func (s Script) Object() access.Object {
	o := s.Meta.Object()
	o.Removed = s.Removed
	return o
}

// Kept are the versions since the last deletion: what the shares of a script mean.
func Kept(history []Version) []Version {
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Deleted {
			return history[i+1:]
		}
	}
	return history
}

// A Variable is an input that a script declares. See [Declared] for the rules.
type Variable struct {
	Name     string
	Type     Type
	Required bool
	Default  any         // as wire.Parse makes it; nil: none
	Min, Max wire.Number // empty: none
	Choices  []any
	Pattern  string // the whole string has to match
	Doc      string
}

// A Type is the type of a variable's JSON value.
type Type string

// The types. A number without fraction and exponent is an integer, too.
const (
	String  Type = "string"
	Integer Type = "integer"
	Number  Type = "number"
	Boolean Type = "boolean"
	Array   Type = "array"
	Map     Type = "object"
)

var types = []Type{String, Integer, Number, Boolean, Array, Map}

// Bounds, in bytes where nothing else is said.
const (
	CodeMost    = 16 << 20 // of one version
	TextMost    = 2000     // of a description or a comment
	sharesMost  = 500      // of one script
	metaMost    = 1 << 20
	historyMost = 64 << 20
)
