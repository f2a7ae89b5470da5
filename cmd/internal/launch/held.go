package launch

import (
	"fmt"
	"sync"
)

// Holdings are what a run has acquired and has to give back, in the order in which it was acquired.
type holdings struct {
	mu   sync.Mutex
	list []func() error
}

// add takes over something that was acquired: release gives it back.
func (h *holdings) add(release func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, release)
}

// count is how many things are held.
func (h *holdings) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list)
}

// release gives back what was acquired after the first n, the last one first, and each once. What fails keeps nothing else from being given
// back, a panic neither.
func (h *holdings) release(n int) (failed []error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.list) > n {
		last := h.list[len(h.list)-1]
		h.list = h.list[:len(h.list)-1]
		if err := guarded(last); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// guarded calls f and returns a panic in it as an error.
func guarded(f func() error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("internal: %v", fault)
		}
	}()
	return f()
}
