package cli

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// LoginUID is the user that logged in, which the kernel keeps through su and sudo (CONFIG_AUDIT);
// nil: nobody did.
func LoginUID() *int {
	text, err := os.ReadFile("/proc/self/loginuid")
	if err != nil {
		return nil
	}
	return parseLoginUID(string(text))
}

func parseLoginUID(text string) *int {
	uid, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || uid == math.MaxUint32 { // (uid_t)-1: not set
		return nil
	}
	n := int(uid)
	return &n
}
