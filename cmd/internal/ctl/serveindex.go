package ctl

import (
	"context"
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

// A freshIndex is the index that the pages read, opened anew when its file was made anew.
type freshIndex struct {
	path   string
	update func(anew bool) error

	mu   sync.Mutex
	open *store.Index
	file os.FileInfo
	now  web.Fresh
	bad  bool // it is to be made anew
}

// get returns the open index.
func (x *freshIndex) get() (*store.Index, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	info, err := os.Stat(x.path)
	if err != nil || info.Size() == 0 {
		x.bad = true
		return nil, visible{errors.New("the index is gone, and is made anew from the log"), http.StatusServiceUnavailable, "try again in a moment"}
	}
	if x.open != nil && os.SameFile(info, x.file) {
		return x.open, nil
	}
	opened, err := store.OpenIndex(x.path)
	if err != nil {
		return nil, err
	}
	if x.open != nil { // a request can still read it
		old := x.open
		time.AfterFunc(time.Minute, func() { old.Close() })
	}
	x.open, x.file = opened, info
	return opened, nil
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

// damaged has the index made anew.
func (x *freshIndex) damaged() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bad = true
}

// wait waits until it is time to look for new records; false: it is over.
func (x *freshIndex) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(freshEvery):
		return true
	}
}

// freshen brings the index up to date, or makes it anew.
func (x *freshIndex) freshen() {
	x.mu.Lock()
	anew := x.bad
	x.mu.Unlock()
	err := x.update(anew)
	if !anew && (errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion)) {
		anew = true
		err = x.update(anew)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.now.Err = err; err == nil {
		x.now.At = time.Now()
		x.bad = x.bad && !anew
	}
}
