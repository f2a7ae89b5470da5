package launch

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"py3run/audit"
)

// A capture keeps the head and the tail of a stream, at most `most` bytes together, and counts all of it. 0 keeps everything.
type capture struct {
	most  int64
	total int64
	head  []byte
	tail  []byte // a ring once it is full
	next  int    // where the ring continues
}

func (c *capture) Write(p []byte) (int, error) {
	n := len(p)
	c.total += int64(n)
	if c.most <= 0 {
		c.head = append(c.head, p...)
		return n, nil
	}
	half := int(c.most+1) / 2
	if room := half - len(c.head); room > 0 {
		take := min(room, len(p))
		c.head = append(c.head, p[:take]...)
		p = p[take:]
	}
	size := int(c.most) - half
	if len(p) > size {
		p = p[len(p)-size:]
	}
	if room := size - len(c.tail); room > 0 && len(p) > 0 {
		take := min(room, len(p))
		c.tail = append(c.tail, p[:take]...)
		p = p[take:]
	}
	for len(p) > 0 {
		k := copy(c.tail[c.next:], p)
		p = p[k:]
		c.next = (c.next + k) % size
	}
	return n, nil
}

func (c *capture) truncated() bool { return c.most > 0 && c.total > c.most }

// text is what was kept, with a mark where something is missing; bytes that are no UTF-8 are replaced.
func (c *capture) text() string {
	var b strings.Builder
	b.Write(c.head)
	if c.truncated() {
		fmt.Fprintf(&b, "\n[py3run: %d bytes cut here]\n", c.total-c.most)
	}
	b.Write(c.tail[c.next:])
	b.Write(c.tail[:c.next])
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// A witness sees a whole stream go by, for what the record says of it beyond its size.
type witness struct {
	sum   hash.Hash
	total int64
	head  []byte
}

// headMost bounds what is kept of a stream's beginning, in bytes.
const headMost = 512

// witnessed lets a stream pass a witness, behind where it goes; nil: there is none.
func witnessed(to io.Writer, w *witness) io.Writer {
	if w == nil {
		return to
	}
	return io.MultiWriter(to, w)
}

func (w *witness) Write(p []byte) (int, error) {
	w.total += int64(len(p))
	w.head = append(w.head, p[:min(len(p), headMost-len(w.head))]...)
	return w.sum.Write(p)
}

// stream is what a record says, with the beginning or without.
func (w *witness) stream(head bool) *audit.Stream {
	s := &audit.Stream{Bytes: w.total, SHA256: hex.EncodeToString(w.sum.Sum(nil))}
	if head {
		s.Head = strings.ToValidUTF8(string(w.head), "\uFFFD")
	}
	return s
}

// A passage hands a stream through up to a limit, then drops what follows and counts it: the program runs on.
type passage struct {
	to    io.Writer
	most  int64 // 0: no limit
	total int64
	lost  error // why the rest went nowhere: a full disk, say
}

func (p *passage) Write(b []byte) (int, error) {
	n := len(b)
	if p.most > 0 {
		b = b[:max(0, min(int64(n), p.most-p.total))]
	}
	p.total += int64(n)
	if len(b) > 0 && p.lost == nil {
		_, err := p.to.Write(b)
		if errors.Is(err, syscall.EPIPE) { // the reader is gone: the program gets the same, as it would without us
			return 0, err
		}
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		p.lost = err // the program would blame itself for a broken pipe; it runs on, and the result tells
	}
	return n, nil
}

func (p *passage) truncated() bool { return p.most > 0 && p.total > p.most }
