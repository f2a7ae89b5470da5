package ctl

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/cli"
)

// Exit codes of verify.
const (
	verifyWarnings   = 1
	verifyBroken     = 2
	verifyUnreadable = 3
)

// A verification says what verify compares the log with.
type verification struct {
	receipts, checkpoints, keys string // two files and a directory; empty: nothing
}

func (with *verification) flags(c *cobra.Command) {
	c.Flags().StringVar(&with.receipts, "receipts", "", "CSV `file` of receipts that somebody else keeps")
	c.Flags().StringVar(&with.checkpoints, "checkpoints", "", "`directory` of checkpoints that somebody else keeps")
	c.Flags().StringVar(&with.keys, "key", "", "`file` of the public keys for the checkpoints, as keygen writes it")
}

func (with *verification) check() error {
	if (with.checkpoints == "") != (with.keys == "") {
		return cli.Usagef("requires --checkpoints and --key together: a checkpoint without its signature proves nothing")
	}
	return nil
}

func (a *app) verify() *cobra.Command {
	var with verification
	var format, proof string
	c := &cobra.Command{
		Use: "verify", Short: "Check that the log is whole", Args: cobra.NoArgs,
		Long: `Checks the form of every line, the chain through all segments, that every run has a start and an
end, what the log says about repairs and removals, and that kept code is the code that was run. It
writes nothing, and runs can go on meanwhile.

The chain only proves that the log is consistent. Somebody who may write the log could cut its end,
or make all of it again. What other people keep shows that:

  --receipts FILE     a CSV file whose first line names the columns run_id, seq and hash (audit.seq
                      and audit.hash of each result)
  --checkpoints DIR   checkpoints that py3runctl audit checkpoint has signed; --key names the file
                      with the public keys

  --proof FILE        what py3runctl audit proof has written of one run: the file and the public key
                      are all that it takes. Each claim is printed

The last lines say which records form one chain, up to which record a receipt or checkpoint proves
them, and how many records nothing else proves. A finding that somebody has acknowledged (py3runctl
audit acknowledge) is still shown, and counts as a warning.

Exit status: 0 the log is whole; 1 warnings (nothing is lost), or no record at all; 2 broken
(records were changed, removed or inserted); 3 something could not be read, so verify cannot tell.`,
		Example: "  py3runctl audit verify\n  py3runctl audit verify --receipts gateway.csv --format json\n" +
			"  py3runctl audit verify --checkpoints /mnt/witness/gw-a --key py3run-checkpoint.key.pub\n" +
			"  py3runctl audit verify --proof run.json --key py3run-checkpoint.key.pub",
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if proof != "" && with.checkpoints+with.receipts != "" {
				return cli.Usagef("invalid argument --proof: not with --receipts or --checkpoints, which are compared with the log")
			}
			if proof != "" && with.keys == "" {
				return cli.Usagef("requires --key with --proof: without the key that has signed it a proof proves nothing")
			}
			if proof != "" {
				return a.verifyProof(proof, with.keys, format)
			}
			if err := with.check(); err != nil {
				return err
			}
			d, err := a.logContext()
			var rep verified
			if err == nil {
				rep, err = d.verify(with)
			}
			if err != nil {
				a.tell(err)
				return cli.ExitCode(verifyUnreadable)
			}
			if cmp.Or(format, "text") == "json" {
				err = printReportJSON(d.out, rep)
			} else {
				err = printReport(d.out, rep)
			}
			if err != nil {
				return err
			}
			if code := rep.verdict().exit(); code != 0 {
				return cli.ExitCode(code)
			}
			return nil
		},
	}
	with.flags(c)
	c.Flags().StringVar(&proof, "proof", "", "check this `file` of audit proof instead, without any log; --key names the file with the public keys")
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// verify verifies the log, and shows on a terminal how far that is.
func (d logContext) verify(with verification) (verified, error) {
	defer d.endProgress()
	return d.verifyTelling(with, d.progress())
}

// verifyTelling reads what other people keep before it reads the log, so that the log must have all of it.
func (d logContext) verifyTelling(with verification, tell func(audit.Progress) error) (rep verified, err error) {
	check := audit.Check{Progress: tell}
	if with.receipts != "" {
		f, err := os.Open(with.receipts)
		if err != nil {
			return rep, err
		}
		defer f.Close()
		if check.Witnesses, err = readReceipts(f, with.receipts); err != nil {
			return rep, fmt.Errorf("read %s: %w", with.receipts, err)
		}
	}
	var checkpoints []checkpoint
	var findings []audit.Finding
	if with.checkpoints != "" {
		keys, err := readKeys(with.keys)
		if err != nil {
			return rep, err
		}
		if checkpoints, findings, err = readCheckpoints(with.checkpoints, keys); err != nil {
			return rep, err
		}
		check.Tree = true
		for _, c := range checkpoints {
			check.Sizes = append(check.Sizes, uint64(c.tree.N))
		}
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return rep, err
	}
	defer r.Close()
	if rep.Report, err = r.Verify(check); err == nil {
		for _, f := range findings {
			rep.Add(f)
		}
		rep.checkpoints, rep.signedTo = compareCheckpoints(checkpoints, rep.Report)
	}
	return rep, err
}

// endProgress removes the line of progress.
func (d logContext) endProgress() {
	if d.errIsTerminal {
		fmt.Fprint(d.err, "\r\x1b[K")
	}
}

// progress shows on a terminal how far the reading is, once it takes longer than a second.
func (d logContext) progress() func(audit.Progress) error {
	if !d.errIsTerminal {
		return nil
	}
	next := time.Now().Add(time.Second)
	return func(p audit.Progress) error {
		if now := time.Now(); p.Total > 0 && now.After(next) {
			next = now.Add(200 * time.Millisecond)
			fmt.Fprintf(d.err, "\rread %d of %d MB ", p.Bytes>>20, p.Total>>20)
		}
		return nil
	}
}

// readReceipts reads a CSV file. Its header has the columns seq and hash, perhaps run_id, and any
// others, in any order.
func readReceipts(from io.Reader, name string) ([]audit.Witness, error) {
	rows := csv.NewReader(from)
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	column := func(name string) int {
		return slices.IndexFunc(header, func(h string) bool {
			return strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(h, "\uFEFF")), name)
		})
	}
	seq, hash, run := column("seq"), column("hash"), column("run_id")
	if seq < 0 || hash < 0 {
		return nil, fmt.Errorf("the first line has to name the columns seq and hash, and has %s", plain(strings.Join(header, ",")))
	}
	var list []audit.Witness
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := rows.FieldPos(0)
		at := func(i int) string {
			if i < 0 || i >= len(row) {
				return ""
			}
			return strings.TrimSpace(row[i])
		}
		w := audit.Witness{Source: fmt.Sprintf("%s:%d", name, line), RunID: at(run), Hash: strings.ToLower(at(hash))}
		if w.Seq, err = strconv.ParseUint(at(seq), 10, 64); err != nil || w.Seq == 0 || len(w.Hash) != 64 || strings.Trim(w.Hash, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("line %d: want a seq above 0 and a hash of 64 hexadecimal digits", line)
		}
		list = append(list, w)
	}
}
