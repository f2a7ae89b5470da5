package wire

import "py3run/cmd/internal/spelling"

// didYouMean names the known name that was perhaps meant.
func didYouMean(name string, known []string) string {
	if near := spelling.Nearest(name, known); near != "" {
		return `; did you mean "` + near + `"?`
	}
	return ""
}
