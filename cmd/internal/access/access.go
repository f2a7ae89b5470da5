// Package access says who is asking, and what that user may do: identity, roles, keys, and the limits
// on how often and how many at once.
//
//	Claim                  what a caller says, and what the operating system knows of it
//	 │ Policy.Identify ─►  Grant, or a *Denial: who it is, with the roles that hold now
//	 │ Can ─►              a Decision: the one rule behind run, read, list, search, history and every page
//	 ▼ Limits.Take ─►      a Slot, or a *Limited: one of the runs that this user may have
//
// Identify and Can are pure: a table can test them. Nothing here knows of JSON, sandboxes or Python.
package access

import "time"

// A Role is what a user may do besides being somebody. Roles are read from the policy at each use and
// are never stored in a key.
type Role string

// The roles.
const (
	Executor    Role = "python3-executor" // may run code
	ScriptAdmin Role = "script-admin"     // may do everything with all scripts, and change users and keys
	Auditor     Role = "auditor"          // may read everybody's history
)

// A Method is how a user is known.
type Method string

// The methods, from the best to none.
const (
	ByKey     Method = "api-key"
	ByOSUser  Method = "os-user"
	ByClaim   Method = "asserted" // only the caller says so
	Anonymous Method = "none"
)

// A Claim is who a caller says it is, and what the operating system knows of it.
type Claim struct {
	Key    string // the API key that was presented; empty: none was
	User   string // the user that the caller names; empty: none
	OSUID  int    // of the process
	OSUser string // its name
	At     time.Time
}

// A Grant is who a claim turned out to be. The zero Grant is nobody.
type Grant struct {
	User     string // name, as in the record
	Method   Method
	Known    bool   // proved by a key or by the operating system, and in the policy: satisfies identity.require
	Roles    []Role // that hold now: of the user and its groups, within the key's cap
	Groups   []string
	Withheld []Role // that the user has too, and the key's cap takes away
	KeyID    string // of the key; empty: there was none
	Holder   string // the key's own user, if that is not User
	Policy   string // SHA-256 of the policy that was read; empty: there is none
	Operator bool   // root, or the owner of the policy where root has none: may change what it can write anyway
}

// A Denial is the reason why something is not allowed. Code is stable and goes into the record, where
// Message says more than the caller may learn: it gets Message only where Told is set.
type Denial struct {
	Code    string // as unknown-key, expired-key, revoked-key, disabled-user, missing-role, not-shared
	Message string
	Hint    string
	Told    bool
	User    string // whom it is about, as far as that is known
	KeyID   string // if the key was well formed
	Holder  string // the accepted key's own user, where User is only whom that one has named

	Shown string // the code that the caller learns; empty: Code
}

func (d *Denial) Error() string { return d.Message }

// An Action is what somebody wants to do with an object.
type Action string

// The actions.
const (
	ToRun        Action = "run"
	ToRead       Action = "read" // the text of a script, or the record of a run
	ToWrite      Action = "write"
	ToDelete     Action = "delete"
	ToShare      Action = "share"
	ToList       Action = "list" // to learn that it exists
	ToSeeHistory Action = "history"
	ToManage     Action = "manage" // users, keys, policy, limits
)

// An Object is what an action is about.
type Object struct {
	Kind   Kind
	Name   string
	Owner  string  // author of a script, user of a run
	Public bool    // of a script
	Shares []Share // of a script

	Removed bool // a version that was there when the script was deleted: shares do not mean it
}

// A Kind is the kind of an object.
type Kind string

// The kinds.
const (
	AdHocCode    Kind = "code" // that a request brings along
	StoredScript Kind = "script"
	PastRun      Kind = "run" // past or alive
	ThePolicy    Kind = "policy"
)

// A Share lets a user, or everybody in a group, do something with a script.
type Share struct {
	With    string   `json:"with"`    // a user, or group:NAME
	Actions []Action `json:"actions"` // of run, read and write
}

// A Decision is the answer to a question, and the rule that gave it.
type Decision struct {
	Allowed bool
	Rule    string // as "script.author", "role.auditor", "policy.none"
}
