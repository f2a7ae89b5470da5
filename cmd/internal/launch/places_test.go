package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The list of places has each place once, only places that exist, and does not grow for ever.
func TestKnownPlaces(t *testing.T) {
	t.Parallel()
	state, here, there := t.TempDir(), t.TempDir(), t.TempDir()
	size := func() int64 {
		info, err := os.Stat(filepath.Join(state, placesName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for _, root := range []string{here, "/no/such/place", "relative", here, there, "with\nnewline"} {
		notePlace(state, root, knownPlaces(state))
	}
	if got := knownPlaces(state); !slices.Equal(got, []string{here, there}) {
		t.Errorf("%q, want %q and %q", got, here, there)
	}
	long := "/gone/" + strings.Repeat("x", 200)
	for i := 0; size() < placesFull; i++ {
		notePlace(state, fmt.Sprint(long, i), nil)
	}
	last := t.TempDir()
	notePlace(state, last, knownPlaces(state))
	if got := knownPlaces(state); !slices.Equal(got, []string{here, there, last}) || size() > 3*4096 {
		t.Errorf("%q in %d bytes", got, size())
	}
}

// Somebody who keeps the list locked keeps no run waiting, and the list goes on.
func TestLockedPlaces(t *testing.T) {
	t.Parallel()
	state, here := t.TempDir(), t.TempDir()
	notePlace(state, "/gone/"+strings.Repeat("x", placesFull), nil)
	f, err := os.Open(filepath.Join(state, placesName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	notePlace(state, here, knownPlaces(state))
	if got := knownPlaces(state); !slices.Equal(got, []string{here}) {
		t.Errorf("%q, want %q", got, here)
	}
}

func TestKnownPlacesWithoutState(t *testing.T) {
	t.Parallel()
	notePlace("", "/x", nil)
	if got := knownPlaces(""); got != nil {
		t.Errorf("%q", got)
	}
}
