package ctl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"py3run/audit"
)

// A proof is a file that shows, without the log, what was recorded of one run: its records, how they
// are reached from the root that a checkpoint signs, and the code if it was kept.
//
//	line ─► leaf = SHA-256(0x00 line) ─► with the hashes of path ─► root ─► signed in checkpoint
//	code ─► SHA-256 ─► code.sha256 of each line
//
// The form is public: py3run help record describes it. There is one text for each proof, so that no byte
// of it can be changed without a finding.
type proof struct {
	Form       string         `json:"form"`
	RunID      string         `json:"run_id"`
	Records    []provedRecord `json:"records"`        // in the order of the log: the start, what was recorded about the run meanwhile, the end
	Checkpoint string         `json:"checkpoint"`     // the whole note, with one signature
	Code       *string        `json:"code,omitempty"` // base64; absent: it was not kept
}

// A provedRecord is a line of the log and its place in the tree.
type provedRecord struct {
	Line  string           `json:"line"`  // exactly its bytes, which are printable ASCII
	Index int64            `json:"index"` // of the leaf, from 0
	Path  tlog.RecordProof `json:"path"`  // RFC 6962, section 2.1.1: from the leaf's sibling to the root's child
}

const (
	proofForm    = "py3run-proof-1"
	proofRecords = 100                                // the most of one run
	proofMost    = audit.KeptCodeMost/3*4 + (8 << 20) // bytes of a file
)

// encode is the one text of a proof.
func (p proof) encode() ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(p)
	return text.Bytes(), err
}

// An uncovered is the error that no checkpoint has a record yet.
type uncovered struct {
	run      string
	seq      uint64 // of the record
	signedTo int64  // how many records the newest checkpoint has
	dir      string
}

func (e *uncovered) Error() string {
	return fmt.Sprintf("prove run %s: no checkpoint covers its record %d: the newest in %s is of %s", e.run, e.seq, e.dir, counted(uint64(e.signedTo), "record"))
}

