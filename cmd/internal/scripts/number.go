package scripts

import (
	"cmp"
	"math"
	"strconv"
	"strings"

	"py3run/cmd/internal/wire"
)

// compareNumbers compares two numbers exactly, however long they are.
func compareNumbers(a, b wire.Number) int {
	x, y := takeApart(a), takeApart(b)
	switch {
	case x.sign != y.sign:
		return cmp.Compare(x.sign, y.sign)
	case x.sign < 0:
		x, y = y, x
	}
	return cmp.Or(cmp.Compare(x.scale, y.scale), strings.Compare(x.digits, y.digits))
}

// A decimal is sign * 0.digits * 10^scale. Neither end of the digits is a zero, so that numbers of
// one scale compare as their digits do.
type decimal struct {
	sign, scale int
	digits      string
}

func takeApart(n wire.Number) decimal {
	text, negative := strings.CutPrefix(string(n), "-")
	scale := 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(text[i+1:])
		if err != nil || exponent < -math.MaxInt32 { // so small that it is less than any other number
			exponent = -math.MaxInt32
		}
		text, scale = text[:i], exponent
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	scale += len(whole) - (len(whole) + len(fraction) - len(digits))
	if digits = strings.TrimRight(digits, "0"); digits == "" {
		return decimal{}
	}
	if negative {
		return decimal{-1, scale, digits}
	}
	return decimal{1, scale, digits}
}
