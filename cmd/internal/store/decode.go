package store

import "encoding/binary"

// A decoder reads what encoding/binary has appended. After the end, or after something wrong, it reads zeros.
type decoder struct {
	text  []byte
	wrong bool
}

func (d *decoder) fail() {
	d.text, d.wrong = nil, true
}

func (d *decoder) number() int64 {
	v, n := binary.Varint(d.text)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.text = d.text[n:]
	return v
}

func (d *decoder) natural() uint64 {
	v, n := binary.Uvarint(d.text)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.text = d.text[n:]
	return v
}

// count is how many things follow, each of at least a byte.
func (d *decoder) count() int {
	n := d.natural()
	if n > uint64(len(d.text)) {
		d.fail()
		return 0
	}
	return int(n)
}

// bytes has a length before it. It is a part of the text.
func (d *decoder) bytes() []byte {
	n := d.count()
	b := d.text[:n]
	d.text = d.text[n:]
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// summed appends the checksum of what else identifies a row, and of the row's data.
func summed(b []byte, key ...int64) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(dataSum(b, key)))
}

func dataSum(b []byte, key []int64) sum {
	s := newSum()
	for _, n := range key {
		s.number(n)
	}
	s.number(int64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		s.number(int64(binary.LittleEndian.Uint64(b)))
	}
	for _, c := range b {
		s.number(int64(c))
	}
	return s
}

// unsummed checks the checksum, and returns what stands before it.
func unsummed(b []byte, key ...int64) (*decoder, error) {
	n := len(b) - 8
	if n < 0 || sum(binary.LittleEndian.Uint64(b[n:])) != dataSum(b[:n], key) {
		return nil, errSum
	}
	return &decoder{text: b[:n]}, nil
}
