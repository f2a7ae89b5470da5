// Package spelling says how far a word is from the one that was perhaps meant.
package spelling

import "strings"

// longest is how many bytes a word can have for which a known one is looked for: a caller's megabyte is
// not compared.
const longest = 64

// Nearest is the known word that was probably meant by a similar one; empty: none is similar. Letters in
// the wrong case are similar, and so are a word that was not written to its end and one that has more
// around it.
func Nearest(word string, known []string) (best string) {
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(word)
	least := max(2, len(word)/3) + 1
	for _, one := range known {
		if len(one) > longest {
			continue
		}
		k := strings.ToLower(one)
		d := Distance(word, k)
		if min(len(word), len(k)) >= 3 && (strings.HasPrefix(k, word) || strings.Contains(word, k)) {
			d = min(d, 2)
		}
		if d < least && d < len(word) {
			best, least = one, d
		}
	}
	return best
}

// Distance is how many bytes have to be inserted, removed or replaced to turn a into b (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
