package launch

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

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
	return decode(b.String())
}

// decode is text with U+FFFD in the place of what is no UTF-8: one for each maximal subpart (The Unicode Standard, section 3.9), as Python and browsers do it.
func decode(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			n = subpart(text)
		}
		b.WriteRune(r)
		text = text[n:]
	}
	return b.String()
}

// subpart is the length of the beginning of a sequence that breaks off: of the bytes that could have gone on to a character.
func subpart(text string) (n int) {
	low, high, more := byte(0x80), byte(0xbf), 0 // of the second byte; how many follow the first
	switch lead := text[0]; {
	case lead >= 0xe0 && lead <= 0xef:
		more = 2
		if lead == 0xe0 { // else it would be too long a form
			low = 0xa0
		} else if lead == 0xed { // a surrogate
			high = 0x9f
		}
	case lead >= 0xf0 && lead <= 0xf4:
		more = 3
		if lead == 0xf0 {
			low = 0x90
		} else if lead == 0xf4 { // beyond the last character
			high = 0x8f
		}
	}
	for n = 1; n <= more && n < len(text) && text[n] >= low && text[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
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
		s.Head = decode(string(w.head))
	}
	return s
}

// A passage hands a stream through up to a limit, then drops what follows and counts it: the program runs on.
type passage struct {
	to   io.Writer
	most int64    // 0: no limit
	seen *witness // nil: there is none

	mu    sync.Mutex // not held while it writes
	total int64
	lost  error // why the rest went nowhere: a full disk, say
	left  bool  // nobody waits for it any more; nothing changes from then on
}

// errUnread is why output is lost that nobody has read.
var errUnread = errors.New("nobody has read it, and the time of the run is over")

func (p *passage) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.left {
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
	if p.left {
		return 0, errUnread
	}
	if errors.Is(err, syscall.EPIPE) { // the reader is gone: the program gets the same, as it would without us
		return 0, err
	}
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		p.lost = err // the program would blame itself for a broken pipe; it runs on, and the result tells
	}
	if p.seen != nil {
		p.seen.Write(whole)
	}
	return n, nil
}

// leave gives up a passage whose reader does not read. A Write that is under way does not change it any more.
func (p *passage) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
	if p.lost == nil {
		p.lost = errUnread
	}
}

func (p *passage) truncated() bool { return p.most > 0 && p.total > p.most }
