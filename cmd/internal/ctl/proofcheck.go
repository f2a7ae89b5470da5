package ctl

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
)

// A claim is one thing that a proof says, and whether it holds.
type claim struct {
	Claim   string  `json:"claim"` // form, signature, record, run, code
	Verdict verdict `json:"verdict"`
	Text    string  `json:"text"`
}

type claims []claim

func (c *claims) holds(what, format string, args ...any) {
	*c = append(*c, claim{what, logWhole, fmt.Sprintf(format, args...)})
}

func (c *claims) warn(what, format string, args ...any) {
	*c = append(*c, claim{what, logWarnings, fmt.Sprintf(format, args...)})
}

func (c *claims) fail(what, format string, args ...any) claims {
	*c = append(*c, claim{what, logBroken, fmt.Sprintf(format, args...)})
	return *c
}

func (c claims) verdict() verdict {
	switch {
	case slices.ContainsFunc(c, func(c claim) bool { return c.Verdict == logBroken }):
		return logBroken
	case slices.ContainsFunc(c, func(c claim) bool { return c.Verdict == logWarnings }):
		return logWarnings
	}
	return logWhole
}

func (c claims) broken() bool { return c.verdict() == logBroken }

// verifyProof checks a proof without the log, and prints every claim. The exit code is that of verify.
func (a *app) verifyProof(path, keyFile, format string) error {
	keys, err := readKeys(keyFile)
	var text []byte
	if err == nil {
		text, err = readProof(path)
	}
	if err != nil {
		a.tell(err)
		return cli.ExitCode(verifyUnreadable)
	}
	found := checkProof(text, keys)
	var out bytes.Buffer
	if format == "json" {
		line, err := jsonLine(struct {
			Verdict verdict `json:"verdict"`
			Proof   string  `json:"proof"`
			Claims  claims  `json:"claims"`
		}{found.verdict(), path, found})
		if err != nil {
			return err
		}
		out.Write(line)
	} else {
		for _, c := range found {
			word := map[verdict]string{logWhole: "holds", logWarnings: "warning", logBroken: "BROKEN"}[c.Verdict]
			fmt.Fprintf(&out, "%-8s %-10s %s\n", word, c.Claim, plain(c.Text))
		}
		out.WriteString(map[verdict]string{
			logWhole:    "the proof holds\n",
			logWarnings: "the proof holds, with warnings\n",
			logBroken:   "THE PROOF DOES NOT HOLD\n",
		}[found.verdict()])
	}
	if _, err := out.WriteTo(a.out); err != nil {
		return err
	}
	if code := found.verdict().exit(); code != 0 {
		return cli.ExitCode(code)
	}
	return nil
}

// readProof reads a file, and not more of it than a proof can have.
func readProof(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it waits for no pipe
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, proofMost+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	return text, nil
}

// checkProof judges every claim of a proof, up to the first that is broken. It trusts the keys and
// nothing else.
func checkProof(text []byte, keys []signingKey) (found claims) {
	p, err := parseProofFile(text)
	if err != nil {
		return found.fail("form", "not a proof: %v", err)
	}
	found.holds("form", "%s of run %s, %s", p.Form, p.RunID, counted(len(p.Records), "record"))
	signed, err := parseCheckpoint([]byte(p.Checkpoint), keys)
	if err == nil {
		err = onlySignature(p.Checkpoint, signed)
	}
	if err != nil {
		return found.fail("signature", "checkpoint: %v", err)
	}
	found.holds("signature", "%s has signed at %s what the log %s was: %s, root %s", signed.signer, signed.time.UTC().Format(time.RFC3339), signed.origin,
		counted(uint64(signed.tree.N), "record"), signed.tree.Hash)

	records := make([]audit.Record, len(p.Records))
	for i, r := range p.Records {
		if err := json.Unmarshal([]byte(r.Line), &records[i]); err != nil {
			return found.fail("record", "line %d is not a record: %v", i+1, err)
		}
		seq := records[i].Seq
		if err := tlog.CheckRecord(r.Path, signed.tree.N, signed.tree.Hash, r.Index, tlog.RecordHash([]byte(r.Line))); err != nil {
			return found.fail("record", "record %d is not number %d of what was signed: it or its path was changed", seq, r.Index)
		}
		found.holds("record", "record %d is number %d of these, counted from 0: %s", seq, r.Index, aboutRecord(records[i]))
	}
	if why := notOneRun(p, records); why != "" {
		return found.fail("run", "%s", why)
	}
	joined := ""
	if len(records) > 1 {
		joined = fmt.Sprintf("; %s between them", counted(uint64(p.Records[len(records)-1].Index-p.Records[0].Index)-uint64(len(records)-1), "other record"))
	}
	found.holds("run", "all are of run %s, from the same user and of the same code%s", p.RunID, joined)
	if first := records[0].Event.Action; first != audit.ExecutionStart && first != audit.ExecutionDenied {
		found.warn("run", "the start of the run is not in the proof: retention had removed it")
	}
	return checkCode(p, records[0].Code, found)
}

