package launch

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Everything that is given to an aside is done, also what comes while it is busy, and what it has when it
// is ended. Without one it is done as well.
func TestAside(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*aside{"one": newAside(), "none": nil} {
		var done atomic.Int32
		var all sync.WaitGroup
		busy := make(chan struct{})
		all.Add(52)
		a.do(func() { <-busy; done.Add(1); all.Done() })
		for range 50 {
			a.do(func() { done.Add(1); all.Done() })
		}
		close(busy)
		a.do(func() { done.Add(1); all.Done() })
		a.end()
		all.Wait()
		if done.Load() != 52 {
			t.Errorf("%s: %d of 52 were done", name, done.Load())
		}
	}
}
