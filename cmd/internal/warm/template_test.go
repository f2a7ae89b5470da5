package warm

import (
	"os"
	"runtime"
	"testing"
	"time"

	"py3run/cmd/internal/python"
	"py3run/sandbox"
)

// A template that does not learn which pages a run touches works, and is slow: nothing else would tell.
func TestTemplateLearns(t *testing.T) {
	if _, err := os.Stat("/proc/self/pagemap"); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread() // templates end with it
	defer runtime.UnlockOSThread()
	ip, _, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Skip(err)
	}
	base := sandbox.Base{FirstFile: 1024}
	setup, _ := base.Setup()
	for _, preload := range [][]string{nil, {"json", "threading"}} {
		template, err := python.StartTemplate(ip, python.TemplateJob{Setup: setup, Practice: sandbox.Practice(), First: base.FirstFile, Environ: os.Environ(), Preload: preload}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer template.Close()
		if template.Pages[0] == 0 || template.Pages[1] == 0 {
			t.Errorf("with %v: pages of init and of the program: %v", preload, template.Pages)
		}
	}
}
