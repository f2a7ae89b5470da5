package web

import (
	"py3run/audit"
	"py3run/cmd/internal/access"
)

// A Gate lets visitors in.
type Gate interface {
	// Holder is who has shown an API key, and what to ask for that one again with. A refusal says no more
	// than the visitor may learn.
	Holder(key string) (Visitor, Pass, error)
	// Again is who has got a pass before; the empty pass is that of who has started the server, which the
	// one-time token stands for. It is asked for each request, so that a revoked key and a disabled user
	// end at once. A [Refusal] whose code is that of a fault ends no session.
	Again(Pass) (Visitor, error)
	// Denied records that an error has kept somebody from signing in.
	Denied(error)
}

// A Pass is what to ask for somebody again with. The pages keep it, and look at nothing in it.
type Pass string

// A Visitor is somebody who has signed in, and what that one can do. Each method asks the policy as it is
// now; what is not allowed is an error that is a [Refusal].
type Visitor interface {
	Name() string                                 // as the records have it
	Known() string                                // how: as "API key 1f2e3d4c" or "user of the operating system"
	May(access.Action, access.Object) error       // nil: may
	Sees() (only string, err error)               // the one user whose runs the visitor may see; empty: everybody's
	Note(audit.Action, func(*audit.Record)) error // appends a record by this visitor

	Overview
	Runs
	Living
	Usage
	Scripts
	People
	Alerts
	Integrity
	Configuration
}

// A Refusal is an error that a visitor may read: something is not allowed, not there, or not possible.
// Other errors are faults of the server.
type Refusal interface {
	error
	Hint() string
	Code() int // of HTTP
}
