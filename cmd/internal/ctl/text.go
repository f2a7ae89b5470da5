package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonLine is a value in one line of JSON, in printable ASCII as the log itself, so that it has
// nothing that a terminal obeys.
func jsonLine(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	line := make([]byte, 0, text.Len())
	for _, r := range text.String() {
		switch {
		case r < 0x7f:
			line = append(line, byte(r))
		case r <= 0xffff:
			line = fmt.Appendf(line, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			line = fmt.Appendf(line, `\u%04x\u%04x`, high, low)
		}
	}
	return line, nil
}

func writeJSON(to io.Writer, v any) error {
	line, err := jsonLine(v)
	if err == nil {
		_, err = to.Write(line)
	}
	return err
}

// plain escapes what a terminal obeys.
func plain(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// harmless escapes what a terminal obeys, except line ends: parts of a message can come from a
// damaged file.
func harmless(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == '\n' || strconv.IsGraphic(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[:n])
		} else {
			b.WriteString(plain(s[:n]))
		}
		s = s[n:]
	}
	return b.String()
}

// cell is text that a spreadsheet does not take for a formula.
func cell(s string) string {
	s = plain(s)
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// secondsOf is a duration in seconds, to the microsecond.
func secondsOf(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func shortTime(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 100*time.Minute:
		return strconv.FormatFloat(d.Minutes(), 'f', 1, 64) + " min"
	}
	return strconv.FormatFloat(d.Hours(), 'f', 1, 64) + " h"
}

func shortSize(n int64) string {
	for _, unit := range []string{"kB", "MB"} {
		if n < 1000*1024 {
			return strconv.FormatFloat(float64(n)/1024, 'f', 0, 64) + " " + unit
		}
		n /= 1024
	}
	return strconv.FormatFloat(float64(n)/1024, 'f', 1, 64) + " GB"
}
