package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// A Summary is the refusals of a user that have no record of their own, all for the same reason and
// within a minute. The refusal at First has one. Method is how the user was known in all of them.
type Summary struct {
	User, Code  string // user: several, if they came with one key, or had no place of their own
	Method      Method
	KeyID       string // of the key; empty: there was none
	Count       int
	First, Last time.Time

	place int // in the file
	id    refusalID
}

// Refused counts a refusal for a reason other than a limit. It reports whether to record it: the first
// of a user, for this reason and within a minute, is recorded, and the others come in a Summary. The name
// can be empty. A name that is only asserted hides no refusal of the user who has proved to be it.
func (l *Limits) Refused(who Subject, code string) (record bool, notes Notes) {
	f, err := l.open(true)
	if err != nil {
		return true, unusable(err)
	}
	defer f.close()
	if record, err = f.refuse(who, code); err == nil {
		notes.Due, err = f.due()
	}
	if err != nil {
		return true, unusable(err)
	}
	notes.Trouble = f.trouble
	return record, notes
}

// Due returns the summaries that have to be recorded now.
func (l *Limits) Due() Notes {
	f, err := l.open(false)
	if err != nil {
		return Notes{}
	}
	defer f.close()
	due, err := f.due()
	if err != nil {
		return unusable(err)
	}
	return Notes{f.trouble, due}
}

// Recorded says that summaries are in the log. Until it is called, they will come again.
func (l *Limits) Recorded(due []Summary) {
	if len(due) == 0 {
		return
	}
	f, err := l.open(false)
	if err != nil {
		return
	}
	defer f.close()
	list, err := f.refusals()
	if err != nil {
		return
	}
	for _, s := range due {
		r := &list[s.place]
		if r.id != s.id || !r.over || !r.first.Equal(s.First) {
			continue
		}
		if r.again -= s.Count; r.again <= 0 {
			*r = refusal{}
		} else { // more came while the summary was written, which happens only where there was no other place
			r.began, r.first, r.over, r.claimed = f.now.boot, s.Last, false, 0
		}
	}
	f.setRefusals(list)
}

const (
	refusalWindow = minute
	claimTime     = int64(10 * time.Second / time.Microsecond) // after which somebody who has to record a summary is dead
)

// OfDenial is whose refusal a denial is. method is how its user is known, or would have been.
func OfDenial(d *Denial, method Method) Subject {
	who := Subject{Name: d.User, Method: method, KeyID: d.KeyID}
	switch d.Code {
	case MalformedKey, BadChecksum, UnknownKey, NoPolicy: // anybody can make up ids of keys: they all count together
		who.Name, who.KeyID, who.Listed = "", "", true
	case WrongKey, DisabledUser, MissingRole: // the policy has to say so of a user
		who.Listed = true
	}
	switch byOS := method == ByOSUser || method == Anonymous; {
	case d.Code == WrongKey:
	case who.KeyID != "":
		who.Standing = Proved
	case byOS:
		who.Standing = SaidByOS
	case !who.Listed:
		who.Standing = Asserted
	}
	return who
}

type refusalID [8]byte

func idOfRefusal(who Subject, code string) refusalID {
	whose := who.Name
	if who.KeyID != "" {
		whose = "\x00" + who.KeyID
	}
	sum := sha256.Sum256([]byte(code + "\x00" + string(who.Method) + "\x00" + whose))
	return refusalID(sum[:8])
}

// A refusal is those of a user for one reason, within a window that begins with the first.
type refusal struct {
	id          refusalID // zero: the place is free
	began       int64     // microseconds since the boot
	claimed     int64     // when somebody was told to record them; 0: nobody
	first, last time.Time // to the millisecond
	again       int       // how many came after the first
	over        bool      // the window is closed: they wait for their record
	user, code  string
	method      Method
	keyID       string
}

// methods have a number in the file.
var methods = [...]Method{Anonymous, ByKey, ByOSUser, ByClaim}

const (
	refusalSize = 160
	onPage      = (pageSize - pageBegin) / refusalSize

	refusalRegions = 3
	refusalPages   = 4                     // of each region
	refusalMost    = refusalPages * onPage // 100 of each region, the last of which is of all for which there is no other place

	refusalUser = 48
	refusalCode = 120
	refusalKey  = 152
)

// refusalRegion is where refusals have their places: a flood of names that callers make up takes none
// from users and keys in the policy, and who knows the names of these takes none from those who have
// proved who they are.
func (s Subject) refusalRegion() int {
	switch {
	case s.Standing == Proved || s.Standing == SaidByOS:
		return 0
	case s.Listed:
		return 1
	}
	return 2
}

// isOver reports whether the window has ended. A beginning that lies ahead is of a clock that went back.
func (r *refusal) isOver(now int64) bool {
	return r.over || now-r.began >= refusalWindow || r.began > now
}

