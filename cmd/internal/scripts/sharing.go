package scripts

import (
	"slices"
	"strings"

	"py3run/cmd/internal/access"
)

// A Sharing is who may use a script besides its author and script-admins.
type Sharing struct {
	Public bool
	Shares []access.Share
}

// Sharing is that of the script now.
func (m Meta) Sharing() Sharing { return Sharing{m.Public, slices.Clone(m.Shares)} }

const (
	publicNote = "public: "
	sharedNote = "shared with "
)

// Redo makes a change that a [Change] tells; other changes than those of the sharing do nothing. It
// reports whether the sharing was as the change says that it was before.
func (s *Sharing) Redo(change string) bool { return s.alter(change, false) }

// Undo takes such a change back, and reports whether the sharing was as the change has left it.
func (s *Sharing) Undo(change string) bool { return s.alter(change, true) }

func (s *Sharing) alter(change string, back bool) bool {
	with, isShare := strings.CutPrefix(change, sharedNote)
	states, isPublic := strings.CutPrefix(change, publicNote)
	switch {
	case isShare:
		at := strings.LastIndex(with, ": ") // a name has no blank
		if at < 0 {
			return false
		}
		with, states = with[:at], with[at+2:]
	case !isPublic:
		return true
	}
	was, is, ok := strings.Cut(states, " -> ")
	if back {
		was, is = is, was
	}
	if isPublic {
		ok = ok && was == yesNo(s.Public)
		s.Public = is == yesNo(true)
		return ok
	}
	at := slices.IndexFunc(s.Shares, func(share access.Share) bool { return share.With == with })
	if at < 0 {
		at = len(s.Shares)
		s.Shares = append(s.Shares, access.Share{With: with})
	}
	ok = ok && was == actionList(s.Shares[at].Actions)
	if s.Shares[at].Actions = listedActions(is); len(s.Shares[at].Actions) == 0 {
		s.Shares = slices.Delete(s.Shares, at, at+1)
	}
	return ok
}

// listedActions reads what actionList has written.
func listedActions(text string) (list []access.Action) {
	for word := range strings.SplitSeq(text, ", ") {
		if slices.Contains(shareable, access.Action(word)) {
			list = append(list, access.Action(word))
		}
	}
	return list
}

// Same reports whether two sharings let the same users do the same.
func (s Sharing) Same(other Sharing) bool {
	byName := func(list []access.Share) map[string]string {
		all := map[string]string{}
		for _, share := range list {
			all[share.With] = actionList(share.Actions)
		}
		return all
	}
	mine, others := byName(s.Shares), byName(other.Shares)
	for with, actions := range mine {
		if others[with] != actions {
			return false
		}
	}
	return s.Public == other.Public && len(mine) == len(others)
}
