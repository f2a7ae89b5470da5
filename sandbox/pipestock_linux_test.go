package sandbox

import (
	"errors"
	"os"
	"testing"
)

// Pipes of a stock are used once, each with the end that the poller waits for; then new ones are made.
func TestPipeStock(t *testing.T) {
	t.Parallel()
	stock := newPipeStock()
	if len(stock[nobody]) != 2 || len(stock[reader]) != 4 {
		t.Fatalf("%d and %d pipes", len(stock[nobody]), len(stock[reader]))
	}
	last := stock[reader][3]
	var err error
	seen := map[*os.File]bool{}
	for _, waits := range []int{nobody, reader, nobody, reader, nobody, reader} {
		r, w := stock.next(&err, waits)
		check(t, err)
		if seen[w] {
			t.Errorf("a pipe was given twice")
		}
		seen[w] = true
		_, werr := w.Write([]byte("x"))
		var b [2]byte
		n, rerr := r.Read(b[:])
		if n != 1 || werr != nil || rerr != nil {
			t.Errorf("%d bytes, %v, %v", n, werr, rerr)
		}
		check(t, r.Close(), w.Close())
	}
	stock.close()
	if last.read.Close() == nil {
		t.Error("a pipe that was not used is still open")
	}
	failed := errors.New("before")
	if r, w := stock.next(&failed, reader); r != nil || w != nil || failed.Error() != "before" {
		t.Errorf("after a failure: %v, %v, %v", r, w, failed)
	}
}
