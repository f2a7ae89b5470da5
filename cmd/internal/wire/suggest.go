package wire

import "strings"

// didYouMean names the known name that was perhaps meant.
func didYouMean(name string, known []string) string {
	const most = 32 // longer than any known name by far; a caller's megabyte is not compared
	if len(name) > most {
		return ""
	}
	best, least := "", 3
	for _, k := range known {
		d := distance(name, k)
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

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
