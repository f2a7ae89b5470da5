package ctl

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/cli"
)

// Both formats are one line a record. Control characters, and others that a terminal obeys, stand there
// escaped as in tables. What is too long ends in an ellipsis.

// cutBytes is a text of at most so many bytes in UTF-8.
func cutBytes(text string, most int) string {
	const ellipsis = "…"
	if len(text) <= most {
		return text
	}
	if most < len(ellipsis) {
		return ""
	}
	end := most - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// cefOf is a record in the Common Event Format 0.1 (CEF:0) of ArcSight, without a syslog prefix. Keys and
// lengths are those of the implementation standard.
func cefOf(e event) []byte {
	header := strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	value := strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`)
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|py3run|py3run|%s|%s|%s|%d|", header.Replace(cutBytes(cli.Release, 31)), header.Replace(cutBytes(plain(string(e.Event.Action)), 500)), header.Replace(e.title),
		[...]int{informational: 1, low: 3, medium: 5, high: 8}[e.severity])
	begun := false
	add := func(key, text string, most int) {
		// Blanks at the ends are lost to parsers.
		if text = cutBytes(harmless(strings.Trim(text, " ")), most); text == "" {
			return
		}
		if begun {
			b.WriteByte(' ')
		}
		begun = true
		b.WriteString(key + "=" + value.Replace(strings.TrimRight(text, " ")))
	}
	custom := func(key, label, text string) {
		if text != "" {
			add(key, text, 4000)
			add(key+"Label", label, 1023)
		}
	}
	if !e.at.IsZero() {
		add("rt", strconv.FormatInt(e.at.UnixMilli(), 10), 20)
	}
	add("dvchost", e.Host.Name, 100)
	add("externalId", strconv.FormatUint(e.Seq, 10), 40)
	add("cat", strings.Join(e.categories, ","), 1023)
	add("act", string(e.Event.Action), 63)
	add("outcome", e.outcome, 63)
	add("reason", e.Event.Reason, 1023)
	add("suser", e.User.Name, 1023)
	add("suid", e.User.ID, 1023)
	add("duser", e.target, 1023)
	switch {
	case e.client.Is4():
		add("src", e.client.String(), 40)
	case e.client.Is6():
		custom("c6a1", "client", e.client.String())
	}
	name, path, hash, size := e.aboutFile()
	add("fname", name, 1023)
	add("filePath", path, 1023)
	add("fileHash", hash, 255)
	if size >= 0 {
		add("fsize", strconv.FormatInt(size, 10), 20)
	}
	if at := e.ended(); !at.IsZero() {
		add("end", strconv.FormatInt(at.UnixMilli(), 10), 20)
	}
	if p := e.Process; p != nil {
		if p.ExitCode != nil {
			custom("cn1", "exitCode", strconv.Itoa(*p.ExitCode))
		}
		custom("cn2", "peakMemoryBytes", strconv.FormatInt(p.PeakMemoryBytes, 10))
	}
	if e.Event.DurationNS > 0 {
		custom("cn3", "durationMs", strconv.FormatInt(e.Event.DurationNS/1e6, 10))
	}
	custom("cs1", "runId", e.RunID)
	custom("cs2", "status", e.Status)
	custom("cs3", "auth", strings.TrimSpace(string(e.Auth.Method)+" "+e.Auth.KeyID)) // how far suser is proved
	custom("cs4", "labels", e.labelText())
	custom("cs5", "recordSha256", e.hash)
	custom("cs6", "osUser", e.Auth.OSUser)
	add("msg", e.message, 1023)
	return []byte(b.String())
}

const (
	syslogFacility = 13   // log audit
	syslogMost     = 2048 // bytes of a message, which every receiver should take
	syslogValue    = 64   // bytes of one value in the structured data, with its escapes
	byteOrderMark  = "\ufeff"

	// py3run has no enterprise number of its own: this is the one for examples (RFC 5612).
	syslogID = "py3run@32473"
)

// syslogOf is a record as a syslog message (RFC 5424), without the frame of a transport.
func syslogOf(e event) []byte {
	at := "-"
	if !e.at.IsZero() {
		at = e.at.UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	level := [...]int{informational: 6, low: 5, medium: 4, high: 3}[e.severity]
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s py3run %s %s ", syslogFacility*8+level, at, syslogName(e.Host.Name, 255), syslogName(e.RunID, 128), syslogName(string(e.Event.Action), 32))
	fmt.Fprintf(&b, `[meta sequenceId="%d"][origin software="py3run" swVersion="%s"][%s`, (max(e.Seq, 1)-1)%(1<<31-1)+1, syslogText(cli.Release, 32), syslogID)
	add := func(name, text string) {
		if text = syslogText(text, syslogValue); text != "" {
			fmt.Fprintf(&b, ` %s="%s"`, name, text)
		}
	}
	number := func(name string, n int64) { add(name, strconv.FormatInt(n, 10)) }
	add("seq", strconv.FormatUint(e.Seq, 10))
	add("hash", e.hash)
	add("outcome", e.outcome)
	add("reason", e.Event.Reason)
	add("user", e.User.Name)
	add("auth", string(e.Auth.Method))
	add("osUser", e.Auth.OSUser)
	add("keyId", e.Auth.KeyID)
	add("holder", e.Auth.Holder)
	add("target", e.target)
	add("client", e.Client.IP)
	name, path, hash, _ := e.aboutFile()
	add("file", cmp.Or(path, name))
	add("fileSha256", hash)
	add("status", e.Status)
	if p := e.Process; p != nil {
		if p.ExitCode != nil {
			number("exitCode", int64(*p.ExitCode))
		}
		number("cpuMs", p.CPUMS)
		number("peakMemoryBytes", p.PeakMemoryBytes)
	}
	if e.Event.DurationNS > 0 {
		number("durationMs", int64(time.Duration(e.Event.DurationNS).Milliseconds()))
	}
	if e.Alert != nil {
		add("rule", e.Alert.Rule)
	}
	add("labels", e.labelText())
	b.WriteString("] ")
	// A text in UTF-8 begins with the mark; without other characters than those of ASCII it needs none.
	message := plain(e.message)
	if strings.IndexFunc(message, func(r rune) bool { return r > '~' }) >= 0 || len(message) > syslogMost-b.Len() {
		b.WriteString(byteOrderMark)
	}
	return append([]byte(b.String()), cutBytes(message, syslogMost-b.Len())...)
}

// syslogName is a field of the header: printable ASCII without blanks, or a dash.
func syslogName(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, text)
	return cmp.Or(text[:min(len(text), most)], "-")
}

// syslogText is a value of the structured data, with its escapes in at most so many bytes.
func syslogText(text string, most int) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)
	text = plain(text)
	for room := most; ; room -= 8 {
		if short := escape.Replace(cutBytes(text, room)); len(short) <= most || room <= 0 {
			return short
		}
	}
}
