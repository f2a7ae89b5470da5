package cmd_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// environFor returns the environment of a launcher whose directories lie below dir.
func environFor(t *testing.T, dir string) []string {
	return append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+findPython(t), "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir,
		"PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"), "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(dir, "work", "${executionId}"))
}

// lineOf is the part of a result line that these tests read.
type lineOf struct {
	Status  wire.Status   `json:"status"`
	Failure *wire.Failure `json:"failure"`
	wire.Captured
}

// A launcher with too few descriptors leaves no files behind.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ limit, open int }{{8, 0}, {10, 0}, {32, 0}, {64, 0}, {64, 15}, {64, 25}, {64, 35}, {64, 40}, {64, 50}} {
		t.Run(fmt.Sprintf("%d of %d", c.open, c.limit), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			run := exec.Command("sh", "-c", fmt.Sprintf("ulimit -n %d; exec py3run exec --audit-line=off", c.limit))
			run.Env, run.Stdin, run.Dir = environFor(t, dir), strings.NewReader(`{"code": "result = 1"}`), dir
			for range c.open {
				run.ExtraFiles = append(run.ExtraFiles, null)
			}
			line, _ := run.Output()
			var result lineOf
			if err := json.Unmarshal(line, &result); err != nil {
				t.Fatalf("%v: %q", err, line)
			}
			switch {
			case c.limit < 64 && (result.Status != wire.StatusLaunchFailed || result.Failure.Step != "descriptors" || result.Failure.Hint == ""),
				c.limit >= 64 && c.open == 0 && result.Status != wire.StatusOK:
				t.Errorf("%s", line)
			}
			for _, place := range []string{"work", filepath.Join("work", fmt.Sprintf(".py3run-%d", os.Geteuid()))} {
				if entries, _ := os.ReadDir(filepath.Join(dir, place)); len(entries) > 0 {
					t.Errorf("status %s; left: %v", result.Status, entries)
				}
			}
		})
	}
}

// Whatever the code prints, the output limit bounds the launcher's memory; the size of the output as
// JSON does not.
func TestMemoryOfTheLauncher(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	t.Parallel()
	for _, unit := range []string{`b"\x01"`, `b"\xff"`, `b"\n"`} {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			const most = 8 // MB
			request, _ := json.Marshal(map[string]any{"limits": map[string]any{"output_mb": most},
				"code": "import os\nfor f in 1, 2:\n    for _ in range(300): os.write(f, " + unit + " * 32768)"})
			run := exec.Command("py3run", "exec", "--audit-line=off")
			run.Env, run.Stdin = environFor(t, t.TempDir()), strings.NewReader(string(request))
			out, err := run.StdoutPipe()
			if err == nil {
				err = run.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer run.Wait()
			line := bufio.NewReader(out)
			line.ReadByte() // the launcher has made the line and waits for its reader
			line.UnreadByte()
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", run.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(line)
			var result lineOf
			if err == nil {
				err = json.Unmarshal(text, &result)
			}
			if err != nil || result.Status != wire.StatusOK || result.StdoutBytes != 300*32768 || !result.StderrTruncated {
				t.Fatalf("%v: %.200s", err, text)
			}
			if form := int64(len(text)); form > 4*most<<20+64<<10 {
				t.Errorf("a line of %d bytes", form)
			}
			var peak int
			_, rest, _ := strings.Cut(string(status), "VmHWM:")
			if fmt.Sscan(rest, &peak); peak == 0 || peak > (8*most+48)<<10 {
				t.Errorf("the launcher's memory was up to %d kB", peak)
			}
			t.Logf("%d kB, a line of %d bytes", peak, len(text))
		})
	}
}
