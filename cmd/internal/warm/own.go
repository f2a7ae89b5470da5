package warm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox"
)

// Own are templates of this process. They need no socket, nobody else takes their workers, and they
// end with the process: for a process that has many runs, such as a bridge.
//
// A run that finds no worker starts an interpreter of its own, as with every template.
type Own struct {
	mu     sync.Mutex
	pools  map[string]*ownPool
	closed bool

	asked    Setup  // by the last run
	askedKey string // its key: most runs are like the last one
}

// An ownPool is a pool with its life in this process.
type ownPool struct {
	*pool
	begun chan struct{} // closed when the interpreter is ready, or has failed
	ended chan struct{} // closed when nothing is left of it
	again time.Time     // a pool that has ended is not tried again before; set before ended is closed
}

// ownMost is how many templates a process keeps. Requests with limits of different kinds need
// different ones.
const ownMost = 4

// NewOwn makes an empty set of templates. Call Close at the end.
func NewOwn() *Own {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // the inits of an ordinary user's workers become children of this process
	return &Own{pools: map[string]*ownPool{}}
}

// Start starts the template of a Setup in the background, unless it is there. After a failure it
// starts it again only after some time.
func (o *Own) Start(s Setup) { o.pool(s) }

// Take takes a worker for a run; nil: there is none now. It starts the template if it is missing.
func (o *Own) Take(s Setup) *Lease {
	p := o.pool(s)
	if p == nil {
		return nil
	}
	select {
	case <-p.begun:
	default:
		return nil
	}
	worker, ok := p.take()
	if !ok {
		return nil
	}
	handoff, err := worker.Take()
	if err != nil {
		p.done(worker)
		return nil
	}
	return &Lease{Handoff: handoff, fd: -1, done: func() { go p.done(worker) }} // nobody waits for it: Close waits for p.runs
}

// Refill has workers made in the place of those that were taken. Call it when there is time: making
// a worker takes as much of a processor as most runs do.
func (o *Own) Refill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pools {
		p.refill()
	}
}

// Close ends all templates and waits until nothing is left of them, at most for patience.
func (o *Own) Close(patience time.Duration) error {
	o.mu.Lock()
	o.closed = true
	for _, p := range o.pools {
		p.stop()
	}
	o.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	for _, p := range o.pools {
		select {
		case <-p.ended:
		case <-late.C:
			return errors.New("templates have not ended in time")
		}
	}
	return nil
}

// pool returns the pool of a Setup, which it makes if there is none; nil: it has failed not long ago.
func (o *Own) pool(s Setup) *ownPool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.askedKey == "" || !s.sameKey(o.asked) {
		o.asked, o.askedKey = s, s.Key()
	}
	key := o.askedKey
	if o.closed {
		return nil
	}
	if p := o.pools[key]; p != nil {
		select {
		case <-p.ended:
			if time.Now().Before(p.again) {
				return nil
			}
		default:
			return p
		}
	}
	o.makeRoom(s)
	p := &ownPool{begun: make(chan struct{}), ended: make(chan struct{})}
	p.pool = newPool(s, nil)
	o.pools[key] = p
	go p.live()
	return p
}

// makeRoom ends the templates of another version of an interpreter, and the one that was unused for
// longest if there are many. The ones that have ended are forgotten, unless a failure is remembered.
func (o *Own) makeRoom(s Setup) {
	var oldest *ownPool
	n := 0
	for key, p := range o.pools {
		select {
		case <-p.ended:
			if time.Now().After(p.again) {
				delete(o.pools, key)
			}
			continue
		default:
		}
		if p.setup.Interpreter == s.Interpreter && p.setup.Identity != s.Identity {
			p.stop()
			continue
		}
		p.mu.Lock()
		if n++; oldest == nil || p.used.Before(oldest.used) {
			oldest = p
		}
		p.mu.Unlock()
	}
	if n >= ownMost {
		oldest.stop()
	}
}

// live is the life of a pool: it starts the interpreter, keeps workers ready, and leaves nothing.
func (p *ownPool) live() {
	defer close(p.ended)
	defer func() {
		if fault := recover(); fault != nil { // a fault here must not end the process, whose runs do not need the template
			p.again = time.Now().Add(importPause)
		}
	}()
	name := fmt.Sprintf("warm-%s-%d-%d", p.key[:8], os.Getpid(), p.started.UnixNano())
	note, err := sandbox.MakeNote(p.setup.Dir, name)
	if err != nil {
		p.again = time.Now().Add(failedPatience)
		return
	}
	defer note.Close()
	p.note = note.Groups
	if _, err = p.begin(); err != nil {
		p.again = time.Now().Add(importPause)
		return
	}
	close(p.begun)
	stopped := make(chan struct{})
	go func() { defer close(stopped); p.watch() }()
	p.fill()
	p.again = time.Now().Add(failedPatience)
	p.stop()
	<-stopped
	p.drain()
	p.retire(p.template, p.using)
	p.runs.Wait()
	if p.table != nil {
		p.table.Close()
	}
}

// watch ends the pool when there is a reason.
func (p *ownPool) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			if p.outlived() {
				p.stop()
			}
		}
	}
}
