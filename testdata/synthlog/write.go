package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"py3run/audit"
	"py3run/internal/json"
)

const (
	timeLayout  = "2006-01-02T15:04:05.000000Z"
	segmentMost = 16 << 20
	segmentAge  = 24 * time.Hour
	current     = "audit.jsonl"
)

// A writer writes records as audit.Log does, without waiting for the disk. The first error stays.
type writer struct {
	dir      string
	file     *os.File
	to       *bufio.Writer
	seq      uint64
	hash     string
	first    uint64 // record of the segment
	began    time.Time
	size     int64
	bytes    int64
	segments int
	text     []byte
	err      error
}

// create begins a log in a directory that has none.
func create(dir string) (*writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(filepath.Join(dir, "audit*.jsonl"))
	if err == nil && len(old) > 0 {
		err = fmt.Errorf("%s has a log", dir)
	}
	w := &writer{dir: dir, hash: strings.Repeat("0", 64)}
	if err == nil {
		err = w.open()
	}
	return w, err
}

func (w *writer) open() (err error) {
	w.file, err = os.OpenFile(filepath.Join(w.dir, current), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		w.to, w.first, w.size = bufio.NewWriterSize(w.file, 1<<20), w.seq+1, 0
		w.segments++
	}
	return err
}

// put writes one record at a time, and returns its seq. The uptime of the record's host has to be set.
func (w *writer) put(rec *audit.Record, at time.Time) uint64 {
	if w.err != nil {
		return w.seq
	}
	if rec.Event.Action == audit.ExecutionStart && w.size > 0 && (w.size >= segmentMost || at.Sub(w.began) >= segmentAge) {
		if w.err = w.rotate(); w.err != nil {
			return w.seq
		}
	}
	if w.size == 0 {
		w.began = at
	}
	w.seq++
	rec.V, rec.Timestamp, rec.Seq, rec.Prev = 1, at.UTC().Format(timeLayout), w.seq, w.hash
	line, err := json.Append(w.text[:0], rec)
	if err != nil {
		w.err = err
		return w.seq
	}
	w.text = line
	line = printable(line)
	sum := sha256.Sum256(line)
	w.hash = hex.EncodeToString(sum[:])
	w.to.Write(line)
	w.err = w.to.WriteByte('\n') // it also returns the error of Write
	w.size += int64(len(line)) + 1
	w.bytes += int64(len(line)) + 1
	return w.seq
}

func (w *writer) rotate() error {
	if err := w.end(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(w.dir, current), filepath.Join(w.dir, fmt.Sprintf("audit-%012d.jsonl", w.first))); err != nil {
		return err
	}
	return w.open()
}

func (w *writer) end() error {
	err := w.to.Flush()
	if e := w.file.Close(); err == nil {
		err = e
	}
	return err
}

// close notes the newest record, so that the next writer goes on from it.
func (w *writer) close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.end(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, ".lock"), fmt.Appendf(nil, "%020d %s\n", w.seq, w.hash), 0o600)
}

// printable escapes what is no printable ASCII, as the lines of the log have it.
func printable(text []byte) []byte {
	for i, c := range text {
		if c < ' ' || c > '~' {
			return escaped(text, i)
		}
	}
	return text
}

func escaped(text []byte, from int) []byte {
	out := append([]byte{}, text[:from]...)
	for from < len(text) {
		r, size := utf8.DecodeRune(text[from:])
		switch {
		case size == 1 && r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		from += size
	}
	return out
}
