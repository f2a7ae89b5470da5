package warm

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"py3run/cmd/internal/python"
	"py3run/internal/need"
	"py3run/sandbox"
)

// ownSetup is that of a template of this process, which notes what it makes in root.
func ownSetup(t *testing.T) (s Setup, root string) {
	t.Helper()
	ip, _, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Skip(err)
	}
	root = filepath.Join(t.TempDir(), "root")
	if _, err := sandbox.MakeRoot(root); err != nil {
		t.Fatal(err)
	}
	return Setup{PoolKey: sandbox.PoolKey{FirstFile: 1024}, Interpreter: ip.Path, Identity: ip.Identity, Environ: os.Environ(), Dir: root, Spares: 1}, root
}

// await waits until a condition holds, for a minute.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for a minute until %s", what)
		}
	}
}

// alive reports whether a pool's interpreter lives.
func alive(p *ownPool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process != 0 && syscall.Kill(p.process, 0) == nil
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Templates of this process give workers, are replaced with their interpreter, and leave nothing.
func TestOwn(t *testing.T) {
	s, root := ownSetup(t)
	probe := NewOwn()
	probe.Start(s)
	p := probe.pool(s)
	await(t, "the template is ready or has failed", func() bool { return isClosed(p.begun) || isClosed(p.ended) })
	if isClosed(p.ended) {
		probe.Close(time.Minute)
		need.That(t, "namespaces", os.ErrPermission)
	}
	for range 3 { // each takes a worker of its own
		var lease *Lease
		await(t, "there is a worker", func() bool { lease = probe.Take(s); return lease != nil })
		if err := lease.Receive(); err != nil || !lease.Alive() || lease.Handoff == nil {
			t.Fatalf("%v, %+v", err, lease)
		}
		lease.GiveUp()
		probe.Refill()
	}
	changed := s
	changed.Identity = "of another file"
	next := probe.pool(changed)
	await(t, "the old template has ended", func() bool { return isClosed(p.ended) && !alive(p) })
	if err := probe.Close(time.Minute); err != nil {
		t.Error(err)
	}
	if !isClosed(next.ended) || alive(next) || probe.Take(s) != nil {
		t.Error("a template outlives Close")
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// A template that cannot start gives no worker and is not tried again at once.
func TestOwnThatFails(t *testing.T) {
	s, root := ownSetup(t)
	s.Preload = []string{"no_such_module"}
	o := NewOwn()
	p := o.pool(s)
	if lease := o.Take(s); lease != nil {
		t.Error("a worker")
	}
	await(t, "the template has failed", func() bool { return isClosed(p.ended) })
	if o.Take(s) != nil || o.pools[s.Key()] != p {
		t.Error("it was tried again")
	}
	p.again = time.Now().Add(-time.Second)
	if again := o.pool(s); again == p || again == nil {
		t.Error("it was not tried again, later")
	}
	if err := o.Close(time.Minute); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// The end does not wait for modules that take long to import.
func TestOwnEndsWhileItStarts(t *testing.T) {
	s, root := ownSetup(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "imports_for_long.py"), []byte("import time\ntime.sleep(1000)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ImportPath, s.Preload = []string{dir}, []string{"imports_for_long"}
	o := NewOwn()
	o.Start(s)
	if err := o.Close(time.Minute); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}
