package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"sync"
	"syscall"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// Outputs receives the two streams of a program, stdout first. exec captures them; run passes them
// straight through.
type outputs struct {
	captured [2]*capture       // of exec; nil in run
	gates    [2]*gate          // likewise, in front of captured
	streams  [2]*streamed      // likewise, if its output is streamed
	live     [2]*limitedWriter // of run; nil in exec
	one      bool              // of run: both streams are one file and go through live[0]
	digests  [2]*streamDigest  // nil: the record has the sizes only
}

func newOutputs(p Plan) *outputs {
	o := &outputs{}
	if p.Job.Config.Security.Audit.LogOutput != "sizes" {
		o.digests = [2]*streamDigest{{sum: sha256.New()}, {sum: sha256.New()}}
	}
	most := megabytes(p.Limits.OutputMB)
	live := p.Job.Live
	if b := p.Job.Bare; b != nil {
		live = &Live{Stdout: b.Stdout, Stderr: b.Stderr, OneStream: b.OneStream}
	}
	if live != nil {
		o.live = [2]*limitedWriter{{to: live.Stdout, most: most, digest: o.digests[0]}, {to: live.Stderr, most: most, digest: o.digests[1]}}
		o.one = live.OneStream
		return o
	}
	o.captured = [2]*capture{{most: most}, {most: most}}
	for i := range o.captured {
		o.gates[i] = &gate{to: digested(o.captured[i], o.digests[i])}
		if to := p.Job.Stream; to != nil {
			o.streams[i] = &streamed{to: to, name: [...]string{wire.EventStdout, wire.EventStderr}[i], most: most}
		}
	}
	return o
}

// writers returns where to copy the streams: the same writer twice if both streams are one file.
func (o *outputs) writers() (stdout, stderr io.Writer) {
	switch {
	case o.streams[0] != nil:
		return &tee{o.gates[0], o.streams[0]}, &tee{o.gates[1], o.streams[1]}
	case o.captured[0] != nil:
		return o.gates[0], o.gates[1]
	case o.one:
		return o.live[0], o.live[0]
	}
	return o.live[0], o.live[1]
}

// leave gives up streams that were not copied to their end: in run because nobody reads them, in exec because a process outside
// of the run holds them open. After it nothing changes what was copied. The others are at their end.
func (o *outputs) leave(undelivered [2]bool) {
	for i := range undelivered {
		switch {
		case !undelivered[i]:
			if s := o.streams[i]; s != nil {
				s.end()
			}
		case o.live[i] != nil:
			o.live[i].leave()
		default:
			o.gates[i].close()
		}
	}
}

// printed returns what was captured, or only the sizes of what went straight through.
func (o *outputs) printed() wire.Captured {
	if out, err := o.live[0], o.live[1]; out != nil {
		return wire.Captured{StdoutBytes: out.total, StderrBytes: err.total, StdoutTruncated: out.truncated(), StderrTruncated: err.truncated()}
	}
	out, err := o.captured[0], o.captured[1]
	if out.total+err.total > 1<<20 {
		defer runtime.GC() // frees the buffers: the texts are copies, and the result line will be another
	}
	return wire.Captured{Stdout: out.text(), Stderr: err.text(), StdoutBytes: out.total, StderrBytes: err.total,
		StdoutTruncated: out.truncated(), StderrTruncated: err.truncated()}
}

// overflow returns the full size of a stream of `run` that the output limit cut, of the larger one if
// both were; 0: none. It does not count exec's streams: exec returns a cut text with its full size.
func (o *outputs) overflow() (size int64) {
	for _, w := range o.live {
		if w != nil && w.truncated() {
			size = max(size, w.total)
		}
	}
	return size
}

// lost returns why output did not arrive.
func (o *outputs) lost() (why []error) {
	for i, w := range o.live {
		switch g := o.gates[i]; {
		case w != nil && w.lost != nil:
			why = append(why, w.lost)
		case g != nil && g.closed:
			why = append(why, errHeld)
		}
	}
	return why
}

// errHeld is why output of exec is lost that was still to come.
var errHeld = errors.New("a process outside of the run holds the stream open, and what it still writes is lost")

// A gate passes a stream on until it is closed.
type gate struct {
	mu     sync.Mutex
	to     io.Writer
	closed bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, errHeld
	}
	return g.to.Write(p)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// digestsOf returns what the record says about the streams beyond their sizes; head: with their
// beginnings.
func (o *outputs) digestsOf(head bool) (list [2]*audit.Stream) {
	for i, d := range o.digests {
		if d != nil {
			list[i] = d.stream(head)
		}
	}
	return list
}

// A streamDigest reads a whole stream and keeps what the record says about it: size, hash and head.
type streamDigest struct {
	sum   hash.Hash
	total int64
	head  []byte
}

// headMost is how many bytes of the beginning of a stream a digest keeps.
const headMost = 512

// digested returns a writer that writes to both; w nil: to itself.
func digested(to io.Writer, w *streamDigest) io.Writer {
	if w == nil {
		return to
	}
	return io.MultiWriter(to, w)
}

func (w *streamDigest) Write(p []byte) (int, error) {
	w.total += int64(len(p))
	w.head = append(w.head, p[:min(len(p), headMost-len(w.head))]...)
	return w.sum.Write(p)
}

// stream returns what the record says; head: with the beginning.
func (w *streamDigest) stream(head bool) *audit.Stream {
	s := &audit.Stream{Bytes: w.total, SHA256: hex.EncodeToString(w.sum.Sum(nil))}
	if head {
		s.Head = decode(string(w.head))
	}
	return s
}

// A limitedWriter passes a stream through up to a limit. It counts and drops the rest, and the program
// runs on.
type limitedWriter struct {
	to     io.Writer
	most   int64         // bytes; 0: no limit
	digest *streamDigest // nil: there is none

	mu        sync.Mutex // not held during a write, which may block
	total     int64
	lost      error // why the rest did not arrive: a full disk, for example
	abandoned bool  // the run no longer waits for the reader; the other fields stay as they are
}

// errUnread is the error for output that nobody read.
var errUnread = errors.New("nobody has read it, and the time of the run is over")

func (p *limitedWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.abandoned {
		p.mu.Unlock()
		return 0, errUnread
	}
	whole := b
	n := len(b)
	if p.most > 0 {
		b = b[:max(0, min(int64(n), p.most-p.total))]
	}
	p.total += int64(n)
	writing := len(b) > 0 && p.lost == nil
	p.mu.Unlock()
	var err error
	if writing {
		_, err = p.to.Write(b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.abandoned {
		return 0, errUnread
	}
	if errors.Is(err, syscall.EPIPE) { // the reader is gone: the program gets EPIPE too, as without py3run
		return 0, err
	}
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		p.lost = err // to the program this error would be a broken pipe, so it runs on, and the result says it
	}
	if p.digest != nil {
		p.digest.Write(whole)
	}
	return n, nil
}

// leave gives up a reader that does not read. A Write that is still blocked changes nothing after it.
func (p *limitedWriter) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandoned = true
	if p.lost == nil {
		p.lost = errUnread
	}
}

func (p *limitedWriter) truncated() bool { return p.most > 0 && p.total > p.most }
