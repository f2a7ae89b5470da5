package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

const (
	blockSize = 1 << 20  // bytes that are read at once
	blockMost = 64 << 20 // bytes without a newline that are still looked at
)

// A block is some whole lines of a segment. The last block also has what follows the last newline.
type block struct {
	offset int64
	text   []byte // empty or up to and with a newline
	rest   []byte
	last   bool
	err    error // of reading; then this is the last block

	buffer []byte // the text is a part of it
}

// blocks cuts a segment, from offset on, into blocks. buffer makes room for at least so many bytes;
// a block owns its buffer.
func blocks(s segment, offset int64, buffer func(int) []byte) iter.Seq[block] {
	return func(yield func(block) bool) {
		var carry []byte // the start of a line whose end was not read yet
		for want := blockSize; ; {
			have := len(carry)
			left := s.size - offset - int64(have)
			size := have + int(min(left, int64(want)))
			text := append(buffer(size)[:0], carry...)[:size]
			b := block{offset: offset, last: left <= int64(want)}
			n, err := s.file.ReadAt(text[have:], offset+int64(have))
			switch {
			case n == len(text)-have:
			case err == io.EOF && s.current: // its torn end was cut
				text, b.last = text[:have+n], true
			case err == io.EOF:
				err = errors.New("became shorter while it was read")
				fallthrough
			default:
				yield(block{offset: offset, last: true, err: err})
				return
			}
			end := bytes.LastIndexByte(text[have:], '\n') + 1
			if end > 0 {
				end += have
			}
			carry = append(carry[:0], text[end:]...) // after the yield the text may be reused
			b.text, b.buffer = text[:end], text
			switch {
			case len(carry) >= blockMost:
				b.err, b.last = fmt.Errorf("no newline in %d bytes", len(carry)), true
			case b.last:
				b.rest = carry
			case end == 0:
				want *= 2
				continue
			}
			if !yield(b) || b.last {
				return
			}
			offset += int64(end)
			want = blockSize
		}
	}
}
