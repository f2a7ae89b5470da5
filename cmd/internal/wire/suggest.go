package wire

import (
	"strings"

	"py3run/cmd/internal/spelling"
)

// didYouMean names the known name that was perhaps meant.
func didYouMean(name string, known []string) string {
	const most = 32 // longer than any known name by far; a caller's megabyte is not compared
	if len(name) > most {
		return ""
	}
	best, least := "", 3
	for _, k := range known {
		d := spelling.Distance(name, k)
		if len(name) >= 3 && (strings.HasPrefix(k, name) || strings.Contains(name, k)) {
			d = min(d, 2)
		}
		if d < least && d < len(name) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return `; did you mean "` + best + `"?`
}
