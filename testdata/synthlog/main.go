// Synthlog writes an audit log of runs that never happened, as large as a test of the operators' tools needs it:
//
//	go run ./testdata/synthlog --runs 200000 --days 60 --out DIR [--seed N] [--end TIME]
//
// The chain is right, so that py3runctl audit verify finds nothing, and py3run can go on with the log. The same flags
// write the same log.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	var s site
	out := flag.String("out", "", "`directory` of the log; it is made, and must not have a log")
	end := flag.String("end", "", "`time` of the newest record, in RFC 3339 (default: now)")
	flag.IntVar(&s.runs, "runs", 10_000, "number of runs")
	flag.IntVar(&s.days, "days", 60, "days in which they began")
	flag.IntVar(&s.users, "users", 40, "number of users")
	flag.IntVar(&s.scripts, "scripts", 30, "number of stored scripts")
	flag.Uint64Var(&s.seed, "seed", 1, "another number makes another log")
	flag.Parse()
	if err := run(s, *out, *end); err != nil {
		fmt.Fprintln(os.Stderr, "synthlog:", err)
		os.Exit(1)
	}
}

func run(s site, out, end string) error {
	if out == "" || flag.NArg() > 0 || s.runs < 1 || s.days < 1 || s.users < 1 || s.scripts < 1 {
		return fmt.Errorf("want --out DIR, and numbers above 0")
	}
	s.end = time.Now().UTC()
	if end != "" {
		var err error
		if s.end, err = time.Parse(time.RFC3339, end); err != nil {
			return err
		}
	}
	began := time.Now()
	w, err := create(out)
	if err != nil {
		return err
	}
	s.live(w)
	if err := w.close(); err != nil {
		return err
	}
	fmt.Printf("%d records in %d segments, %d MB, in %v\n", w.seq, w.segments, w.bytes>>20, time.Since(began).Round(time.Millisecond))
	return nil
}
