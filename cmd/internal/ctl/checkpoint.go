package ctl

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
)

// A checkpoint says what the log was at one moment: how many records it had, and the root of the
// Merkle tree over them (RFC 6962). It is a signed note in the form of c2sp.org/tlog-checkpoint:
//
//	py3run/gw-a/9f2c1c7d0e6b54a3                                      the log: the host and hash of its first record
//	48212
//	3cpJ…=                                                            the root
//	py3run seq=48212 hash=c30c26bd… time=2026-11-24T10:00:00Z         the newest record, and when it was signed
//
//	— py3run/gw-a kZ2T…
//
// A directory has each checkpoint as <seq>.note. Its <seq>.proof proves that the tree contains the
// tree of the checkpoint before, in the form that witnesses (c2sp.org/tlog-witness) take. With the
// proofs, old checkpoints can still be compared after retention has removed their records.
type checkpoint struct {
	path   string // empty: not written yet
	origin string
	tree   tlog.Tree
	seq    uint64
	hash   string
	time   time.Time
	text   []byte // signed

	signedText string // without the signatures
	signature  note.Signature
	signer     string

	previous int64 // size of the tree that the proof begins with; 0: there is no proof
	proof    tlog.TreeProof
}

const (
	noteSuffix, proofSuffix = ".note", ".proof"
	clockStep               = time.Hour // how far a clock may be set back without a finding
)

func (a *app) checkpoint() *cobra.Command {
	var key, out string
	c := &cobra.Command{
		Use: "checkpoint", Short: "Sign what the log is now", Args: cobra.NoArgs,
		Long: `Prints a signed checkpoint of all records, or writes it to a directory (--out). Keep it where the
account that writes the log cannot change it: verify --checkpoints then shows every record that was
changed, removed or inserted since.

In the directory, each checkpoint comes with a proof that the log goes on from the checkpoint
before. If the log does not, nothing is signed. Checkpoints that an earlier key signed are
recognised by the line of that key in the public file beside the key.

The command only needs to read the log, and writes nothing in its directory.

Exit status: 0 signed, or there is no new record since the last checkpoint; 1 failed, or signed
although the log has faults.`,
		Example: "  py3runctl audit checkpoint --key /root/py3run-checkpoint.key --out /root/py3run-checkpoints",
		RunE:    a.acting(access.ToSeeHistory, allRuns, func(d logContext) error { return d.checkpoint(key, out, time.Now()) }),
	}
	c.Flags().StringVar(&key, "key", "", "`file` of the key, as keygen writes it")
	c.Flags().StringVar(&out, "out", "", "`directory` of checkpoints")
	c.MarkFlagRequired("key")
	return c
}

