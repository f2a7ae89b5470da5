package access

import (
	"math"
	"slices"
	"time"
)

const (
	minute = int64(time.Minute / time.Microsecond)
	hour   = int64(time.Hour / time.Microsecond)
)

// A mark stands for runs that began. All of them count as begun at its time, which is that of the last
// of them: so a mark can hold a run back too long, and never let one begin too early.
type mark struct {
	at   int64 // whole microseconds since the boot
	span int64 // how much earlier the first of them began, in microseconds
	runs int
}

// A window is the runs of somebody within the last hour, the oldest first.
//
// As long as it has room, each run has a mark of its own, and the window is exact. After that, add joins
// two marks. Runs of the last minute keep marks of their own as long as there are at most most/2 of
// them. What is joined spans 2/(most/2) of its minute or hour at most, because so many pairs of
// neighbours cannot all span more: with 494 marks, half a second of a minute and 29 seconds of an hour.
type window []mark

// used is how many runs began within the time that ends now. Times are cut to whole microseconds, so the
// microsecond at its beginning counts, too.
func (w window) used(now, within int64) (runs int) {
	for _, m := range w {
		if m.at >= now-within {
			runs += m.runs
		}
	}
	return runs
}

// free is how long it takes until fewer than most runs began within the time that ends then; 0: they did
// already.
func (w window) free(now, within int64, most int) time.Duration {
	runs := w.used(now, within)
	for _, m := range w {
		if runs < most {
			break
		}
		if m.at < now-within {
			continue
		}
		if runs -= m.runs; runs < most {
			return time.Duration(m.at+within+1-now) * time.Microsecond
		}
	}
	return 0
}

// settle forgets what is older than an hour. Marks that lie ahead, after a clock that went back, begin
// now: they may not hold runs back for longer than others. It reports whether there were such marks.
func (w window) settle(now int64) (settled window, moved bool) {
	w = slices.DeleteFunc(w, func(m mark) bool { return m.at < now-hour })
	for i := range w {
		if w[i].at > now {
			w[i].at, moved = now, true
		}
	}
	return w, moved
}

// add adds a run that begins now to a window with at most that many marks.
func (w window) add(now int64, most int) window {
	if len(w) >= most {
		w = w.join(now)
	}
	return append(w, mark{at: now, runs: 1})
}

// join makes one mark of two neighbours: of those that are older than a minute, unless half the marks
// are younger; of these, the two that span the least.
func (w window) join(now int64) window {
	young := slices.IndexFunc(w, func(m mark) bool { return m.at >= now-minute })
	if young < 0 {
		young = len(w)
	}
	from, to := 0, young
	if len(w)-young > len(w)/2 {
		from, to = young, len(w)
	}
	best, least := -1, int64(math.MaxInt64)
	for i := from; i+1 < to; i++ {
		if span := w[i+1].at - w[i].at + w[i].span; span < least && w[i].runs+w[i+1].runs <= runsMost {
			best, least = i, span
		}
	}
	if best < 0 { // more runs than any limit allows: whoever has no limit is counted by nobody
		return w[1:]
	}
	w[best+1].runs += w[best].runs
	w[best+1].span = min(least, spanMost)
	return slices.Delete(w, best, best+1)
}