// checkCode judges the code of a proof.
func checkCode(p proof, recorded audit.Code, found claims) claims {
	if p.Code == nil {
		found.holds("code", "the code is not in the proof; what was run is code with SHA-256 %s", cmp.Or(recorded.SHA256, "unknown"))
		return found
	}
	code, err := base64.StdEncoding.Strict().DecodeString(*p.Code)
	if err != nil {
		return found.fail("code", "not base64: %v", err)
	}
	sum := sha256.Sum256(code)
	if got := hex.EncodeToString(sum[:]); got != recorded.SHA256 || int64(len(code)) != recorded.Bytes {
		return found.fail("code", "it is not what was run: %s with SHA-256 %s, and the records say %d and %s", counted(len(code), "byte"), got, recorded.Bytes, recorded.SHA256)
	}
	found.holds("code", "%s, with the SHA-256 that the records have: %s", counted(len(code), "byte"), recorded.SHA256)
	return found
}

// parseProofFile reads a proof. There is one text for each proof: any other is refused.
func parseProofFile(text []byte) (p proof, err error) {
	if len(text) > proofMost {
		return p, fmt.Errorf("longer than %d MB", proofMost>>20)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("JSON: %w", err)
	}
	again, err := p.encode()
	if err == nil && !bytes.Equal(again, text) {
		at := 0
		for at < min(len(again), len(text)) && again[at] == text[at] {
			at++
		}
		err = fmt.Errorf("byte %d is not as audit proof writes it", at)
	}
	switch {
	case err != nil:
	case p.Form != proofForm:
		err = fmt.Errorf("form %q, want %q", p.Form, proofForm)
	case len(p.Records) == 0 || len(p.Records) > proofRecords:
		err = fmt.Errorf("%s, want 1 to %d", counted(len(p.Records), "record"), proofRecords)
	}
	return p, err
}

// onlySignature refuses a note with anything beside the one signature, and a signature in another
// spelling: base64 has several for the same bytes.
func onlySignature(text string, c checkpoint) error {
	if _, err := base64.StdEncoding.Strict().DecodeString(c.signature.Base64); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	alone, err := note.Sign(&note.Note{Text: c.signedText, Sigs: []note.Signature{c.signature}})
	if err == nil && string(alone) != text {
		err = errors.New("it has more than one signature")
	}
	return err
}

// notOneRun says why records are not those of one run, in their order; empty: they are.
func notOneRun(p proof, records []audit.Record) string {
	for i, r := range records {
		last := i == len(records)-1
		switch a := r.Event.Action; {
		case r.RunID != p.RunID:
			return fmt.Sprintf("record %d is of run %s, not of %s", r.Seq, r.RunID, p.RunID)
		case !partOfRun(a) || a == audit.ExecutionStart && i > 0 || endsRun(a) && !last || last && !endsRun(a):
			return fmt.Sprintf("record %d, %s, has no place there: want the start, what was recorded meanwhile, and the end", r.Seq, a)
		}
		if i == 0 {
			continue
		}
		before := records[i-1]
		sum := sha256.Sum256([]byte(p.Records[i-1].Line))
		switch hash := hex.EncodeToString(sum[:]); {
		case p.Records[i].Index <= p.Records[i-1].Index || r.Seq <= before.Seq:
			return fmt.Sprintf("record %d does not come after record %d", r.Seq, before.Seq)
		case r.Seq == before.Seq+1 && r.Prev != hash:
			return fmt.Sprintf("record %d does not go on from record %d: its prev is another hash", r.Seq, before.Seq)
		case endsRun(r.Event.Action) && (r.Code.SHA256 != records[0].Code.SHA256 || r.Code.Bytes != records[0].Code.Bytes || r.User.Name != records[0].User.Name) && records[0].Event.Action == audit.ExecutionStart:
			return fmt.Sprintf("record %d is of another user or other code than record %d", r.Seq, records[0].Seq)
		}
	}
	return ""
}

// aboutRecord is what a record says, for people.
func aboutRecord(r audit.Record) string {
	words := []string{string(r.Event.Action) + " at " + r.Timestamp}
	add := func(what, value string) {
		if value != "" {
			words = append(words, what+value)
		}
	}
	add("user ", named(r.User.Name, store.Asserted(r)))
	add("key ", r.Auth.KeyID)
	add("script ", scriptOf(r.Script.Name, r.Script.Version))
	add("labels ", shortLabels(r.Labels))
	add("status ", r.Status)
	add("reason ", r.Event.Reason)
	return strings.Join(words, ", ")
}
