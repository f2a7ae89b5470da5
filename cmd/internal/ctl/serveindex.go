package ctl

import (
	"errors"
	"net/http"
	"os"
	"sync"
	"time"

	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// freshEvery is how often serve looks for new records.
const freshEvery = time.Second

// A freshIndex is the index that the pages read. It goes on with a file that was made anew.
type freshIndex struct {
	path string

	mu   sync.Mutex
	open *store.Index
	now  web.Fresh
}

// get returns the open index.
func (x *freshIndex) get() (*store.Index, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	info, err := os.Stat(x.path)
	if err != nil || info.Size() == 0 {
		if err == nil {
			x.damaged()
		}
		return nil, visible{errors.New("the index is gone, and is made anew from the log"), http.StatusServiceUnavailable, "try again in a moment"}
	}
	if x.open != nil {
		return x.open, nil
	}
	x.open, err = store.OpenIndex(x.path)
	return x.open, err
}

func (x *freshIndex) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open != nil {
		x.open.Close()
	}
}

// fresh is how far the index is.
func (x *freshIndex) fresh() web.Fresh {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

// told keeps how far the index is.
func (x *freshIndex) told(behind uint64, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.now.Behind, x.now.Err = behind, err; err == nil {
		x.now.At = time.Now()
	}
}

// damaged removes an index that turned out to be damaged: whoever keeps it fresh makes it anew.
func (x *freshIndex) damaged() { os.Remove(x.path) }
