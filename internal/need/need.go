// Package need is for tests that not every machine can run. Such a test really tries what it needs, and says so here.
package need

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// That skips the test where err says that what it needs is not there. Where PY3RUN_TEST_REQUIRE lists what, the test fails instead:
// a protection that CI cannot try is not tested. The list is separated by commas: root, userns, namespaces, python, ...
func That(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("PY3RUN_TEST_REQUIRE"), ","), what) {
		t.Fatalf("needs %s, which PY3RUN_TEST_REQUIRE lists: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}
