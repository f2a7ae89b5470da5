package launch

import (
	"math"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// seconds and megabytes convert a limit. A small positive limit never becomes 0, which would mean no
// limit, and a large one never becomes negative.
func seconds(s float64) time.Duration {
	return time.Duration(bounded(s * float64(time.Second)))
}

func megabytes(mb float64) int64 {
	return bounded(mb * (1 << 20))
}

func bounded(f float64) int64 {
	switch {
	case f <= 0:
		return 0
	case f >= math.MaxInt64/2:
		return math.MaxInt64 / 2
	}
	return int64(math.Ceil(f))
}

func mb(bytes float64) float64 { return bytes / (1 << 20) }

// round keeps three decimals: the measurement is not more precise.
func round(f float64) float64 { return math.Round(f*1000) / 1000 }

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// signalName returns a name such as SIGKILL. A real-time signal has only its number: SIG63.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "SIG" + strconv.Itoa(int(s))
}
