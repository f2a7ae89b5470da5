package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// Outputs receives the two streams of a program, stdout first. exec captures them; run passes them
// straight through.
type outputs struct {
	captured [2]*capture       // of exec; nil in run
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
	if live := p.Job.Live; live != nil {
		o.live = [2]*limitedWriter{{to: live.Stdout, most: most, digest: o.digests[0]}, {to: live.Stderr, most: most, digest: o.digests[1]}}
		o.one = live.OneStream
		return o
	}
	o.captured = [2]*capture{{most: most}, {most: most}}
	return o
}

// writers returns where to copy the streams: the same writer twice if both streams are one file.
func (o *outputs) writers() (stdout, stderr io.Writer) {
	switch {
	case o.captured[0] != nil:
		return digested(o.captured[0], o.digests[0]), digested(o.captured[1], o.digests[1])
	case o.one:
		return o.live[0], o.live[0]
	}
	return o.live[0], o.live[1]
}

// leave gives up the streams of run whose reader does not read.
func (o *outputs) leave(undelivered [2]bool) {
	for i, w := range o.live {
		if w != nil && undelivered[i] {
			w.leave()
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

// lost returns why output that went straight through did not arrive.
func (o *outputs) lost() (why []error) {
	for _, w := range o.live {
		if w != nil && w.lost != nil {
			why = append(why, w.lost)
		}
	}
	return why
}

// streams returns what the record says about the streams beyond their sizes; head: with their
// beginnings.
func (o *outputs) streams(head bool) (list [2]*audit.Stream) {
	for i, d := range o.digests {
		if d != nil {
			list[i] = d.stream(head)
		}
	}
	return list
}

// A capture keeps the head and the tail of a stream and counts all its bytes. Head and tail together
// have at most `most` bytes; 0: no limit. The same bound holds for the text as JSON, where a control
// character takes six bytes.
type capture struct {
	most  int64
	total int64
	head  []byte
	tail  []byte // a ring once it is full
	next  int    // where the ring continues

	known bool   // text has made kept, and has dropped head and tail
	kept  string // the text
	cut   bool   // the text was cut once more, to fit as JSON
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
		c.head = append(grow(c.head, take, half), p[:take]...)
		p = p[take:]
	}
	size := int(c.most) - half
	if len(p) > size {
		p = p[len(p)-size:]
	}
	if room := size - len(c.tail); room > 0 && len(p) > 0 {
		take := min(room, len(p))
		c.tail = append(grow(c.tail, take, size), p[:take]...)
		p = p[take:]
	}
	for len(p) > 0 {
		k := copy(c.tail[c.next:], p)
		p = p[k:]
		c.next = (c.next + k) % size
	}
	return n, nil
}

// grow makes room for n more bytes. It at least doubles the capacity, up to most.
func grow(b []byte, n, most int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, min(max(2*cap(b), len(b)+n, 4<<10), most)), b...)
}

// truncated reports whether the text lacks a part of the stream.
func (c *capture) truncated() bool { return c.cut || c.most > 0 && c.total > c.most }

// cutSlack is by how many bytes the JSON may exceed `most` because head and tail each cut a character
// in two: each byte that remains of it becomes U+FFFD, which is longer.
const cutSlack = 8

// text returns what was kept, with a mark where bytes are missing. It replaces what is not UTF-8.
func (c *capture) text() string {
	if c.known {
		return c.kept
	}
	head, tail := c.head, c.tail
	if c.next > 0 {
		tail = append(append(make([]byte, 0, len(tail)), tail[c.next:]...), tail[:c.next]...)
	}
	whole := !c.truncated()
	if c.most > 0 && int64(len(head)+len(tail))*costMost > c.most {
		ofHead, ofTail := cost(head), cost(tail)
		if ofHead+ofTail > c.most+cutSlack {
			if whole {
				head = append(head, tail...)
				tail, ofTail = head, ofHead+ofTail
			}
			half := (c.most + 1) / 2
			head, tail = prefixWithin(head, half), dropPrefix(tail, ofTail-(c.most-half))
			whole, c.cut = false, true
		}
	}
	var b strings.Builder
	b.Grow(len(head) + len(tail) + 64)
	b.Write(head)
	if !whole {
		fmt.Fprintf(&b, "\n[py3run: %d bytes cut here]\n", c.total-int64(len(head)+len(tail)))
	}
	b.Write(tail)
	c.kept, c.known = decode(b.String()), true
	c.head, c.tail = nil, nil
	return c.kept
}

