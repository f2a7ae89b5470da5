package wire

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"py3run/cmd/internal/wire/strictjson"
	fastjson "py3run/internal/json"
)

// A File is one that the caller puts into the working directory before the run.
type File struct {
	Name    string // see BadFileName
	Content string // any bytes
}

// A Collected is one file that a run hands back: as text if it is UTF-8 without NUL, else as base64.
type Collected struct {
	Text   *string `json:"text,omitempty"`
	Base64 *string `json:"base64,omitempty"`
	Bytes  int64   `json:"bytes"`
	SHA256 string  `json:"sha256"`
}

// CollectedFile returns the form of a file with that content and hash.
func CollectedFile(content []byte, sha256 string) Collected {
	c := Collected{Bytes: int64(len(content)), SHA256: sha256}
	if text := string(content); utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		c.Text = &text
		return c
	}
	text := base64.StdEncoding.EncodeToString(content)
	c.Base64 = &text
	return c
}

// Size is how many bytes of JSON the content takes.
func (c Collected) Size() int {
	if c.Text != nil {
		return fastjson.Size(*c.Text)
	}
	return len(*c.Base64) + len(`""`)
}

// Bounds of names, of files put in and of files handed back.
const (
	FilesMost  = 10_000 // files of one request, and of one result
	nameMost   = 4095   // bytes of a name: PATH_MAX without its zero byte
	partMost   = 255    // bytes between two slashes: NAME_MAX
	partsMost  = 32     // so that a few names cannot make a flood of directories
	patternsOf = 64     // patterns of one request
)

// BadFileName returns why a name cannot be that of a file in the working directory; empty: it can.
// A name is a path relative to that directory, in its one normal form, so it cannot lead out of the
// directory and two names are two files.
func BadFileName(name string) (reason string) {
	switch {
	case name == "":
		return "empty"
	case len(name) > nameMost:
		return fmt.Sprintf("%d bytes, at most %d are allowed", len(name), nameMost)
	case name[0] == '/':
		return "an absolute path; want one below the working directory"
	case !utf8.ValidString(name):
		return "not UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "a control character in the name"
	}
	parts := 0
	for part := range strings.SplitSeq(name, "/") {
		switch parts++; {
		case part == "":
			return "a slash at the end, or two in a row"
		case part == "." || part == "..":
			return strconv.Quote(part) + " in the path"
		case len(part) > partMost:
			return fmt.Sprintf("%d bytes between two slashes, at most %d are allowed", len(part), partMost)
		}
	}
	if parts > partsMost {
		return fmt.Sprintf("%d directories deep, at most %d are allowed", parts-1, partsMost-1)
	}
	return ""
}

func readFiles(r *Request, v any) *fault {
	object, ok := v.(*Object)
	if !ok {
		return wrongKind(v, "an object of files")
	}
	object = object.WithoutNull()
	if len(object.Names) > FilesMost {
		return &fault{text: fmt.Sprintf("%d files, at most %d are allowed", len(object.Names), FilesMost)}
	}
	r.Files = make([]File, len(object.Names))
	known := make(map[string]bool, len(object.Names))
	for i, name := range object.Names {
		f := &fault{text: BadFileName(name)}
		if f.text == "" {
			r.Files[i].Name = name
			f = readContent(&r.Files[i].Content, object.Values[i])
		}
		if f != nil {
			f.at = strictjson.Member(name) + f.at
			return f
		}
		known[name] = true
	}
	for _, name := range object.Names {
		for i := range name {
			if name[i] == '/' && known[name[:i]] {
				return &fault{at: strictjson.Member(name), text: strictjson.Show(name[:i]) + " is a file, and here a directory"}
			}
		}
	}
	return nil
}

// readContent reads what a file holds: a string, {"text": …} or {"base64": …}.
func readContent(to *string, v any) *fault {
	raw, ok := v.(*Raw)
	if !ok || raw.IsArray() {
		if _, ok := v.(string); !ok {
			return wrongKind(v, `a string, {"text": …} or {"base64": …}`)
		}
		return readString(to, v)
	}
	form, member, depth := "", "", 0
	for t := range raw.Tokens() {
		switch t.Kind {
		case ':':
			member = t.Text
			if member != "text" && member != "base64" {
				return &fault{at: strictjson.Member(member), text: "unknown member", hint: "known: text, base64"}
			}
		case '{':
			if depth++; depth > 1 {
				return &fault{at: strictjson.Member(member), text: "object, want a string"}
			}
		case '}', 'n': // the end; a null counts as absent
		case '"':
			if form != "" {
				return &fault{text: "both text and base64", hint: "send one of the two"}
			}
			form, *to = member, t.Text
		default:
			return &fault{at: strictjson.Member(member), text: "want a string"}
		}
	}
	switch form {
	case "":
		return &fault{text: "neither text nor base64", hint: `send {"text": ""} for an empty file`}
	case "base64":
		data, err := base64.StdEncoding.Strict().DecodeString(*to)
		if err != nil || strings.ContainsAny(*to, "\r\n") { // which the decoder skips
			return &fault{at: ".base64", text: "not base64", hint: "use the alphabet with + and /, with padding, without line ends (RFC 4648, section 4)"}
		}
		*to = string(data)
	}
	return nil
}

func readCollect(r *Request, v any) *fault {
	list, ok := v.([]any)
	if !ok {
		return wrongKind(v, "an array of patterns")
	}
	if len(list) > patternsOf {
		return &fault{text: fmt.Sprintf("%d patterns, at most %d are allowed", len(list), patternsOf)}
	}
	for i, v := range list {
		var text string
		f := readString(&text, v)
		if f == nil {
			var pattern Pattern
			if pattern, f = parsePattern(text); f == nil {
				r.Collect = append(r.Collect, pattern)
				continue
			}
		}
		f.at = "[" + strconv.Itoa(i) + "]"
		return f
	}
	return nil
}