func (d logContext) checkpoint(keyFile, dir string, now time.Time) error {
	signer, verifier, err := readKey(keyFile)
	if err != nil {
		return err
	}
	var last checkpoint
	if dir != "" {
		keys := []signingKey{{Verifier: verifier}}
		if earlier, err := readKeys(keyFile + ".pub"); err == nil {
			keys = append(keys, earlier...)
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		list, findings, err := readCheckpoints(dir, keys)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, f := range findings {
			d.warnf("%s", f.Message)
		}
		if len(list) > 0 {
			last = list[len(list)-1]
		}
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	rep, err := r.Verify(audit.Check{Tree: true, Sizes: []uint64{uint64(last.tree.N)}, Since: uint64(last.tree.N), Progress: d.progress()})
	d.endProgress()
	if err != nil {
		return err
	}
	if len(rep.Unread) > 0 {
		return fmt.Errorf("sign checkpoint of %s: %s cannot be read: see py3runctl audit verify", r.Dir(), strings.Join(rep.Unread, ", "))
	}
	if rep.Records == 0 {
		return fmt.Errorf("sign checkpoint of %s: it has no record", r.Dir())
	}
	next := checkpoint{origin: rep.Origin, tree: tlog.Tree{N: int64(rep.Tree.End), Hash: tlog.Hash(rep.Tree.Root())}, seq: rep.Last.Seq, hash: rep.Last.Hash, time: now}
	if last.tree.N > 0 {
		if err := next.follow(last, rep); err != nil {
			return err
		}
	}
	if next.tree.N == last.tree.N {
		fmt.Fprintf(d.out, "nothing was recorded since %s\n", last.path)
		return nil
	}
	if last.tree.N > 0 && next.previous == 0 {
		d.warnf("the records of %s are gone: nothing proves that this one goes on from it", last.path)
	}
	if err := next.sign(signer); err != nil {
		return err
	}
	if dir == "" {
		_, err = d.out.Write(next.text)
	} else if err = next.write(dir); err == nil {
		_, err = fmt.Fprintf(d.out, "%s: %d records\n", next.path, next.tree.N)
	}
	if err == nil && rep.Worst() >= audit.Broken {
		d.warnf("the log has faults, which verify tells; what is signed is the log as it is")
		return cli.ExitCode(exitFailed)
	}
	return err
}

// follow proves that the log begins with what was signed before, and refuses a log that does not.
func (c *checkpoint) follow(last checkpoint, rep *audit.Report) error {
	size := uint64(last.tree.N)
	refuse := func(why string) error {
		return fmt.Errorf("sign checkpoint of %s: it does not go on from %s: %s; see py3runctl audit verify --checkpoints", rep.Dir, last.path, why)
	}
	switch at := rep.Ranges[size]; {
	case last.origin != c.origin:
		return refuse(fmt.Sprintf("that is of the log %s, and this is %s", last.origin, c.origin))
	case size > rep.Tree.End:
		return refuse(fmt.Sprintf("of its %d records only %d are there", size, rep.Tree.End))
	case at == nil: // retention has removed its records
		return nil
	case tlog.Hash(at.Root()) != last.tree.Hash:
		return refuse("its records were changed")
	case size == rep.Tree.End:
		return nil
	}
	known := map[int64]tlog.Hash{}
	for _, part := range []*audit.Range{rep.Ranges[size], rep.Since} {
		for _, n := range part.Nodes() {
			known[tlog.StoredHashIndex(n.Level, int64(n.Index))] = tlog.Hash(n.Hash)
		}
	}
	proof, err := tlog.ProveTree(c.tree.N, last.tree.N, hashesOf(known))
	if err == nil {
		err = tlog.CheckTree(proof, c.tree.N, c.tree.Hash, last.tree.N, last.tree.Hash)
	}
	if err != nil {
		return fmt.Errorf("prove that the log goes on from %s: %w", last.path, err)
	}
	c.previous, c.proof = last.tree.N, proof
	return nil
}

func (c *checkpoint) sign(signer note.Signer) (err error) {
	text := fmt.Sprintf("%s\n%d\n%s\npy3run seq=%d hash=%s time=%s\n", c.origin, c.tree.N, c.tree.Hash, c.seq, c.hash, c.time.UTC().Format(time.RFC3339))
	c.text, err = note.Sign(&note.Note{Text: text}, signer)
	return err
}

// write puts a checkpoint into a directory. Its proof comes first, so that no checkpoint is there
// without one.
func (c *checkpoint) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base := filepath.Join(dir, fmt.Sprintf("%012d", c.seq))
	if c.previous > 0 {
		var b bytes.Buffer
		fmt.Fprintf(&b, "old %d\n", c.previous)
		for _, h := range c.proof {
			fmt.Fprintln(&b, h)
		}
		fmt.Fprintf(&b, "\n%s", c.text)
		if err := replaceFile(base+proofSuffix, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	c.path = base + noteSuffix
	return replaceFile(c.path, c.text, 0o644)
}

// readCheckpoints reads the checkpoints in a directory, and sorts them by the number of their
// records. What is wrong with one is a finding.
func readCheckpoints(dir string, keys []signingKey) (list []checkpoint, findings []audit.Finding, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), noteSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		c, err := parseCheckpoint(text, keys)
		if err != nil {
			findings = append(findings, audit.Finding{Severity: audit.Broken, Kind: audit.CheckpointForm, Message: fmt.Sprintf("%s: %v", path, err)})
			continue
		}
		c.path = path
		if proof, err := os.ReadFile(strings.TrimSuffix(path, noteSuffix) + proofSuffix); err == nil {
			c.previous, c.proof = parseProof(proof)
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b checkpoint) int { return cmp.Compare(a.tree.N, b.tree.N) })
	return list, findings, nil
}

func parseCheckpoint(text []byte, keys []signingKey) (c checkpoint, err error) {
	var verifiers []note.Verifier
	for _, k := range keys {
		if !slices.ContainsFunc(verifiers, func(v note.Verifier) bool { return v.Name() == k.Name() && v.KeyHash() == k.KeyHash() }) {
			verifiers = append(verifiers, k.Verifier)
		}
	}
	signed, err := note.Open(text, note.VerifierList(verifiers...))
	if unsigned := new(note.UnverifiedNoteError); errors.As(err, &unsigned) {
		return c, errors.New("not signed with a key that is trusted")
	}
	if err != nil {
		return c, err
	}
	c.text = text
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return c, errors.New("signed, but not a checkpoint")
	}
	c.origin = lines[0]
	var errSize, errHash, errTime error
	c.tree.N, errSize = strconv.ParseInt(lines[1], 10, 64)
	c.tree.Hash, errHash = tlog.ParseHash(lines[2])
	for _, line := range lines[3:] {
		fields, ours := strings.CutPrefix(line, "py3run ")
		for f := range strings.FieldsSeq(fields) {
			switch name, value, _ := strings.Cut(f, "="); {
			case !ours:
			case name == "seq":
				c.seq, _ = strconv.ParseUint(value, 10, 64)
			case name == "hash":
				c.hash = value
			case name == "time":
				c.time, errTime = time.Parse(time.RFC3339, value)
			}
		}
	}
	if err := errors.Join(errSize, errHash, errTime); err != nil || c.tree.N <= 0 || c.time.IsZero() {
		return c, errors.New("signed, but not a checkpoint of a log of py3run")
	}
	for _, k := range keys {
		for _, s := range signed.Sigs {
			if k.Name() == s.Name && k.KeyHash() == s.Hash && k.covers(c.time) {
				c.signedText, c.signature, c.signer = signed.Text, s, k.Name()
				return c, nil
			}
		}
	}
	return c, fmt.Errorf("signed with a key that is not trusted for its time, %s", c.time.Format(time.RFC3339))
}

