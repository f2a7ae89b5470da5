package web

import (
	"testing"
	"time"
)

// One visitor takes no more than half of the places, and signs in so many times within a minute.
func TestFairShares(t *testing.T) {
	t.Parallel()
	var f fair
	for i := range mostOfVisitor {
		if !f.enter("alice") {
			t.Fatalf("request %d is refused", i)
		}
	}
	if f.enter("alice") || !f.enter("bob") {
		t.Error("alice may have more, or bob none")
	}
	f.leave("alice")
	if !f.enter("alice") || f.enter("alice") {
		t.Error("a place that is free again")
	}
	now := time.Now()
	for i := range mostSignIns {
		if !f.signIn("alice", now) {
			t.Fatalf("sign-in %d is refused", i)
		}
	}
	if f.signIn("alice", now.Add(59*time.Second)) || !f.signIn("bob", now) || !f.signIn("alice", now.Add(time.Minute)) {
		t.Error("sign-ins are not counted by visitor and minute")
	}
}
