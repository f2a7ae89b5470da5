package strictjson

import (
	"math"
	"strconv"
	"strings"
)

const (
	// maxDigits is the longest integer literal that Python's int() takes
	// (sys.int_info.default_max_str_digits).
	maxDigits = 4300
	// maxSafeInteger is 2^53-1. A reader that makes every number a double does not hold a larger
	// integer.
	maxSafeInteger = "9007199254740991"
	// maxFindings bounds what an untrusted text can make us say.
	maxFindings = 20
)

func (p *parser) number() (any, error) {
	literal, integer, err := p.literal()
	if err != nil {
		return nil, err
	}
	if p.build {
		return Number(literal), nil
	}
	digits := strings.TrimPrefix(literal, "-")
	if whole := len(digits); integer && (whole > len(maxSafeInteger) || whole == len(maxSafeInteger) && digits > maxSafeInteger) {
		p.findings.BigIntegerCount++
		if len(p.findings.BigIntegers) < maxFindings {
			p.findings.BigIntegers = append(p.findings.BigIntegers, p.pathText())
		}
	}
	return nil, nil
}

// literal reads a number as it is written.
func (p *parser) literal() (literal string, integer bool, err error) {
	start := p.pos
	if p.at('-') {
		p.pos++
	}
	whole := p.digits()
	switch {
	case whole == 0:
		if p.word("Infinity") {
			return "", false, p.fail(start, reasonNoNumber)
		}
		return "", false, p.want("a digit")
	case whole > 1 && p.text[p.pos-whole] == '0':
		return "", false, p.fail(start, "a number with a leading zero")
	}
	total, integer := whole, true
	if p.at('.') {
		p.pos++
		n := p.digits()
		if n == 0 {
			return "", false, p.want("a digit")
		}
		total, integer = total+n, false
	}
	exponent := 0
	if p.at('e') || p.at('E') {
		p.pos++
		minus := p.at('-')
		if minus || p.at('+') {
			p.pos++
		}
		n := p.digits()
		if n == 0 {
			return "", false, p.want("a digit")
		}
		total, integer = total+n, false
		if !minus {
			for _, c := range []byte(p.text[p.pos-n : p.pos]) {
				exponent = min(exponent*10+int(c-'0'), math.MaxInt32)
			}
		}
	}
	if total > maxDigits {
		return "", false, p.fail(start, reasonDigits)
	}
	literal = p.text[start:p.pos]
	if !integer && whole+exponent > 308 { // below that many digits nothing reaches 1.8e308
		if _, err := strconv.ParseFloat(literal, 64); err != nil {
			return "", false, p.fail(start, reasonOverflow)
		}
	}
	return literal, integer, nil
}

// digits skips decimal digits and counts them.
func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.text) && '0' <= p.text[p.pos] && p.text[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}
