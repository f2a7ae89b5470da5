package launch

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox"
)

// The path of the code's file is that of the working directory with codeSuffix.
const codeSuffix = ".py"

// workdir fills in the template of security.isolation.working-dir. A user's name cannot lead to
// another place: only its letters, digits, "-" and "_" are used, and at most 16 of them. The
// execution id is the random end of the run id. The root is the part of the path that is the same
// for all runs.
func workdir(template string, facts Facts, uid int, user string) (d sandbox.Dir) {
	id := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return -1
	}, user)
	if id == "" {
		id = "user"
	}
	d.Root = rootOf(template, uid)
	rest := strings.TrimPrefix(withUID(template, uid), d.Root)
	if facts.Root != "" {
		d.Root = facts.Root
	}
	d.Path = filepath.Join(d.Root, strings.NewReplacer("${userId}", id[:min(len(id), 16)], "${executionId}", shortID(facts.RunID)).Replace(rest))
	return d
}

func shortID(runID string) string {
	short := strings.ReplaceAll(runID, "-", "")
	return short[len(short)-16:]
}

// newRunID makes a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random.
func newRunID(t time.Time) string {
	var id [16]byte
	// Package rand starts a timer, and then an idle thread waits for that in the runtime's poller.
	if n, err := unix.Getrandom(id[:], 0); err != nil || n < len(id) {
		rand.Read(id[:])
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
