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

// A verification is what verify is to compare the log with.
type verification struct {
	receipts, checkpoints, keys string // files and a directory, empty: nothing
}

func (with *verification) flags(c *cobra.Command) {
	c.Flags().StringVar(&with.receipts, "receipts", "", "CSV `file` of receipts that somebody else has kept")
	c.Flags().StringVar(&with.checkpoints, "checkpoints", "", "`directory` of checkpoints that somebody else has kept")
	c.Flags().StringVar(&with.keys, "key", "", "`file` of the public keys they are signed with, as keygen makes it")
}

func (with *verification) check() error {
	if (with.checkpoints == "") != (with.keys == "") {
		return cli.Usagef("requires --checkpoints and --key together: a checkpoint is worth what its signature is")
	}
	return nil
}

// verified is what it found.
type verified struct {
	*audit.Report
	checkpoints int    // that were compared
	signedTo    uint64 // newest record of a checkpoint that the log begins with
}

// A verdict is what comes of all findings.
type verdict string

// The verdicts, as JSON has them.
const (
	logWhole      verdict = "ok"
	logEmpty      verdict = "empty"   // of no record nothing can be said
	logWarnings   verdict = "warning" // also broken where somebody has looked into it
	logBroken     verdict = "broken"
	logUnreadable verdict = "unreadable" // and what was read is not broken
)

// verdict lets what is broken count more than what could not be read: that will not mend it.
func (rep verified) verdict() verdict {
	unread := rep.Omitted[audit.Unreadable] > 0
	broken := rep.Omitted[audit.Broken] > 0
	for _, f := range rep.Findings {
		broken = broken || f.Severity == audit.Broken && f.Acknowledged == nil
		unread = unread || f.Severity == audit.Unreadable
	}
	switch {
	case broken:
		return logBroken
	case unread:
		return logUnreadable
	case rep.Records == 0:
		return logEmpty
	case rep.Open() == audit.Warning:
		return logWarnings
	}
	return logWhole
}

func (v verdict) exit() int {
	switch v {
	case logBroken:
		return verifyBroken
	case logUnreadable:
		return verifyUnreadable
	case logEmpty, logWarnings:
		return verifyWarnings
	}
	return 0
}

// inWords is the verdict's last line. A log is whole only where nothing speaks against it: a writer that lost its note cannot tell what was cut.
func (rep verified) inWords() string {
	acknowledged, forgotten := 0, false
	for _, f := range rep.Findings {
		if f.Severity == audit.Broken && f.Acknowledged != nil {
			acknowledged++
		}
		forgotten = forgotten || f.Kind == audit.MemoryMissing
	}
	switch v := rep.verdict(); {
	case v == logBroken:
		return "THE LOG IS BROKEN"
	case v == logUnreadable:
		return "cannot verify: the log cannot be read as a whole; what was read of it is not broken"
	case v == logEmpty:
		return "there is no record: nothing can be said of an empty log"
	case acknowledged > 0:
		return fmt.Sprintf("the log is broken in %d places that somebody has looked into, and nowhere else", acknowledged)
	case forgotten:
		return "the log is consistent; whether records were cut from it only a receipt or a checkpoint can tell"
	case v == logWarnings:
		return "the log is whole, with warnings"
	}
	return "the log is whole"
}

// reach is how far what was found goes.
type reach struct {
	From     uint64 `json:"from"` // records of one chain
	To       uint64 `json:"to"`
	ProvedBy string `json:"proved_by,omitempty"` // receipt or checkpoint
	ProvedTo uint64 `json:"proved_to"`           // 0: nothing is
	Unproved uint64 `json:"unproved"`            // records behind that, which only the log itself speaks for
}

// reach is nil where there is no one chain.
func (rep verified) reach() *reach {
	if rep.Records == 0 || len(rep.Unread) > 0 || rep.Count(audit.Broken) > 0 {
		return nil
	}
	r := &reach{From: rep.First.Seq, To: rep.Last.Seq}
	if r.ProvedTo = max(rep.ProvedTo, rep.signedTo); r.ProvedTo > 0 {
		r.ProvedBy = "receipt"
		if rep.signedTo >= rep.ProvedTo {
			r.ProvedBy = "checkpoint"
		}
	}
	r.Unproved = r.To - min(r.To, max(r.ProvedTo, r.From-1))
	return r
}

func (r *reach) String() string {
	proof := "proved by no receipt and no checkpoint"
	if r.ProvedTo > 0 {
		proof = fmt.Sprintf("proved by %s up to %s", r.ProvedBy, thousands(r.ProvedTo))
	}
	return fmt.Sprintf("consistent from record %s to %s; %s; %s by nothing but themselves", thousands(r.From), thousands(r.To), proof, thousands(r.Unproved))
}

// thousands is a number for people: 998,749.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
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

The last lines say how far that reaches: which records are one chain, up to where a receipt or checkpoint proves them, and how many speak only for themselves. What somebody has looked
into (py3runctl audit acknowledge) stays, and counts as a warning.

Exit status: 0 all is well, 1 warnings (nothing is lost), or no record at all, 2 broken (records were changed, removed or put in), 3 it cannot tell, because something could not be read.`,
		Example: "  py3runctl audit verify\n  py3runctl audit verify --receipts gateway.csv --format json\n" +
			"  py3runctl audit verify --checkpoints /mnt/witness/gw-a --key py3run-checkpoint.key.pub",
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
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
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// verify reads what others have kept before it looks at the log, which then has to have it all.
func (d logContext) verify(with verification) (rep verified, err error) {
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
		rep.checkpoints, rep.signedTo = compareCheckpoints(checkpoints, rep.Report)
	}
	d.endProgress()
	return rep, err
}

// endProgress takes the progress away.
func (d logContext) endProgress() {
	if d.errIsTerminal {
		fmt.Fprint(d.err, "\r\x1b[K")
	}
}

// progress shows how far a long reading is, on a terminal and from the second second on.
func (d logContext) progress() func(done, total int64) {
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
		if f.Severity > audit.Note {
			explained += " id " + f.ID
		}
		if f.Acknowledged != nil {
			explained += plain(fmt.Sprintf(" (%s)", f.Acknowledged))
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
	if r := rep.reach(); r != nil {
		fmt.Fprintf(&b, "\n%s", r)
	}
	b.WriteString("\n" + rep.inWords() + "\n")
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
		Verdict   verdict          `json:"verdict"`
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
		Reach     *reach           `json:"reach,omitempty"`
		Unread    []string         `json:"unread,omitempty"`
		Findings  []audit.Finding  `json:"findings"`
		Omitted   map[string]int   `json:"omitted,omitempty"`
	}{rep.verdict(), rep.Dir, rep.Records, rep.Bytes, rep.First, rep.Last, rep.FirstTime, rep.LastTime, rep.Alive, rep.Orphaned, rep.Witnesses, rep.checkpoints, rep.Code,
		rep.Segments, rep.Pruned, rep.reach(), rep.Unread, findings, omitted})
	if err != nil {
		return err
	}
	_, err = to.Write(line)
	return err
}
