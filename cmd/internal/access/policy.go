package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
)

// FileName is the name of the policy in the directories of the configuration.
const FileName = "policy.toml"

// policyMost is how large a policy may be, in bytes.
const policyMost = 1 << 20

// Roles are all roles, in the order in which they are shown.
var Roles = []Role{Executor, ScriptAdmin, Auditor}

// A Policy says who there is, and what they may do. It is not changed after Load.
type Policy struct {
	Path   string // absolute
	SHA256 string // of Text
	Text   string
	System bool // it is that of the whole host

	Users      map[string]User
	Groups     map[string]Group
	Keys       map[string]Key
	RoleLimits map[Role]config.Limits
	Profiles   map[string]config.Limits

	owner   int    // of the directory
	mode    uint32 // of the file
	file    identity
	settled bool // the file was not changed just before it was read: see isSame
}

// A User is somebody that the policy knows.
type User struct {
	Name     string
	FullName string
	Roles    []Role // without those of its groups
	Groups   []string
	OSUser   string // the user of the operating system that is this user; empty: none
	Disabled bool
	Limits   config.Limits
}

// A Group has roles that all its users have.
type Group struct {
	Name  string
	Roles []Role
}

// A Key is what is known of an API key.
type Key struct {
	ID        string
	User      string
	SHA256    string // of the whole text, in hexadecimal
	Created   time.Time
	Expires   time.Time // zero: never
	Revoked   time.Time // zero: it is not
	Roles     []Role    // the most that it gives; nil: all that the user has
	MayAssert []string  // users, groups as group:NAME, or *: whom its holder may name as the user of a run
	Comment   string
}

// Codes of a PolicyError, and so of the failure of a run.
const (
	CodeUnreadable = "policy_unreadable"
	CodeBroken     = "policy_broken"
)

// A PolicyError says why a policy cannot be used. Nothing may run until it is mended.
type PolicyError struct {
	Code     string // CodeUnreadable or CodeBroken
	Findings []config.Finding
}

// Error is the first finding.
func (e *PolicyError) Error() string { return e.Findings[0].Error() }

// Unwrap is the first finding, a *config.Error, which can have a hint.
func (e *PolicyError) Unwrap() error { return &e.Findings[0] }

// SystemFile is the policy of the whole host. It is a variable for tests alone: those that run as root
// would else use and change the policy of the machine that they run on.
var SystemFile = config.SystemDir + "/" + FileName

// Places are where the policy is looked for: the first that exists counts, and the first is that of
// the whole host.
func Places(environ []string) []string {
	places := []string{SystemFile}
	if dir := config.UserDir(environ); dir != "" {
		places = append(places, filepath.Join(dir, FileName))
	}
	return places
}

