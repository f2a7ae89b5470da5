package web

import "testing"

// The end of an axis is not below the largest value, and short in the unit that it is written in.
func TestTheEndOfAnAxis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value, want float64
		units       []float64
	}{
		{0, 1, nil}, {3, 4, nil}, {9, 10, nil}, {10, 10, nil}, {233, 240, nil}, {1577, 1600, nil}, {950, 1000, nil}, {0.3, 0.4, nil},
		{59, 60, spanUnits}, {60, 60, spanUnits}, {100, 120, spanUnits}, {800, 16 * 60, spanUnits}, {3 * 3600, 4 * 3600, spanUnits}, {1024, 1024, []float64{1024}}, {1030, 2048, []float64{1024}}, {208, 240, []float64{1024}},
	} {
		if got := niceTop(c.value, c.units...); got != c.want {
			t.Errorf("the end for %v with %v is %v, want %v", c.value, c.units, got, c.want)
		}
	}
}
