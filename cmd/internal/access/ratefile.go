package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// The file of limits is made of pages, each with a check sum of its own. A page is written by one call
// of the system, which a kill does not interrupt.
//
//	page 0        the file's kind, its salt, and the boot that its times are of
//	page 1        the runs of all users in the last minute, and when the next refusals are to be summarised
//	page 2..13    refusals: of proved users, of names and keys in the policy, of other names
//	page 14..15    the runs of users that have no page of their own: of proved users, of names without a key
//	page 16..143  two indexes, which say whose a page is: of proved users, of names without a key
//	page 144..    the runs of a user in the last hour
//
// Callers choose the names without a key. So these take no place of a proved user, and the salt keeps
// callers from choosing names that all belong on the same page of the index.
//
// Nothing in it has to survive the boot but the refusals, so nothing is synchronised with the disk.
const (
	pageSize    = 4096
	headPage    = 0
	globalPage  = 1
	refusalPage = 2
	refusals    = refusalRegions * refusalPages
	othersPage  = refusalPage + refusals
	indexPage   = othersPage + regions
	indexes     = 64 // pages of each region
	firstUser   = indexPage + regions*indexes
	usersMost   = 1 << 16 // pages of users end here
	regions     = 2
)

// Each page begins with the check sum of its rest, and a letter for its kind.
const (
	kindHead    = 'h'
	kindWindow  = 'w'
	kindIndex   = 'i'
	kindRefusal = 'r'
	pageBegin   = 8 // of what follows these
)

const magic = "py3run limits 2\n"

type page []byte

func newPage(kind byte) page {
	p := make(page, pageSize)
	p[4] = kind
	return p
}

// seal writes the check sum.
func (p page) seal() page {
	binary.LittleEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
	return p
}

// is reports whether the page is whole and of this kind.
func (p page) is(kind byte) bool {
	return len(p) == pageSize && p[4] == kind && binary.LittleEndian.Uint32(p) == crc32.ChecksumIEEE(p[4:])
}

// A salt is a random number that is made with the file.
type salt [16]byte

func newSalt() (s salt) {
	rand.Read(s[:]) // never fails
	return s
}

// headOf is the page that names the boot of all times in the file.
func headOf(s salt, boot string) page {
	p := newPage(kindHead)
	n := pageBegin + copy(p[pageBegin:], magic)
	n += copy(p[n:], s[:])
	copy(p[n:pageSize-1], boot) // ends with a zero
	return p.seal()
}

func (p page) head() (s salt, boot string, known bool) {
	if !p.is(kindHead) {
		return salt{}, "", false
	}
	rest, known := bytes.CutPrefix(p[pageBegin:], []byte(magic))
	rest = rest[copy(s[:], rest):]
	rest, _, _ = bytes.Cut(rest, []byte{0})
	return s, string(rest), known
}

// A subjectID is a subject in the index and on its page.
type subjectID [12]byte

func (s Subject) id(with salt) subjectID {
	sum := sha256.Sum256([]byte(string(with[:]) + string(s.Standing) + "\x00" + s.Name))
	return subjectID(sum[:12])
}

// region is where a subject has its place: names that callers choose are apart from all others.
func (s Subject) region() int {
	if s.Standing == Asserted {
		return 1
	}
	return 0
}

// A tally is the page of a user or of all of them.
type tally struct {
	id     subjectID
	who    Subject   // of a user; a long name is cut
	last   time.Time // when the last run began
	due    int64     // of all: when the next refusals are to be summarised, in microseconds since the boot; 0: none are waiting. Of a shared count: when to say again that it is shared
	window window
	moved  bool // it is not as it is in the file
}

// The layout of a tally. The marks are three numbers each: microseconds since the first mark, the span
// in milliseconds, and the runs.
const (
	tallyID       = pageBegin
	tallyStanding = 20
	tallyNameLen  = 21
	tallyMarks    = 22
	tallyLast     = 24
	tallyBase     = 32
	tallyDue      = 40
	tallyBegin    = 48
	tallyName     = pageSize - nameMost

	markSize   = 8
	nameMost   = 96
	marksMost  = (tallyName - tallyBegin) / markSize // 494 of a user
	globalMost = (pageSize - tallyBegin) / markSize  // 506 of all users: the name has no place
	spanMost   = (1<<16 - 1) * 1000                  // microseconds
	runsMost   = 1<<16 - 1
)

