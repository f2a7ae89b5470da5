package activity

import (
	stdjson "encoding/json"
	"reflect"
	"testing"

	"py3run/internal/json"
)

// The names, their order and what is left out are part of two formats: the result and the audit record.
func TestJSON(t *testing.T) {
	t.Parallel()
	full := Summary{
		Imports:        new(3),
		FlaggedImports: []FlaggedImport{{Module: "os", Why: "operating system interface", Direct: true}},
		Connections:    []Connection{{Host: "10.0.0.1", Port: 443, Via: "native", Count: 2, Program: "/usr/bin/curl"}},
		Binds:          []Connection{{Host: "unix:s", Via: "python", Count: 1}},
		Processes:      []Process{{Program: "/bin/ls", Args: []string{"-l"}, Via: "native", Count: 1, ArgsDropped: 2, ArgsCut: 1}, {Program: "true", Via: "python", Count: 1}},
		FilesWritten:   []string{"/a"},
		FilesDeleted:   []string{"/b"},
		DirsMade:       []string{"/c"},
		FilesRead:      []string{"/d"},
		Dropped:        4,
		Appended:       []string{"/a"},
		FilesDropped:   5,
	}
	const lists = `"flagged_imports":[{"module":"os","why":"operating system interface","direct":true}],` +
		`"connections":[{"host":"10.0.0.1","port":443,"via":"native","count":2,"program":"/usr/bin/curl"}],` +
		`"binds":[{"host":"unix:s","via":"python","count":1}],`
	empty := Summary{FlaggedImports: []FlaggedImport{}, Connections: []Connection{}, Binds: []Connection{}, Processes: []Process{{Program: "true", Args: []string{}, Via: "python", Count: 1}},
		FilesWritten: []string{}, FilesDeleted: []string{}, DirsMade: []string{}, FilesRead: []string{}}
	tests := []struct {
		name string
		give Summary
		want string
	}{
		{"result, nothing", Summary{}.WithLists(), `{"imports":0,"flagged_imports":[],"connections":[],"binds":[],"processes":[],"files_written":[],"files_deleted":[],"dropped":0}`},
		{"result, empty lists", empty.WithLists(), `{"imports":0,"flagged_imports":[],"connections":[],"binds":[],"processes":[{"program":"true","args":[],"via":"python","count":1}],"files_written":[],"files_deleted":[],"dropped":0}`},
		{"result, everything", full.WithLists(), `{"imports":3,` + lists +
			`"processes":[{"program":"/bin/ls","args":["-l"],"via":"native","count":1,"args_dropped":2,"args_cut":1},{"program":"true","args":[],"via":"python","count":1}],` +
			`"files_written":["/a"],"files_deleted":["/b"],"directories_made":["/c"],"files_read":["/d"],"dropped":4}`},
		{"record, nothing", Summary{}.WithoutEmpty(), `{"imports":0,"dropped":0}`},
		{"record, empty lists", empty.WithoutEmpty(), `{"imports":0,"processes":[{"program":"true","via":"python","count":1}],"dropped":0}`},
		{"record, everything", full.WithoutEmpty(), `{"imports":3,` + lists +
			`"processes":[{"program":"/bin/ls","args":["-l"],"via":"native","count":1,"args_dropped":2,"args_cut":1},{"program":"true","via":"python","count":1}],` +
			`"files_written":["/a"],"files_deleted":["/b"],"directories_made":["/c"],"files_read":["/d"],"dropped":4}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Append(nil, tt.give)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v\nwant %s", got, err, tt.want)
			}
			if std, err := stdjson.Marshal(tt.give); err != nil || string(std) != tt.want {
				t.Errorf("encoding/json: %s, %v\nwant %s", std, err, tt.want)
			}
		})
	}
}

func TestListsOfCallerStay(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {}} {
		s := Summary{Processes: []Process{{Args: args}}}
		s.WithLists()
		s.WithoutEmpty()
		if got := s.Processes[0].Args; !reflect.DeepEqual(got, args) {
			t.Errorf("%#v became %#v", args, got)
		}
	}
}
