package launch

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// release gives things back in reverse order, each once, also if some of them fail.
func TestHoldings(t *testing.T) {
	t.Parallel()
	var h holdings
	var order []string
	for _, name := range []string{"directory", "lease", "session", "program"} {
		h.add(func() error {
			order = append(order, name)
			switch name {
			case "program":
				return errors.New("it stays")
			case "session":
				panic("unmapped")
			}
			return nil
		})
	}
	if failed := h.release(2); fmt.Sprint(failed) != "[it stays internal: unmapped]" || !slices.Equal(order, []string{"program", "session"}) {
		t.Errorf("%v, %q", failed, order)
	}
	if failed := h.release(0); failed != nil || !slices.Equal(order, []string{"program", "session", "lease", "directory"}) || h.count() != 0 {
		t.Errorf("%v, %q", failed, order)
	}
	if failed := h.release(0); failed != nil || len(order) != 4 {
		t.Errorf("%v, %q", failed, order)
	}
}
