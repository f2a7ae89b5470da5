package ctl

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
)

// Exit codes of verify.
const (
	verifyWarnings   = 1
	verifyBroken     = 2
	verifyUnreadable = 3
)

// A verification is what verify is to compare the log with.
type verification struct {
	receipts, checkpoints, keys string // files and a directory, empty: nothing
}

// verified is what it found.
type verified struct {
	*audit.Report
	checkpoints int // that were compared
}

func (a *app) verify() *cobra.Command {
	var with verification
	var format string
	c := &cobra.Command{
		Use: "verify", Short: "Check that the log is whole", Args: cobra.NoArgs,
		Long: `Checks the form of every line, the chain through all segments, that every run has a start and an end, what the log says of repairs and removals, and that kept code is what
was run. It writes nothing, and runs can go on meanwhile.

The chain proves that the log is consistent. That nothing was cut from its end, and that nobody has made it anew, is proved by what others keep: --receipts compares a CSV
file with the columns run_id, seq and hash (audit.seq and audit.hash of each result), whose first line names them; --checkpoints compares what py3runctl audit checkpoint has signed,
with the public keys of --key.

Exit status: 0 all is well, 1 warnings (nothing is lost), 2 broken (records were changed, removed or put in), 3 not readable.`,
		Example: "  py3runctl audit verify\n  py3runctl audit verify --receipts gateway.csv --format json\n" +
			"  py3runctl audit verify --checkpoints /mnt/witness/gw-a --key py3run-checkpoint.key.pub",
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if (with.checkpoints == "") != (with.keys == "") {
				return errors.New("requires --checkpoints and --key together: a checkpoint is worth what its signature is")
			}
			d, err := a.desk()
			var rep verified
			if err == nil {
				rep, err = d.verify(with)
			}
			if err != nil {
				a.tell(err)
				return exitCode(verifyUnreadable)
			}
			if cmp.Or(format, "text") == "json" {
				err = printReportJSON(d.out, rep)
			} else {
				err = printReport(d.out, rep)
			}
			if err != nil {
				return err
			}
			switch rep.Worst() {
			case audit.Warning:
				return exitCode(verifyWarnings)
			case audit.Broken:
				return exitCode(verifyBroken)
			case audit.Unreadable:
				return exitCode(verifyUnreadable)
			}
			return nil
		},
	}
	c.Flags().StringVar(&with.receipts, "receipts", "", "CSV `file` of receipts that somebody else has kept")
	c.Flags().StringVar(&with.checkpoints, "checkpoints", "", "`directory` of checkpoints that somebody else has kept")
	c.Flags().StringVar(&with.keys, "key", "", "`file` of the public keys they are signed with, as keygen makes it")
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// verify reads what others have kept before it looks at the log, which then has to have it all.
func (d desk) verify(with verification) (rep verified, err error) {
	check := audit.Check{Progress: d.progress()}
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
		rep.checkpoints = compareCheckpoints(checkpoints, rep.Report)
	}
	d.endProgress()
	return rep, err
}

// endProgress takes the progress away.
func (d desk) endProgress() {
	if d.errIsTerminal {
		fmt.Fprint(d.err, "\r\x1b[K")
	}
}

// progress shows how far a long reading is, on a terminal and from the second second on.
func (d desk) progress() func(done, total int64) {
	if !d.errIsTerminal {
		return nil
	}
	next := time.Now().Add(time.Second)
	return func(done, total int64) {
		if now := time.Now(); total > 0 && now.After(next) {
			next = now.Add(200 * time.Millisecond)
			fmt.Fprintf(d.err, "\rread %d of %d MB ", done>>20, total>>20)
		}
	}
}

// readReceipts reads a CSV file with a header that has the columns seq and hash, and perhaps run_id, in any order among others.
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

func printReport(to io.Writer, rep verified) error {
	var b strings.Builder
	for _, f := range rep.Findings {
		place := f.Segment
		if f.Line > 0 {
			place += ":" + strconv.Itoa(f.Line)
		}
		if place != "" {
			place += ": "
		}
		if record := fmt.Sprintf("record %d", f.Seq); f.Seq > 0 && !strings.HasPrefix(f.Message, record) {
			place += record + ": "
		}
		explained := ""
		if f.Explained {
			explained = " (the log tells it)"
		}
		fmt.Fprintf(&b, "%-10s %s%s [%s]%s\n", f.Severity, plain(place), plain(f.Message), f.Kind, explained)
	}
	for _, s := range []audit.Severity{audit.Note, audit.Warning, audit.Broken, audit.Unreadable} {
		if n := rep.Omitted[s]; n > 0 {
			fmt.Fprintf(&b, "%-10s and %d more of these\n", s, n)
		}
	}
	fmt.Fprintf(&b, "%d records in %d segments, %d MB", rep.Records, len(rep.Segments), rep.Bytes>>20)
	if rep.Records > 0 {
		fmt.Fprintf(&b, ", number %d to %d, %s to %s", rep.First.Seq, rep.Last.Seq, rep.FirstTime.UTC().Format(time.RFC3339), rep.LastTime.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "; %d runs under way", rep.Alive)
	if rep.Pruned != nil {
		fmt.Fprintf(&b, "; what was before was removed by retention")
	}
	if rep.Witnesses > 0 {
		fmt.Fprintf(&b, "; %d receipts compared", rep.Witnesses)
	}
	if rep.Code > 0 {
		fmt.Fprintf(&b, "; %d files of kept code compared", rep.Code)
	}
	if rep.checkpoints > 0 {
		fmt.Fprintf(&b, "; %d checkpoints compared", rep.checkpoints)
	}
	switch rep.Worst() {
	case audit.Note:
		b.WriteString("\nthe log is whole\n")
	case audit.Warning:
		b.WriteString("\nthe log is whole, with warnings\n")
	case audit.Broken:
		b.WriteString("\nTHE LOG IS BROKEN\n")
	default:
		b.WriteString("\nthe log cannot be read as a whole\n")
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func printReportJSON(to io.Writer, rep verified) error {
	findings := rep.Findings
	if findings == nil {
		findings = []audit.Finding{}
	}
	omitted := map[string]int{}
	for s, n := range rep.Omitted {
		omitted[s.String()] = n
	}
	line, err := jsonLine(struct {
		Verdict   string           `json:"verdict"` // the worst severity; ok: none above note
		Dir       string           `json:"dir"`
		Records   uint64           `json:"records"`
		Bytes     int64            `json:"bytes"`
		First     audit.Place      `json:"first"`
		Last      audit.Place      `json:"last"`
		FirstTime time.Time        `json:"first_time"`
		LastTime  time.Time        `json:"last_time"`
		Running   int              `json:"running"`
		Orphaned  int              `json:"orphaned"`
		Receipts  int              `json:"receipts"`
		Checked   int              `json:"checkpoints"`
		Code      int              `json:"code"`
		Segments  []audit.Segment  `json:"segments"`
		Pruned    *audit.Retention `json:"pruned,omitempty"`
		Findings  []audit.Finding  `json:"findings"`
		Omitted   map[string]int   `json:"omitted,omitempty"`
	}{strings.Replace(rep.Worst().String(), "note", "ok", 1), rep.Dir, rep.Records, rep.Bytes, rep.First, rep.Last, rep.FirstTime, rep.LastTime, rep.Alive, rep.Orphaned, rep.Witnesses, rep.checkpoints, rep.Code,
		rep.Segments, rep.Pruned, findings, omitted})
	if err != nil {
		return err
	}
	_, err = to.Write(line)
	return err
}
