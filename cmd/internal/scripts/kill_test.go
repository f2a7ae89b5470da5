package scripts

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A child of the test saves versions until it is killed.
const childDir = "PY3RUN_TEST_SCRIPTS_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		saveForEver(dir)
	}
	os.Exit(m.Run())
}

// saveForEver prints a line for each version that was saved.
func saveForEver(dir string) {
	s, err := Open(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		n := 1
		if e, err := s.Find("tank"); err == nil {
			n = e.Latest + 1
		}
		var c Change
		if n%7 == 0 {
			c, err = s.Delete("tank", by("child"))
		} else {
			c, err = s.Save("tank", Draft{Code: []byte(strings.Repeat(fmt.Sprintln(n), 3000)), Comment: fmt.Sprint(n)}, by("child"))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.Meta.Latest)
	}
}

// Killed at any moment, a writer leaves a store in which every file can be read, every text is the
// one that its hash names, and every version is there whose save has returned.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "scripts")
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	last := 0
	for round := range rounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() { // one save, so that each round gets somewhere
			t.Fatal("the child has said nothing")
		}
		fmt.Sscan(lines.Text(), &last)
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		child.Process.Signal(syscall.SIGKILL)
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatalf("the child says %s", lines.Text())
			}
		}
		child.Wait()

		if _, err := Sweep(dir); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		meta, list, err := s.History("tank")
		if err != nil || meta.Latest < last || len(list) != meta.Latest {
			t.Fatalf("round %d: %d versions of %d, %v", round, len(list), last, err)
		}
		texts := map[string]bool{}
		for _, v := range list {
			if v.Deleted {
				continue
			}
			texts[v.SHA256] = true
			got, err := s.Text("tank", v.Number)
			if err != nil || !strings.HasPrefix(string(got.Code), fmt.Sprintln(v.Number)) {
				t.Fatalf("round %d, version %d: %v", round, v.Number, err)
			}
		}
		if left, err := s.entries(objectsDir); err != nil || len(left) != len(texts) {
			t.Fatalf("round %d: %d texts for %d, %v", round, len(left), len(texts), err)
		}
		s.Close()
	}
}
