package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tailStart = 8 << 10  // bytes at the end of a file that are looked at first
	tailMax   = 64 << 20 // bytes without a record that are still a torn end
)

// readTail finds the last record of a segment and where it ends. What stands after it is torn. A
// segment without a record ends at 0, and last is origin.
func readTail(fd int) (last head, end int64, torn []byte, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return head{}, 0, nil, err
	}
	for want := int64(tailStart); ; want *= 4 {
		window := make([]byte, min(want, st.Size))
		start := st.Size - int64(len(window))
		if err := readAt(fd, window, start); err != nil {
			return head{}, 0, nil, err
		}
		last, n := lastRecord(window, start == 0)
		if n > 0 || start == 0 {
			return last, start + int64(n), window[n:], nil
		}
		if len(window) >= tailMax {
			return head{}, 0, nil, fmt.Errorf("no record in the last %d bytes", len(window))
		}
	}
}

// lastRecord finds the last record in a window at the end of a segment, and the length of the
// window up to the end of that record: 0 if there is none. It looks at the first line only if the
// window is the whole segment; else that may be half a line.
func lastRecord(window []byte, whole bool) (head, int) {
	for end := bytes.LastIndexByte(window, '\n'); end >= 0; {
		previous := bytes.LastIndexByte(window[:end], '\n')
		if previous < 0 && !whole {
			break
		}
		if h, ok := parseHead(window[previous+1 : end]); ok {
			return h, end + 1
		}
		end = previous
	}
	return origin, 0
}

func parseHead(line []byte) (h head, ok bool) {
	var r struct {
		V    int    `json:"v"`
		Seq  uint64 `json:"seq"`
		Prev string `json:"prev"`
		Time string `json:"@timestamp"`
		Host Host   `json:"host"`
	}
	if err := json.Unmarshal(line, &r); err != nil || r.V <= 0 || r.Seq == 0 {
		return head{}, false
	}
	return head{seq: r.Seq, hash: hexSHA256(line), prev: r.Prev, at: momentOf(r.Time, r.Host)}, true
}

// momentOf is when a record was written, by both clocks, as it says.
func momentOf(timestamp string, host Host) moment {
	wall, err := time.Parse(timeLayout, timestamp)
	if err != nil || host.UptimeMS <= 0 {
		return moment{}
	}
	return moment{wall, time.Duration(host.UptimeMS) * time.Millisecond, host.Boot}
}

func readAt(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, offset)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// lastClosed is the last record of the newest closed segment; origin if there is none. A closed
// segment is never repaired: nothing writes to it, so damage there is not a torn end.
func (l *Log) lastClosed() (head, error) {
	names, err := l.segments()
	if err != nil {
		return head{}, err
	}
	if len(names) == 0 {
		return origin, nil
	}
	newest := names[len(names)-1]
	fd, err := l.openRegular(newest, unix.O_RDONLY)
	if err != nil {
		return head{}, l.failed("open", newest, err)
	}
	defer unix.Close(fd)
	last, end, torn, err := readTail(fd)
	if err == nil && (end == 0 || len(torn) > 0) {
		err = errors.New("does not end with a record")
	}
	if err != nil {
		return head{}, l.failed("continue from", newest, err)
	}
	return last, nil
}

// segments are the names of the closed segments, oldest first.
func (l *Log) segments() (names []string, err error) {
	entries, err := os.ReadDir(l.path)
	if err != nil {
		return nil, &StepError{"list", l.path, err}
	}
	for _, e := range entries { // sorted by name
		if isSegment(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func isSegment(name string) bool {
	name, prefix := strings.CutPrefix(name, "audit-")
	seq, suffix := strings.CutSuffix(name, ".jsonl")
	return prefix && suffix && len(seq) == 12 && strings.Trim(seq, "0123456789") == ""
}

// fragmentName names the file for the nth attempt to keep torn bytes that the record seq will describe.
func fragmentName(seq uint64, n int) string {
	const digits = 12
	number := strconv.FormatUint(seq, 10)
	return "torn-" + strings.Repeat("0", max(0, digits-len(number))) + number + "-" + strconv.Itoa(n) + ".frag"
}

// setAside keeps torn bytes in a file of their own, on the disk, before they are cut. Who can read
// the segment can read them.
func (l *Log) setAside(segment int, torn []byte, seq uint64) error {
	name, fd, err := l.newFragment(seq)
	if err != nil {
		return l.failed("make", name, err)
	}
	f := os.NewFile(uintptr(fd), filepath.Join(l.path, name))
	if err = shareLike(fd, segment); err == nil {
		_, err = f.Write(torn)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = unix.Fsync(l.dir)
	}
	if err != nil {
		unix.Unlinkat(l.dir, name, 0)
		return l.failed("keep torn bytes in", name, err)
	}
	return nil
}

func (l *Log) newFragment(seq uint64) (name string, fd int, err error) {
	for n := 1; ; n++ {
		name = fragmentName(seq, n)
		fd, err = unix.Openat(l.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != unix.EEXIST {
			return name, fd, err
		}
	}
}

// unrecorded looks for torn bytes that were kept for the record seq: just now, or by a writer that
// got no further. Of several files the last counts; the writers of the others did not finish the
// file, or the cut.
func (l *Log) unrecorded(seq uint64) (cut Repair, found bool, err error) {
	var st unix.Stat_t
	for n := 1; unix.Fstatat(l.dir, fragmentName(seq, n), &st, unix.AT_SYMLINK_NOFOLLOW) == nil; n++ {
		cut.Kept = fragmentName(seq, n)
	}
	if cut.Kept == "" {
		return Repair{}, false, nil
	}
	fd, err := l.openRegular(cut.Kept, unix.O_RDONLY)
	if err != nil {
		return Repair{}, false, l.failed("describe", cut.Kept, err)
	}
	f := os.NewFile(uintptr(fd), cut.Kept)
	torn, err := io.ReadAll(f)
	f.Close()
	if err != nil {
		return Repair{}, false, l.failed("describe", cut.Kept, err)
	}
	cut.Bytes, cut.SHA256 = int64(len(torn)), hexSHA256(torn)
	return cut, true, nil
}
