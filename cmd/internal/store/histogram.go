package store

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"time"
)

// A Histogram counts durations, in microseconds, in buckets whose width is a sixteenth of their
// power of two. So the middle of a bucket is less than 3 % off. The zero value is empty.
type Histogram struct {
	counts []bucketCount // by their buckets
	most   time.Duration
}

type bucketCount struct {
	bucket uint16
	n      int64
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
	h.add(bucketOf(d), 1)
	h.most = max(h.most, d)
}

func (h *Histogram) add(bucket uint16, n int64) {
	i, found := slices.BinarySearchFunc(h.counts, bucket, func(c bucketCount, b uint16) int { return int(c.bucket) - int(b) })
	if found {
		h.counts[i].n += n
	} else {
		h.counts = slices.Insert(h.counts, i, bucketCount{bucket, n})
	}
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(o Histogram) {
	h.most = max(h.most, o.most)
	if len(h.counts) == 0 {
		h.counts = slices.Clone(o.counts)
		return
	}
	for _, c := range o.counts {
		h.add(c.bucket, c.n)
	}
}

// Percentile is the duration that a share p (0 to 1) of all did not exceed. For p = 1 it is exact.
func (h Histogram) Percentile(p float64) time.Duration {
	total := int64(0)
	for _, c := range h.counts {
		total += c.n
	}
	if total == 0 {
		return 0
	}
	rank := min(max(int64(math.Ceil(p*float64(total))), 1), total)
	if rank == total {
		return h.most
	}
	for _, c := range h.counts {
		if rank -= c.n; rank <= 0 {
			return min(middle(c.bucket), h.most)
		}
	}
	return h.most
}

// AtMost is how many durations were not longer than this.
func (h Histogram) AtMost(d time.Duration) (n int64) {
	for _, c := range h.counts {
		if middle(c.bucket) <= d {
			n += c.n
		}
	}
	return n
}

// Count is how many durations there are.
func (h Histogram) Count() (n int64) {
	for _, c := range h.counts {
		n += c.n
	}
	return n
}

// Sum is their sum, exact to within 3 %.
func (h Histogram) Sum() (sum time.Duration) {
	for _, c := range h.counts {
		sum += middle(c.bucket) * time.Duration(c.n)
	}
	return sum
}

// encode appends a histogram as varints: the largest duration in nanoseconds, the number of buckets, then the distance
// to each next bucket and its count.
func (h Histogram) encode(b []byte) []byte {
	b = binary.AppendVarint(b, int64(h.most))
	b = binary.AppendUvarint(b, uint64(len(h.counts)))
	last := uint16(0)
	for _, c := range h.counts {
		b = binary.AppendUvarint(b, uint64(c.bucket-last))
		b = binary.AppendUvarint(b, uint64(c.n))
		last = c.bucket
	}
	return b
}

func decodeHistogram(b *decoder) (h Histogram) {
	h.most = time.Duration(b.number())
	n := b.count()
	bucket := uint64(0)
	for range n {
		bucket += b.natural()
		h.counts = append(h.counts, bucketCount{uint16(bucket), int64(b.natural())})
	}
	return h
}