// parseProof returns no proof for a text that is not one.
func parseProof(text []byte) (previous int64, proof tlog.TreeProof) {
	head, _, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	size, _ := strings.CutPrefix(lines[0], "old ")
	previous, err := strconv.ParseInt(size, 10, 64)
	for _, line := range lines[1:] {
		h, e := tlog.ParseHash(line)
		err = errors.Join(err, e)
		proof = append(proof, h)
	}
	if err != nil || previous <= 0 {
		return 0, nil
	}
	return previous, proof
}

// compareCheckpoints compares checkpoints with a log that was verified with the trees of their
// sizes. A checkpoint of records that retention removed is compared with the next one, from the
// newest to the oldest. signedTo is the newest record of the log that a checkpoint proves.
func compareCheckpoints(list []checkpoint, rep *audit.Report) (compared int, signedTo uint64) {
	found := func(s audit.Severity, kind audit.Kind, c checkpoint, format string, args ...any) {
		rep.Add(audit.Finding{Severity: s, Kind: kind, Seq: c.seq, Message: c.path + ": " + fmt.Sprintf(format, args...)})
	}
	if len(rep.Unread) > 0 && len(list) > 0 {
		rep.Add(audit.Finding{Severity: audit.Unreadable, Kind: audit.NotReadable, Message: fmt.Sprintf("%d checkpoints were not compared: parts of the log cannot be read", len(list))})
		return 0, 0
	}
	whole := make([]bool, len(list)) // it is as the log is
	for i := len(list) - 1; i >= 0; i-- {
		c := list[i]
		var next checkpoint
		if i+1 < len(list) {
			next = list[i+1]
		}
		if next.tree.N > c.tree.N && c.time.After(next.time.Add(clockStep)) {
			found(audit.Broken, audit.CheckpointDiffers, c, "signed at %s, later than %s of more records", c.time.Format(time.RFC3339), next.path)
		}
		at := rep.Ranges[uint64(c.tree.N)]
		switch {
		case rep.Tree == nil || c.origin != rep.Origin:
			found(audit.Broken, audit.CheckpointDiffers, c, "it is of the log %s, and this is %s", c.origin, cmp.Or(rep.Origin, "empty"))
		case uint64(c.tree.N) > rep.Tree.End:
			found(audit.Broken, audit.CheckpointDiffers, c, "of its %d records only %d are there: the log was cut", c.tree.N, rep.Tree.End)
		case at != nil && tlog.Hash(at.Root()) != c.tree.Hash:
			found(audit.Broken, audit.CheckpointDiffers, c, "its %d records are not those that were signed", c.tree.N)
		case at != nil:
			whole[i] = true
		case next.tree.N == c.tree.N && next.tree.Hash == c.tree.Hash:
			whole[i] = whole[i+1]
		case i+1 < len(list) && whole[i+1] && next.previous == c.tree.N:
			if tlog.CheckTree(next.proof, next.tree.N, next.tree.Hash, c.tree.N, c.tree.Hash) != nil {
				found(audit.Broken, audit.CheckpointDiffers, c, "%s does not go on from it", next.path)
				break
			}
			whole[i] = true
		default:
			found(audit.Warning, audit.CheckpointLoose, c, "its records were removed by retention, and no proof leads from it to those that are left")
			continue
		}
		compared++
		if whole[i] {
			signedTo = max(signedTo, c.seq)
		}
	}
	return compared, signedTo
}
