// Package bootid names the boot of the machine: what belongs to another one has ended.
package bootid

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Get returns the id of this boot (random(4)); empty: /proc does not show it. No process outlives a boot,
// so it is read once. It does without os.ReadFile, which would set up the poller of the Go runtime for it.
var Get = sync.OnceValue(func() string {
	fd, err := unix.Open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	id := make([]byte, 64)
	n, _ := unix.Read(fd, id)
	return strings.TrimSpace(string(id[:max(n, 0)]))
})
