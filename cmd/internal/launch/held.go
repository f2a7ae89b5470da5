package launch

import (
	"fmt"
	"sync"
)

// Holdings owns what a run has acquired: for each thing a function that gives it back, in the order
// of acquisition.
type holdings struct {
	mu   sync.Mutex
	list []func() error
}

// add takes over one thing; release calls the function to give it back.
func (h *holdings) add(release func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, release)
}

// count returns how many things are held.
func (h *holdings) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list)
}

// release gives back everything except the first n things, in reverse order, each once. It goes on
// after an error or a panic, and returns all of them as errors.
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