// Load reads the policy at the first of the places that has one; nil: there is none. known is what
// an earlier call returned: it is returned again while the file stays the same. An error is a
// *PolicyError.
func Load(places []string, known *Policy) (*Policy, error) {
	for i, path := range places {
		p, err := load(path, i == 0, known)
		if p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

// An identity tells one state of a file from another.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func load(path string, system bool, known *Policy) (*Policy, error) {
	f, st, err := open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || !system && errors.Is(err, fs.ErrPermission) && config.OfOthers(path) {
			return nil, nil
		}
		return nil, unreadable(path, err)
	}
	defer f.Close()
	owner, err := safeDir(filepath.Dir(path))
	if err != nil {
		return nil, unreadable(path, err)
	}
	now := identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
	if known != nil && known.settled && known.Path == path && known.file == now {
		return known, nil
	}
	settled := time.Since(time.Unix(now.ctime.Unix())) > time.Second
	text, err := io.ReadAll(io.LimitReader(f, policyMost+1))
	if err == nil && len(text) > policyMost {
		err = fmt.Errorf("larger than %d MB", policyMost>>20)
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	p, findings := Parse(path, string(text))
	if findings != nil {
		return nil, &PolicyError{CodeBroken, findings}
	}
	p.System, p.file, p.settled, p.owner, p.mode = system, now, settled, owner, st.Mode
	return p, nil
}

// Readers says who can read the policy of the whole host, and so run code; empty: it is not that of the
// host.
func (p *Policy) Readers() string {
	switch {
	case p == nil || !p.System:
		return ""
	case p.mode&0o004 != 0:
		return "every user of this host can read it, as each run has to"
	case p.mode&0o040 != 0:
		return "its owner and its group can read it, and nobody else can run code"
	}
	return "its owner alone can read it, and nobody else can run code"
}

// Check returns everything that is wrong with the policy in a file, first with the file itself. The
// policy is nil if its text is wrong.
func Check(path string) (*Policy, []config.Finding) {
	f, st, err := openFile(path)
	if err != nil {
		return nil, unreadable(path, err).Findings
	}
	defer f.Close()
	var findings []config.Finding
	if err := isSafe(st, os.Geteuid()); err != nil {
		findings = unreadable(path, err).Findings
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > policyMost {
		return nil, findings
	}
	if _, err := safeDir(filepath.Dir(path)); err != nil {
		findings = append(findings, unreadable(path, err).Findings...)
	}
	text, err := io.ReadAll(io.LimitReader(f, policyMost))
	if err != nil {
		return nil, append(findings, unreadable(path, err).Findings...)
	}
	p, wrong := Parse(path, string(text))
	return p, append(findings, wrong...)
}

// LooksLikePolicy reports whether a file is meant as a policy: it has tables that only a policy has, or
// the name and the version of one.
func LooksLikePolicy(path string) bool {
	f, st, err := openFile(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, policyMost))
	if err != nil {
		return false
	}
	versioned, tables := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		key, _, assigned := strings.Cut(line, "=")
		versioned = versioned || assigned && strings.TrimSpace(key) == "version"
		for _, table := range []string{"[user.", "[group.", "[role.", "[key.", "[profile."} {
			tables = tables || strings.HasPrefix(line, table)
		}
	}
	return tables || versioned && filepath.Base(path) == FileName
}

// open opens a policy that nobody else can have written.
func open(path string) (*os.File, unix.Stat_t, error) {
	f, st, err := openFile(path)
	if err == nil {
		if err = isSafe(st, os.Geteuid()); err != nil {
			f.Close()
		}
	}
	return f, st, err
}

// openFile opens a file, whatever it is, and never waits for that.
func openFile(path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err == unix.ELOOP {
		err = errors.New("is a symbolic link")
	}
	if err != nil {
		return nil, st, err
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}

var errOpenToOthers = errors.New("others than its owner can write it")

// isSafe says what is wrong with the kind, owner or mode of a policy.
func isSafe(st unix.Stat_t, euid int) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return errors.New("is a directory")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("not a regular file")
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%w (mode %04o)", errOpenToOthers, st.Mode&0o7777)
	case st.Uid != 0 && int(st.Uid) != euid:
		return fmt.Errorf("belongs to user %d, neither to root nor to this user", st.Uid)
	case st.Size > policyMost:
		return fmt.Errorf("larger than %d MB", policyMost>>20)
	}
	return nil
}

// errOpenDir says that somebody can put another policy in the place of this one, or remove it.
var errOpenDir = errors.New("others than its owner can replace it")

// safeDir returns the owner of the directory of a policy, and refuses one in which others could
// remove or replace the policy.
func safeDir(dir string) (owner int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, err
	}
	if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return 0, fmt.Errorf("%w: its directory has mode %04o", errOpenDir, st.Mode&0o7777)
	}
	return int(st.Uid), nil
}

func unreadable(path string, err error) *PolicyError {
	finding := config.Finding{Where: path, Problem: "read the policy: " + problem(err), Hint: "nothing runs until it is mended; py3runctl access policy says all that is wrong"}
	switch {
	case errors.Is(err, errOpenDir):
		finding.Hint = "chmod go-w " + filepath.Dir(path)
	case errors.Is(err, fs.ErrPermission):
		finding.Hint = "whoever cannot read it can run nothing: its owner can let all read it (chmod 0644 " + path + "), or one group (chgrp GROUP and chmod 0640); of keys it has only hashes"
	case errors.Is(err, errOpenToOthers):
		finding.Hint = "chmod go-w " + path
	}
	return &PolicyError{CodeUnreadable, []config.Finding{finding}}
}

// problem is an error without the path, which stands in Where.
func problem(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}