// refuse counts a refusal, and reports whether it is the first of its window.
func (f *countFile) refuse(who Subject, code string) (first bool, err error) {
	list, err := f.refusals()
	if err != nil {
		return false, err
	}
	id := idOfRefusal(who, code)
	place, begin := -1, who.refusalRegion()*refusalMost
	many := begin + refusalMost - 1
	for i := begin; i < many; i++ {
		r := &list[i]
		if r.id == id && !r.isOver(f.now.boot) {
			place = i
			break
		}
		if place < 0 && (r.id == refusalID{} || r.again == 0 && r.isOver(f.now.boot)) {
			place = i
		}
	}
	if place < 0 { // a flood under many names
		place, who, code = many, Subject{Name: "(others)", Method: Anonymous}, "(several)"
		id = idOfRefusal(who, code)
	}
	r := &list[place]
	if first = r.id != id || r.again == 0 && r.isOver(f.now.boot); first {
		*r = refusal{id: id, began: f.now.boot, first: f.now.wall, user: who.Name, code: code, method: who.Method, keyID: who.KeyID}
	} else {
		r.again++
		if who.KeyID != "" && r.user != cutName(who.Name, refusalCode-refusalUser) {
			r.user = "(several)"
		}
	}
	r.last = f.now.wall
	return first, f.setRefusals(list)
}

// due returns the summaries of windows that have ended. Whoever is told of one has some time to record
// it; then the next is told.
func (f *countFile) due() ([]Summary, error) {
	all, err := f.global()
	if err != nil || all.due == 0 || f.now.boot < all.due {
		return nil, err
	}
	list, err := f.refusals()
	if err != nil {
		return nil, err
	}
	var due []Summary
	for i := range list {
		r := &list[i]
		claimed := r.claimed != 0 && r.claimed <= f.now.boot && f.now.boot-r.claimed < claimTime
		if r.again == 0 || !r.isOver(f.now.boot) || claimed {
			continue
		}
		r.over, r.claimed = true, f.now.boot
		due = append(due, Summary{User: r.user, Code: r.code, Method: r.method, KeyID: r.keyID, Count: r.again, First: r.first, Last: r.last, place: i, id: r.id})
	}
	return due, f.setRefusals(list)
}

func (f *countFile) refusals() ([]refusal, error) {
	list := make([]refusal, 0, refusalRegions*refusalMost)
	for n := range refusals {
		p, err := f.read(refusalPage + n)
		if err != nil {
			return nil, err
		}
		whole := p.is(kindRefusal)
		if !whole && f.pages >= firstUser {
			f.repaired("refusals")
		}
		for i := range onPage {
			r := refusal{}
			if whole {
				r = refusalAt(p[pageBegin+i*refusalSize:][:refusalSize])
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// setRefusals writes all refusals, and when the next of them are due.
func (f *countFile) setRefusals(list []refusal) error {
	all, err := f.global()
	if err != nil {
		return err
	}
	all.due = 0
	for i := range list {
		r := &list[i]
		if r.again == 0 {
			continue
		}
		due := r.began + refusalWindow
		switch {
		case r.claimed != 0:
			due = r.claimed + claimTime
		case r.isOver(f.now.boot):
			due = f.now.boot
		}
		if all.due == 0 || due < all.due {
			all.due = max(due, 1)
		}
	}
	if err := f.write(refusalPage, refusalText(list)); err != nil {
		return err
	}
	return f.write(globalPage, all.page())
}

// refusalText is the pages of refusals.
func refusalText(list []refusal) (text []byte) {
	for n := range refusals {
		p := newPage(kindRefusal)
		for i := range onPage {
			if at := n*onPage + i; at < len(list) {
				list[at].put(p[pageBegin+i*refusalSize:])
			}
		}
		text = append(text, p.seal()...)
	}
	return text
}

func (r *refusal) put(at []byte) {
	if r.id == (refusalID{}) {
		return
	}
	copy(at, r.id[:])
	binary.LittleEndian.PutUint64(at[8:], uint64(r.began))
	binary.LittleEndian.PutUint64(at[16:], uint64(r.claimed))
	binary.LittleEndian.PutUint64(at[24:], uint64(r.first.UnixMilli()))
	binary.LittleEndian.PutUint32(at[32:], uint32(max(r.last.Sub(r.first).Milliseconds(), 0)))
	binary.LittleEndian.PutUint32(at[36:], uint32(r.again))
	if r.over {
		at[40] = 1
	}
	at[43] = byte(max(slices.Index(methods[:], r.method), 0))
	at[41] = byte(copy(at[refusalUser:refusalCode], cutName(r.user, refusalCode-refusalUser)))
	at[42] = byte(copy(at[refusalCode:refusalSize], cutName(r.code, refusalKey-refusalCode)))
	copy(at[refusalKey:refusalSize], r.keyID)
}

func refusalAt(at []byte) refusal {
	r := refusal{
		id: refusalID(at), began: int64(binary.LittleEndian.Uint64(at[8:])), claimed: int64(binary.LittleEndian.Uint64(at[16:])),
		first: time.UnixMilli(int64(binary.LittleEndian.Uint64(at[24:]))), again: int(binary.LittleEndian.Uint32(at[36:])), over: at[40] == 1,
	}
	if r.id == (refusalID{}) {
		return refusal{}
	}
	r.method = methods[min(int(at[43]), len(methods)-1)]
	r.last = r.first.Add(time.Duration(binary.LittleEndian.Uint32(at[32:])) * time.Millisecond)
	r.user = string(at[refusalUser:][:min(int(at[41]), refusalCode-refusalUser)])
	r.code = string(at[refusalCode:][:min(int(at[42]), refusalKey-refusalCode)])
	r.keyID = string(bytes.TrimRight(at[refusalKey:refusalSize], "\x00"))
	return r
}
