package cmd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// roundTrip reads the files that were put in, changes one, and makes others: with its own rights, and with those of the user that it runs as.
const roundTrip = `
import os, hashlib
assert sorted(os.listdir(".")) == ["data", "in.txt"], os.listdir(".")
assert all(os.stat(p).st_uid == os.getuid() for p in ("in.txt", "data", "data/deep", "data/deep/b.bin")), "owner"
os.makedirs("out/plots", exist_ok=True)
with open("out/report.txt", "w", encoding="utf-8") as f:
    f.write(open("in.txt", encoding="utf-8").read().upper())
with open("out/plots/1.bin", "wb") as f:
    f.write(open("data/deep/b.bin", "rb").read() * 2)
with open("in.txt", "a") as f:
    f.write("more")
os.symlink("/etc/passwd", "out/link")
result = os.getuid()
`

// Files are put in and handed back however a run is isolated and started, and the record proves both.
func TestFiles(t *testing.T) {
	t.Parallel()
	forAll := "" // an interpreter that every user may execute
	for _, name := range []string{"/usr/bin/python3", findPython(t)} {
		c := exec.Command(name, "-c", "")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if os.Geteuid() == 0 && c.Run() == nil {
			forAll = name
			break
		}
	}
	for _, way := range []struct {
		name       string
		env        []string
		warm, user bool
	}{
		{"cold", nil, false, false},
		{"warm", nil, true, false},
		{"method process", []string{"PY3RUN_SECURITY_ISOLATION_METHOD=process"}, false, false},
		{"a root that is not py3run's own", []string{"PY3RUN_SECURITY_ISOLATION_WORKING_DIR=" + t.TempDir() + "/x-${executionId}"}, false, false},
		{"another user", []string{"PY3RUN_SECURITY_ISOLATION_RUN_AS=nobody"}, false, true},
		{"another user, warm", []string{"PY3RUN_SECURITY_ISOLATION_RUN_AS=nobody"}, true, true},
		{"another user, method process", []string{"PY3RUN_SECURITY_ISOLATION_RUN_AS=nobody", "PY3RUN_SECURITY_ISOLATION_METHOD=process"}, false, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.env = append(p.env, way.env...)
			if way.user {
				need.That(t, "root", asRoot())
				if forAll == "" {
					t.Skip("no interpreter that another user can start")
				}
				p.env = append(p.env, "PY3RUN_PYTHON_INTERPRETER="+forAll)
			}
			if way.warm {
				p.warm(t)
			}
			c := p.command("exec", "--audit-line=off")
			c.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": roundTrip, "collect": []string{"out/**", "in.txt", "absent"},
				"files": map[string]any{"in.txt": "größe\n", "data/deep/b.bin": map[string]string{"base64": "AP8K"}}}))
			out, err := c.Output()
			var r struct {
				Status    wire.Status
				Traceback string
				Result    int
				Files     map[string]wire.Collected
				Warnings  []wire.Warning
				Isolation struct{ Warm bool }
			}
			if json.Unmarshal(out, &r) != nil || r.Status != wire.StatusOK || r.Isolation.Warm != way.warm {
				t.Fatalf("%v: %s", err, out)
			}
			if way.user != (r.Result == 65534) && os.Geteuid() == 0 {
				t.Errorf("ran as %d", r.Result)
			}
			want := map[string]string{"in.txt": "größe\nmore", "out/report.txt": "GRÖSSE\n", "out/plots/1.bin": "\x00\xff\n\x00\xff\n"}
			if len(r.Files) != len(want) {
				t.Errorf("%d files: %s", len(r.Files), out)
			}
			hashes := map[string]string{}
			for name, content := range want {
				hashes[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
				if f := r.Files[name]; f.SHA256 != hashes[name] || f.Bytes != int64(len(content)) || f.Text != nil && *f.Text != content || (f.Text == nil) != (name == "out/plots/1.bin") {
					t.Errorf("%s: %+v", name, f)
				}
			}
			if f := r.Files["out/plots/1.bin"]; f.Base64 == nil || *f.Base64 != "AP8KAP8K" {
				t.Errorf("%+v", f)
			}
			told := fmt.Sprint(r.Warnings)
			if !strings.Contains(told, "{not_collected out/link: a symbolic link}") || !strings.Contains(told, "{not_collected absent: no file matches}") ||
				strings.Contains(told, "in.txt") || strings.Contains(told, "report.txt") || strings.Contains(told, "b.bin") {
				t.Errorf("warnings %s", told)
			}
			in := map[string]string{"in.txt": fmt.Sprintf("%x", sha256.Sum256([]byte("größe\n"))), "data/deep/b.bin": fmt.Sprintf("%x", sha256.Sum256([]byte("\x00\xff\n")))}
			for i, line := range logLines(t, p.dir) {
				var rec struct {
					Files struct{ Put, Collected fileSet }
				}
				if err := json.Unmarshal([]byte(line), &rec); err != nil {
					t.Fatal(err)
				}
				rec.Files.Put.check(t, in, 11)
				if i == 1 {
					rec.Files.Collected.check(t, hashes, 26)
				} else if rec.Files.Collected.Count != 0 {
					t.Errorf("the start knows what was collected: %s", line)
				}
			}
		})
	}
}

// A fileSet is what a record says of files.
type fileSet struct {
	Count, Bytes int
	SHA256       string
	List         []struct {
		Name   string
		SHA256 string
	}
}

// check compares a record with the hashes of files, as a reader with sha256sum would.
func (s fileSet) check(t *testing.T, want map[string]string, bytes int) {
	t.Helper()
	var lines []string
	for name, hash := range want {
		lines = append(lines, name+"\x00"+hash+"  "+name+"\n")
	}
	slices.Sort(lines)
	all := ""
	for i, line := range lines {
		_, line, _ = strings.Cut(line, "\x00")
		all += line
		if i < len(s.List) && line != s.List[i].SHA256+"  "+s.List[i].Name+"\n" {
			t.Errorf("recorded %+v, want %q", s.List[i], line)
		}
	}
	if s.Count != len(want) || s.Bytes != bytes || len(s.List) != len(want) || s.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(all))) {
		t.Errorf("recorded %+v", s)
	}
}