func (t tally) page() page {
	p := newPage(kindWindow)
	copy(p[tallyID:], t.id[:])
	for i, s := range standings {
		if s == t.who.Standing {
			p[tallyStanding] = byte(i)
		}
	}
	if t.who.Name != "" {
		p[tallyNameLen] = byte(copy(p[tallyName:], cutName(t.who.Name, nameMost)))
	}
	binary.LittleEndian.PutUint16(p[tallyMarks:], uint16(len(t.window)))
	binary.LittleEndian.PutUint64(p[tallyLast:], uint64(t.last.UnixMilli()))
	binary.LittleEndian.PutUint64(p[tallyDue:], uint64(t.due))
	if len(t.window) > 0 {
		base := t.window[0].at
		binary.LittleEndian.PutUint64(p[tallyBase:], uint64(base))
		for i, m := range t.window {
			at := p[tallyBegin+i*markSize:]
			binary.LittleEndian.PutUint32(at, uint32(m.at-base))
			binary.LittleEndian.PutUint16(at[4:], uint16((m.span+999)/1000))
			binary.LittleEndian.PutUint16(at[6:], uint16(m.runs))
		}
	}
	return p.seal()
}

func (p page) tally(most int) (tally, bool) {
	marks := 0
	if p.is(kindWindow) {
		marks = int(binary.LittleEndian.Uint16(p[tallyMarks:]))
	}
	if !p.is(kindWindow) || marks > most || int(p[tallyStanding]) >= len(standings) || p[tallyNameLen] > nameMost {
		return tally{}, false
	}
	t := tally{
		id:     subjectID(p[tallyID:]),
		who:    Subject{Standing: standings[p[tallyStanding]]},
		last:   time.UnixMilli(int64(binary.LittleEndian.Uint64(p[tallyLast:]))),
		due:    int64(binary.LittleEndian.Uint64(p[tallyDue:])),
		window: make(window, marks, marks+1),
	}
	if n := int(p[tallyNameLen]); n > 0 {
		t.who.Name = string(p[tallyName : tallyName+n])
	}
	base := int64(binary.LittleEndian.Uint64(p[tallyBase:]))
	for i := range t.window {
		at := p[tallyBegin+i*markSize:]
		t.window[i] = mark{
			at:   base + int64(binary.LittleEndian.Uint32(at)),
			span: int64(binary.LittleEndian.Uint16(at[4:])) * 1000,
			runs: int(binary.LittleEndian.Uint16(at[6:])),
		}
	}
	return t, true
}

// An entry of the index says which page is a user's.
type entry struct {
	id   subjectID
	page int   // 0: the entry is free
	used int64 // when the user's last run began, to the minute, in seconds since the boot
}

const (
	entrySize = 20
	entries   = (pageSize - pageBegin) / entrySize // 204 on each page
)

func (p page) entry(i int) entry {
	at := p[pageBegin+i*entrySize:]
	return entry{subjectID(at), int(binary.LittleEndian.Uint32(at[12:])), int64(binary.LittleEndian.Uint32(at[16:]))}
}

func (p page) setEntry(i int, e entry) {
	at := p[pageBegin+i*entrySize:]
	copy(at, e.id[:])
	binary.LittleEndian.PutUint32(at[12:], uint32(e.page))
	binary.LittleEndian.PutUint32(at[16:], uint32(e.used))
}

// cutName cuts a name that is too long for its place, between two characters.
func cutName(name string, most int) string {
	const cut = "…"
	if len(name) <= most {
		return name
	}
	end := most - len(cut)
	for end > 0 && name[end]&0xC0 == 0x80 {
		end--
	}
	return name[:end] + cut
}
