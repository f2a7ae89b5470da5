package web

import (
	"fmt"
	"net/http"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"

	"py3run/cmd/internal/store"
)

// A look is how a reader sees times and numbers. The data of each page embeds it, so that a template
// says {{$.Time .Started}}.
type look struct {
	zone  *time.Location
	now   time.Time
	print *message.Printer
}

// lookFor takes the numbers from the languages that the browser asks for. The words stay English.
func lookFor(r *http.Request, zone *time.Location, now time.Time) look {
	tag := language.English
	if tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language")); err == nil && len(tags) > 0 {
		tag = tags[0]
	}
	return look{zone, now, message.NewPrinter(tag)}
}

// zoneOf is a zone by its name; nil: there is none, or no name.
func zoneOf(name string) *time.Location {
	if name == "" || len(name) > 64 {
		return nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	return zone
}

// Zone is the name of the reader's zone.
func (l look) Zone() string { return l.zone.String() }

// ZoneName is the zone for people: that of the host by its abbreviation.
func (l look) ZoneName() string {
	if l.zone == time.Local {
		return l.now.In(l.zone).Format("MST") + ", the zone of the host"
	}
	return l.zone.String()
}

// Time is a time to the second; empty for none.
func (l look) Time(t time.Time) string { return l.at(t, "2006-01-02 15:04:05") }

// Exact is a time to the millisecond, with its zone.
func (l look) Exact(t time.Time) string { return l.at(t, "2006-01-02 15:04:05.000 MST") }

// Stamp is a time as records have it, to the second; what is no time stays.
func (l look) Stamp(text string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return l.Time(at)
}

// Day is the day of a time.
func (l look) Day(t time.Time) string { return l.at(t, time.DateOnly) }

func (l look) at(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.In(l.zone).Format(layout)
}

// Machine is a time for the attribute datetime.
func (l look) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Ago is how long ago a time was, in its largest unit.
func (l look) Ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := l.now.Sub(t)
	switch {
	case d < 0:
		return "in " + l.coarse(-d)
	case d < time.Second:
		return "now"
	}
	return l.coarse(d) + " ago"
}

func (l look) coarse(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return l.Number(int64(d/(24*time.Hour))) + " days"
}

// Number is a whole number with the reader's separators.
func (l look) Number(n any) string { return l.print.Sprint(number.Decimal(n)) }

// Fixed is a number with so many digits behind the point.
func (l look) Fixed(f float64, digits int) string {
	return l.print.Sprint(number.Decimal(f, number.MinFractionDigits(digits), number.MaxFractionDigits(digits)))
}

// short is a number with one digit behind the point, or none where that is 0.
func (l look) short(f float64) string {
	return l.print.Sprint(number.Decimal(f, number.MaxFractionDigits(1)))
}

// Percent is part of a whole.
func (l look) Percent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return l.print.Sprint(number.Percent(float64(part)/float64(whole), number.MaxFractionDigits(1)))
}

// Bytes is a size in binary units.
func (l look) Bytes(n int64) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, next
	}
	if unit == "B" || f >= 100 {
		return l.Fixed(f, 0) + " " + unit
	}
	return l.Fixed(f, 1) + " " + unit
}

// Took is a duration with a unit that suits it.
func (l look) Took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return l.Fixed(float64(d)/float64(time.Millisecond), 2) + " ms"
	case d < time.Second:
		return l.Fixed(float64(d)/float64(time.Millisecond), 0) + " ms"
	case d < time.Minute:
		return l.Fixed(d.Seconds(), 2) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
}

// A Badge is a status by text, shape and colour.
type Badge struct {
	Text  string
	Shape string // a character that differs by kind
	Class string
}

// Status is the badge of a run's status.
func (l look) Status(status string) Badge {
	b := Badge{Text: status}
	switch status {
	case "ok":
		b.Shape, b.Class = "✓", "good"
	case "", store.Running:
		b.Text, b.Shape, b.Class = store.Running, "▶", "live"
	case store.Denied, store.RateLimited:
		b.Shape, b.Class = "⊘", "refused"
	case "cancelled":
		b.Shape, b.Class = "■", "stopped"
	case "error", "exit":
		b.Shape, b.Class = "✗", "bad"
	case store.Orphaned, "internal", "launch_failed", "audit_unavailable", "config_error", "signal":
		b.Shape, b.Class = "!", "fault"
	default: // a limit
		b.Shape, b.Class = "▲", "limit"
	}
	return b
}

// User is a user for people to read: one whom only the caller has named is marked.
func (l look) User(r store.Run) string {
	if r.User != "" && r.Asserted() {
		return r.User + " (asserted)"
	}
	return r.User
}
