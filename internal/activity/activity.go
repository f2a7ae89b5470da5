// Package activity describes what a run did: its connections, program starts, imports and files.
// The result that answers a request and the record in the audit log show the same things under the
// same JSON names, and both use these types.
//
// The two differ in one way. A result has every list, even an empty one: see [Summary.WithLists]. A
// record leaves empty lists out: see [Summary.WithoutEmpty].
package activity

// A Summary is what a run did, as far as the interpreter and the kernel reported it. Every list is
// bounded, and Dropped counts what is missing from the lists.
//
// This is an observation, not a proof. Code that does not want to be seen can change what the
// interpreter reports.
type Summary struct {
	PythonHooks    string          `json:"python_hooks,omitempty"` // NoHooks, or empty
	Imports        *int            `json:"imports,omitempty"`      // nil with NoHooks
	FlaggedImports []FlaggedImport `json:"flagged_imports,omitzero"`
	Connections    []Connection    `json:"connections,omitzero"`
	Binds          []Connection    `json:"binds,omitzero"`
	Processes      []Process       `json:"processes,omitzero"`
	FilesWritten   []string        `json:"files_written,omitzero"`
	FilesDeleted   []string        `json:"files_deleted,omitzero"`
	DirsMade       []string        `json:"directories_made,omitempty"`
	FilesRead      []string        `json:"files_read,omitempty"` // on request only
	Dropped        int             `json:"dropped"`

	// Appended are the files that were opened for appending, including those that FilesWritten had
	// no room for. They are evidence for the limit on a file's size and appear in no JSON.
	Appended []string `json:"-"`

	// FilesDropped are the events of files that the kernel had no room for. They become a part of
	// Dropped, as far as the interpreter has not noted the same files, and appear in no JSON.
	FilesDropped int `json:"-"`
}

// NoHooks says that no code of py3run's was in the interpreter: everything here is what the kernel saw.
const NoHooks = "none"

// A FlaggedImport is the import of a module that the operator wants to know about.
type FlaggedImport struct {
	Module string `json:"module"`
	Why    string `json:"why"`
	Direct bool   `json:"direct"` // by the user's own code
}

// A Connection is an attempt to reach an address, or to be reached at one. Via names who reported
// it: the interpreter (python), or only the kernel (native).
type Connection struct {
	Host    string `json:"host"`
	Port    int    `json:"port,omitempty"`
	Via     string `json:"via"`
	Count   int    `json:"count"`
	Program string `json:"program,omitempty"` // path of the program that made the call; empty: the interpreter itself
}

// A Process is the start of a program. Via is as in a [Connection].
type Process struct {
	Program string   `json:"program"`
	Args    []string `json:"args,omitzero"`
	Via     string   `json:"via"`
	Count   int      `json:"count"`

	ArgsDropped int `json:"args_dropped,omitempty"` // arguments that are missing from Args
	ArgsCut     int `json:"args_cut,omitempty"`     // arguments in Args that are shortened
}

// WithLists returns s with an empty list in place of each nil one, for a result. DirsMade and FilesRead are
// exceptions: they came into the result later, and are left out where they are empty.
func (s Summary) WithLists() Summary {
	s = s.counted()
	s.FlaggedImports = orEmpty(s.FlaggedImports)
	s.Connections = orEmpty(s.Connections)
	s.Binds = orEmpty(s.Binds)
	s.FilesWritten = orEmpty(s.FilesWritten)
	s.FilesDeleted = orEmpty(s.FilesDeleted)
	s.Processes = withArgs(s.Processes, orEmpty)
	return s
}

// WithoutEmpty returns s with nil in place of each empty list, for a record.
func (s Summary) WithoutEmpty() Summary {
	s = s.counted()
	s.FlaggedImports = orNil(s.FlaggedImports)
	s.Connections = orNil(s.Connections)
	s.Binds = orNil(s.Binds)
	s.FilesWritten = orNil(s.FilesWritten)
	s.FilesDeleted = orNil(s.FilesDeleted)
	s.DirsMade = orNil(s.DirsMade)
	s.FilesRead = orNil(s.FilesRead)
	s.Processes = orNil(withArgs(s.Processes, orNil))
	return s
}

// counted returns s with the number of imports, unless nobody has counted them.
func (s Summary) counted() Summary {
	if s.Imports == nil && s.PythonHooks == "" {
		s.Imports = new(0)
	}
	return s
}

// withArgs copies the list, so that the caller's Summary keeps its arguments as they are.
func withArgs(list []Process, fit func([]string) []string) []Process {
	out := make([]Process, len(list))
	for i, p := range list {
		p.Args = fit(p.Args)
		out[i] = p
	}
	return out
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