// costMost is how many bytes of JSON one byte of text can take: \u0000.
const costMost = 6

// cost returns how many bytes text takes in a JSON string, after replacing what is not UTF-8.
func cost(text []byte) (bytes int64) {
	for len(text) > 0 {
		plain := 0
		for plain < len(text) && text[plain] >= ' ' && text[plain] < utf8.RuneSelf && text[plain] != '"' && text[plain] != '\\' {
			plain++
		}
		if text, bytes = text[plain:], bytes+int64(plain); len(text) > 0 {
			n, c := step(text)
			text, bytes = text[n:], bytes+c
		}
	}
	return bytes
}

// step returns the length of the first character, and its cost in a JSON string.
func step(text []byte) (length int, cost int64) {
	c := text[0]
	switch {
	case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
		return 1, 2
	case c < ' ':
		return 1, costMost
	case c < utf8.RuneSelf:
		return 1, 1
	}
	r, n := utf8.DecodeRune(text)
	switch {
	case r == utf8.RuneError && n == 1:
		return subpart(text), int64(utf8.RuneLen(r))
	case r == '\u2028' || r == '\u2029': // line ends in JavaScript, so the encoder escapes them
		return n, costMost
	}
	return n, int64(n)
}

// prefixWithin returns the longest beginning of text that costs at most `most`.
func prefixWithin(text []byte, most int64) []byte {
	at := 0
	for at < len(text) {
		n, c := step(text[at:])
		if most -= c; most < 0 {
			break
		}
		at += n
	}
	return text[:at]
}

// dropPrefix drops characters from the beginning of text until it has dropped at least cost.
func dropPrefix(text []byte, cost int64) []byte {
	for cost > 0 && len(text) > 0 {
		n, c := step(text)
		text, cost = text[n:], cost-c
	}
	return text
}

// decode replaces what is not UTF-8 with U+FFFD, one for each maximal subpart (The Unicode Standard,
// section 3.9), as Python and browsers do.
func decode(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	size := 0
	characters(text, func(r rune) { size += utf8.RuneLen(r) })
	b.Grow(size)
	characters(text, func(r rune) { b.WriteRune(r) })
	return b.String()
}

func characters(text string, each func(rune)) {
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			n = subpart([]byte(text[:min(len(text), utf8.UTFMax)]))
		}
		each(r)
		text = text[n:]
	}
}

// subpart returns the length of the maximal subpart at the beginning of text, which is not a valid
// character: those bytes that could have been the beginning of one.
func subpart(text []byte) (n int) {
	low, high := byte(0x80), byte(0xbf) // bounds of the next byte
	more := 0                           // how many bytes may follow the first without completing the character
	switch lead := text[0]; {
	case lead >= 0xe0 && lead <= 0xef:
		more = 2
		if lead == 0xe0 { // a lower second byte would be an overlong form
			low = 0xa0
		} else if lead == 0xed { // a higher one would be a surrogate
			high = 0x9f
		}
	case lead >= 0xf0 && lead <= 0xf4:
		more = 3
		if lead == 0xf0 {
			low = 0x90
		} else if lead == 0xf4 { // beyond U+10FFFF
			high = 0x8f
		}
	}
	for n = 1; n <= more && n < len(text) && text[n] >= low && text[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
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