func (a *app) proof() *cobra.Command {
	var out, checkpoints, keys string
	c := &cobra.Command{
		Use: "proof RUN_ID", Short: "Write a file that proves what was recorded of a run", Args: cobra.ExactArgs(1),
		Long: `Writes one JSON file with the records of a run, the code if it was kept, the first signed checkpoint
that has all these records, and what leads from each record to the root that is signed. Whoever has
the file and the public key can check it on another machine, without the log:

  py3runctl audit verify --proof FILE --key py3run-checkpoint.key.pub

py3run help record describes the file, and what it proves. It holds what the records hold, and the
code: who may have it is for you to decide.

The records have to be in the log still. Records that retention has removed before them do not
matter.`,
		Example: "  py3runctl audit proof 5d1f09e2 --checkpoints /root/py3run-checkpoints --key /root/py3run-checkpoint.key.pub --out run.json",
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := a.sightedContext()
			if err != nil {
				return err
			}
			return d.proof(args[0], checkpoints, keys, out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "the `file` to write, which must not exist (default: standard output)")
	c.Flags().StringVar(&checkpoints, "checkpoints", "", "`directory` of checkpoints, as audit checkpoint --out writes them")
	c.Flags().StringVar(&keys, "key", "", "`file` of the public keys for the checkpoints, as keygen writes it")
	c.MarkFlagRequired("checkpoints")
	c.MarkFlagRequired("key")
	return c
}

// proof writes the proof of a run to a file, or to standard output.
func (d logContext) proof(what, checkpoints, keyFile, out string) error {
	if _, err := os.Lstat(out); out != "" && err == nil {
		return refusedWith(fmt.Errorf("write %s: %w", out, fs.ErrExist), "name a file that does not exist yet, or remove that one")
	}
	keys, err := readKeys(keyFile)
	if err != nil {
		return err
	}
	list, findings, err := readCheckpoints(checkpoints, keys)
	if err != nil {
		return err
	}
	for _, f := range findings {
		d.warnf("%s", f.Message)
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	lines, err := d.find(r, what)
	if err != nil {
		return err
	}
	text, done, err := d.prove(r, lines, list, keys)
	if missing := new(uncovered); errors.As(err, &missing) {
		missing.dir = checkpoints
	}
	if err != nil {
		return err
	}
	if done.uncoded != nil {
		d.warnf("the code is not in the proof, only its hash: %s", done.uncoded.problem)
	}
	if out == "" {
		_, err = d.out.Write(text)
		return err
	}
	if err := newFile(out, text); err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.out, "%s: %s of run %s, in the checkpoint of %s that %s signed at %s\n", out, counted(len(done.Records), "record"), done.RunID,
		counted(uint64(done.signed.tree.N), "record"), done.signed.signer, done.signed.time.UTC().Format("2006-01-02T15:04:05Z"))
	return err
}

// A provedRun is a proof that was made.
type provedRun struct {
	proof
	signed  checkpoint
	uncoded *codeError // why the code is not in it; nil: it is
}

// prove makes the text of a proof from the records of a run, and checks it.
func (d logContext) prove(r *audit.Reader, lines []audit.Line, list []checkpoint, keys []signingKey) (text []byte, done provedRun, err error) {
	var first audit.Record
	if done.proof, first, err = d.records(lines); err != nil {
		return nil, done, err
	}
	if done.signed, err = d.include(r, &done.proof, list); err != nil {
		return nil, done, err
	}
	switch code, err := d.codeOf(r, first); {
	case errors.As(err, &done.uncoded):
	case err != nil:
		return nil, done, err
	default:
		text := base64.StdEncoding.EncodeToString(code)
		done.Code = &text
	}
	if text, err = done.encode(); err != nil {
		return nil, done, err
	}
	if claims := checkProof(text, keys); claims.broken() { // what is handed out has to hold
		return nil, done, fmt.Errorf("prove run %s: %s", done.RunID, claims[len(claims)-1].Text)
	}
	return text, done, nil
}

// records takes the records of one run that ends, and returns the first of them as well.
func (d logContext) records(lines []audit.Line) (p proof, first audit.Record, err error) {
	p = proof{Form: proofForm, Records: []provedRecord{}}
	var ended bool
	var started bool
	for _, line := range lines {
		if !partOfRun(line.Action) {
			continue
		}
		if len(p.Records) == 0 {
			if first, err = line.Record(); err != nil {
				return p, first, fmt.Errorf("record %d: %w", line.Seq, err)
			}
			p.RunID = line.RunID
		}
		p.Records = append(p.Records, provedRecord{Line: string(line.Text)})
		started = started || line.Action == audit.ExecutionStart
		ended = ended || endsRun(line.Action)
		if line.Action == audit.ExecutionDenied {
			started = true // nothing began
		}
	}
	switch {
	case len(p.Records) == 0:
		return p, first, errors.New("prove: the record is not one of a run")
	case len(p.Records) > proofRecords:
		return p, first, fmt.Errorf("prove run %s: it has %d records, and a proof at most %d", p.RunID, len(p.Records), proofRecords)
	case !ended:
		return p, first, fmt.Errorf("prove run %s: it has no end record yet", p.RunID)
	case !started:
		d.warnf("the start of run %s was removed by retention: the proof begins with its next record", p.RunID)
	}
	return p, first, nil
}

// partOfRun reports whether a record is about a run itself, and not about a record of it.
func partOfRun(a audit.Action) bool {
	return a == audit.ExecutionStart || a == audit.ExecutionCancel || endsRun(a)
}

// endsRun reports whether a record is the last of its run.
func endsRun(a audit.Action) bool {
	return a == audit.ExecutionEnd || a == audit.ExecutionOrphaned || a == audit.ExecutionDenied
}

// include proves that the records are in the tree of the first checkpoint that has all of them.
func (d logContext) include(r *audit.Reader, p *proof, list []checkpoint) (signed checkpoint, err error) {
	check := audit.Check{Tree: true, Progress: d.progress()}
	for _, c := range list {
		check.Sizes = append(check.Sizes, uint64(c.tree.N))
	}
	seqs := make([]uint64, len(p.Records))
	for i, rec := range p.Records {
		var line struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal([]byte(rec.Line), &line); err != nil {
			return signed, err
		}
		seqs[i] = line.Seq
	}
	check.Prove = seqs
	rep, err := r.Verify(check)
	d.endProgress()
	if err != nil {
		return signed, err
	}
	if len(rep.Unread) > 0 {
		return signed, fmt.Errorf("prove run %s: %s cannot be read: see py3runctl audit verify", p.RunID, strings.Join(rep.Unread, ", "))
	}
	if len(rep.Inclusions) != len(p.Records) {
		return signed, fmt.Errorf("prove run %s: %d of its %d records stand once in the log: see py3runctl audit verify", p.RunID, len(rep.Inclusions), len(p.Records))
	}
	at := slices.IndexFunc(list, func(c checkpoint) bool {
		return rep.Included > 0 && c.origin == rep.Origin && uint64(c.tree.N) == rep.Included
	})
	if at < 0 {
		missing := &uncovered{run: p.RunID, seq: seqs[len(seqs)-1]}
		for _, c := range list {
			missing.signedTo = max(missing.signedTo, c.tree.N)
		}
		return signed, missing
	}
	signed = list[at]
	for i, in := range rep.Inclusions {
		leaf := tlog.RecordHash([]byte(p.Records[i].Line))
		p.Records[i].Index = int64(in.Index)
		p.Records[i].Path, err = tlog.ProveRecord(signed.tree.N, int64(in.Index), nodesOf(leaf, in))
		if err == nil {
			err = tlog.CheckRecord(p.Records[i].Path, signed.tree.N, signed.tree.Hash, int64(in.Index), leaf)
		}
		if err != nil {
			return signed, fmt.Errorf("prove run %s: the log is not the one that %s signs (%w): see py3runctl audit verify --checkpoints", p.RunID, signed.path, err)
		}
	}
	p.Checkpoint, err = signed.alone()
	return signed, err
}

// nodesOf are the nodes of a tree around a leaf.
func nodesOf(leaf tlog.Hash, in audit.Inclusion) tlog.HashReader {
	known := map[int64]tlog.Hash{tlog.StoredHashIndex(0, int64(in.Index)): leaf}
	for _, part := range []*audit.Range{in.Before, in.After} {
		for _, n := range part.Nodes() {
			known[tlog.StoredHashIndex(n.Level, int64(n.Index))] = tlog.Hash(n.Hash)
		}
	}
	return hashesOf(known)
}

// hashesOf are stored hashes by their index.
func hashesOf(known map[int64]tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			h, ok := known[i]
			if !ok {
				return nil, fmt.Errorf("no hash %d", i)
			}
			hashes = append(hashes, h)
		}
		return hashes, nil
	})
}

// alone is the note of a checkpoint with no signature but the one that is trusted.
func (c checkpoint) alone() (string, error) {
	text, err := note.Sign(&note.Note{Text: c.signedText, Sigs: []note.Signature{c.signature}})
	return string(text), err
}
