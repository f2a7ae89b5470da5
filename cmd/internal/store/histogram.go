package store

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"
)

// A Histogram counts durations, in microseconds, in buckets whose width is a sixteenth of their
// power of two. So the middle of a bucket is less than 3 % off. The zero value is empty.
type Histogram struct {
	counts map[uint16]int64
	most   time.Duration
}

const subBuckets = 16

func bucketOf(d time.Duration) uint16 {
	us := uint64(max(d.Microseconds(), 0))
	if us < subBuckets {
		return uint16(us)
	}
	shift := bits.Len64(us) - 5 // keep the first bit and the four after it
	return uint16(shift*subBuckets) + uint16(us>>shift)
}

// middle is the duration in the middle of a bucket.
func middle(bucket uint16) time.Duration {
	if bucket < 2*subBuckets {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := uint64(bucket)/subBuckets - 1
	low := (uint64(bucket)%subBuckets + subBuckets) << shift
	return time.Duration(min(low+(1<<shift)/2, math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	if h.counts == nil {
		h.counts = map[uint16]int64{}
	}
	h.counts[bucketOf(d)]++
	h.most = max(h.most, d)
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(o Histogram) {
	if h.counts == nil {
		h.counts = map[uint16]int64{}
	}
	for b, n := range o.counts {
		h.counts[b] += n
	}
	h.most = max(h.most, o.most)
}

// Percentile is the duration that a share p (0 to 1) of all did not exceed. For p = 1 it is exact.
func (h Histogram) Percentile(p float64) time.Duration {
	total := int64(0)
	for _, n := range h.counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := min(max(int64(math.Ceil(p*float64(total))), 1), total)
	if rank == total {
		return h.most
	}
	for _, b := range slices.Sorted(maps.Keys(h.counts)) {
		if rank -= h.counts[b]; rank <= 0 {
			return min(middle(b), h.most)
		}
	}
	return h.most
}

// AtMost is how many durations were not longer than this.
func (h Histogram) AtMost(d time.Duration) (n int64) {
	for b, count := range h.counts {
		if middle(b) <= d {
			n += count
		}
	}
	return n
}

// Count is how many durations there are.
func (h Histogram) Count() (n int64) {
	for _, count := range h.counts {
		n += count
	}
	return n
}

// Sum is their sum, exact to within 3 %.
func (h Histogram) Sum() (sum time.Duration) {
	for b, count := range h.counts {
		sum += middle(b) * time.Duration(count)
	}
	return sum
}

// encode writes a histogram as varints: the largest duration in nanoseconds, then the distance to
// each next bucket and its count.
func (h Histogram) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(h.most))
	last := uint16(0)
	for _, bucket := range slices.Sorted(maps.Keys(h.counts)) {
		b = binary.AppendUvarint(b, uint64(bucket-last))
		b = binary.AppendUvarint(b, uint64(h.counts[bucket]))
		last = bucket
	}
	return b
}

func decodeHistogram(b []byte) (h Histogram, err error) {
	next := func() (v uint64) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = errors.New("damaged histogram")
			b = nil
			return 0
		}
		b = b[n:]
		return v
	}
	h = Histogram{counts: map[uint16]int64{}, most: time.Duration(next())}
	bucket := uint64(0)
	for len(b) > 0 {
		bucket += next()
		h.counts[uint16(bucket)] += int64(next())
	}
	return h, err
}
