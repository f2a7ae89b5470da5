package access

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A window with room for all runs is exact: it lets a run begin as soon as the limit allows, to the
// microsecond, and never earlier.
func TestWindowIsExact(t *testing.T) {
	t.Parallel()
	var w window
	for i := range 60 {
		w = w.add(int64(i), marksMost)
	}
	now := int64(59)
	if got, want := w.free(now, minute, 60), time.Minute-58*time.Microsecond; got != want {
		t.Errorf("free: got %v, want %v", got, want)
	}
	if got := w.free(now, minute, 61); got != 0 {
		t.Errorf("free with a higher limit: got %v", got)
	}
	if got := w.free(minute, minute, 60); got != time.Microsecond {
		t.Errorf("a minute after the first: got %v", got)
	}
	if got := w.free(minute+1, minute, 60); got != 0 {
		t.Errorf("then: got %v", got)
	}
	if got, want := w.free(now, minute, 1), time.Minute+time.Microsecond; got != want {
		t.Errorf("free of the last run: got %v, want %v", got, want)
	}
}

// However runs come, no window lets more of them begin within any minute and any hour than the limits
// say; and it is not much stricter than they are.
func TestWindowNeverExceeds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		marks          int
		perMin, perHr  int
		gap            int64 // the mean between two requests, in microseconds
		burst          int   // requests at once
		least, leastHr int   // how many runs there are in the fullest minute and hour
	}{
		{"defaults, flood", marksMost, 60, 1000, 30_000, 1, 60, 1000},
		{"defaults, bursts", marksMost, 60, 1000, 5_000_000, 40, 60, 990},
		{"all users", globalMost, 500, 0, 20_000, 1, 500, 0},
		{"more than there are marks", marksMost, 1200, 20_000, 20_000, 1, 1180, 19_500},
		{"few marks", 16, 100, 1500, 100_000, 1, 80, 1200},
		{"an hour of bursts", marksMost, 0, 2000, 60_000_000, 300, 0, 1900},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			var w window
			var began []int64
			for now := int64(1); now < 10*hour/9 && len(began) < 200_000; now += random.Int64N(2 * tt.gap) {
				for range tt.burst {
					w, _ = w.settle(now)
					if tt.perMin > 0 && w.free(now, minute, tt.perMin) > 0 || tt.perHr > 0 && w.free(now, hour, tt.perHr) > 0 {
						continue
					}
					w = w.add(now, tt.marks)
					began = append(began, now)
					if len(w) > tt.marks {
						t.Fatalf("%d marks", len(w))
					}
				}
			}
			if most := fullest(began, minute); tt.perMin > 0 && (most > tt.perMin || most < tt.least) {
				t.Errorf("the fullest minute has %d runs, want %d to %d", most, tt.least, tt.perMin)
			}
			if most := fullest(began, hour); tt.perHr > 0 && (most > tt.perHr || most < tt.leastHr) {
				t.Errorf("the fullest hour has %d runs, want %d to %d", most, tt.leastHr, tt.perHr)
			}
		})
	}
}

// fullest is the most runs that began within any such time.
func fullest(began []int64, within int64) (most int) {
	first := 0
	for i, at := range began {
		for at-began[first] >= within {
			first++
		}
		most = max(most, i+1-first)
	}
	return most
}

func TestWindowForgets(t *testing.T) {
	t.Parallel()
	var w window
	for i := range int64(100) {
		w = w.add(i*minute, marksMost)
	}
	now := 99 * minute
	if w, _ = w.settle(now); len(w) != 61 {
		t.Errorf("%d marks of an hour, want 61", len(w))
	}
	// The clock went back: what lies ahead counts as of now, and ends with the window.
	if w, _ = w.settle(minute); w.used(minute, minute) != 61 || w.free(minute, minute, 1) != time.Minute+time.Microsecond {
		t.Errorf("after a step back: used %d, free %v", w.used(minute, minute), w.free(minute, minute, 1))
	}
}
