package warm

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Many workers at once in one launcher: each run has its own result, and nothing of them is left in
// the launcher.
func TestManyWorkers(t *testing.T) {
	const workers = 20
	spec := sandbox.Spec{Env: os.Environ(), Dir: "/", Method: sandbox.Namespace, OnMissing: sandbox.Warn, DenyCalls: true, Activity: sandbox.BestEffort,
		FirstFile: 1024, Limits: sandbox.Limits{Wall: time.Minute}}
	key, ok := spec.PoolKey()
	if !ok {
		t.Fatal("no worker is possible")
	}
	setup, steps := key.Setup()
	runtime.LockOSThread() // the template ends with this thread
	defer runtime.UnlockOSThread()
	ip, _, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Skip(err)
	}
	template, err := python.StartTemplate(ip, python.TemplateJob{Setup: setup, Practice: sandbox.Practice(), UserNamespace: os.Geteuid() != 0, First: key.FirstFile,
		Environ: os.Environ()}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer template.Close()
	fork := func(files []*os.File) error {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		return sandbox.SendTo(template.Control, []byte("fork"), fds)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	round := func(count int) {
		var made []*sandbox.Worker
		for i := range count {
			worker, err := sandbox.NewWorker(ctx, key, steps, fmt.Sprintf("py3run-test-%d-%d", os.Getpid(), i), func([]string) {}, fork)
			if err != nil {
				t.Skipf("no worker is possible here: %v", err)
			}
			defer worker.Close()
			made = append(made, worker)
		}
		for number := 8; number < 20; number++ { // else a file that a thread of a preloaded module opens could get one of them: see reserve in template.py
			if _, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", template.Process.Process.Pid, number)); os.IsNotExist(err) {
				t.Errorf("the template does not occupy descriptor %d", number)
			}
		}
		var all sync.WaitGroup
		for i, worker := range made {
			all.Go(func() {
				if err := runIn(worker, spec, i); err != nil {
					t.Errorf("worker %d: %v", i, err)
				}
			})
		}
		all.Wait()
	}
	round(2) // what Go opens once for itself
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors()
	round(workers)
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > goroutines || countDescriptors() > descriptors; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d descriptors, before %d and %d", runtime.NumGoroutine(), countDescriptors(), goroutines, descriptors)
		}
	}
}

// runIn runs a script in a worker, as a launcher does.
func runIn(worker *sandbox.Worker, spec sandbox.Spec, number int) error {
	text, descriptors := worker.Handoff()
	for i := range descriptors { // sent to a launcher they are others
		var err error
		if descriptors[i], err = unix.FcntlInt(uintptr(descriptors[i]), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
	}
	worker.Give()
	handoff, err := sandbox.ReadHandoff(text, descriptors)
	if err != nil {
		return err
	}
	session, err := python.OpenWorker(python.Job{Command: wire.CommandExecute, Code: fmt.Appendf(nil, "import socket\nresult = %d * 2", number), Text: true,
		Path: "/x.py", Shown: "/x.py", Environ: spec.Env, ResultFormat: "plain", ResultFrom: "auto"}, nil)
	if err != nil {
		handoff.Close()
		return err
	}
	defer session.Close()
	r, err := sandbox.Start(spec, sandbox.IO{Stdout: io.Discard, Stderr: io.Discard, Files: session.Files()}, handoff)
	session.Started()
	if err != nil {
		return err
	}
	released := r.Release()
	outcome := r.Wait(nil, nil)
	reply, err := session.Reply()
	if want := fmt.Sprint(number * 2); released != nil || err != nil || !outcome.Began || outcome.ExitCode != 0 || string(reply.Value) != want {
		return fmt.Errorf("released %v, %+v, reply %s, %v; want %s", released, outcome, reply.Value, err, want)
	}
	return nil
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
