package cgroup

import (
	"os"
	"path/filepath"
	"strings"
)

// Limits of one group. Zero means none.
type Limits struct {
	Memory    int64   // bytes of the whole tree, swap included
	Processes int     // processes and threads of the whole tree
	CPUs      float64 // processors' worth of time per second
	ReadRate  int64   // bytes a second from each block device
	WriteRate int64   // bytes a second to each block device
}

// A Gap is what was asked for and is not to be had here.
type Gap struct {
	Controller string // "memory", "pids", "cpu", "io", "kill"; "io-writes" when only writes past the page cache are slowed down
	Why        string
}

// period is that of a quota of CPU time, in microseconds.
const period = 100000

// quota is the CPU time of a period, in microseconds.
func (l Limits) quota() int64 { return max(1000, int64(l.CPUs*period)) }

// eachRate calls set for each block device and each way, "read" or "write", that has a limit.
func (l Limits) eachRate(set func(device, way string, rate int64) error) error {
	for _, device := range disks() {
		for _, r := range []struct {
			way  string
			rate int64
		}{{"read", l.ReadRate}, {"write", l.WriteRate}} {
			if r.rate == 0 {
				continue
			}
			if err := set(device, r.way, r.rate); err != nil {
				return err
			}
		}
	}
	return nil
}

// disks are the block devices that have a size, as major:minor.
func disks() (numbers []string) {
	sizes, _ := filepath.Glob("/sys/block/*/size")
	for _, path := range sizes {
		size, _ := os.ReadFile(path)
		number, err := os.ReadFile(filepath.Join(filepath.Dir(path), "dev"))
		if err == nil && strings.TrimSpace(string(size)) != "0" {
			numbers = append(numbers, strings.TrimSpace(string(number)))
		}
	}
	return numbers
}

// slack is the distance from the memory limit at which an Alarm goes off.
func slack(limit int64) int64 { return min(limit/8, 8<<20) }
