package launch

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkKeeper measures one request to a kept interpreter, records included, beside the least that is
// possible without isolation: an interpreter that answers lines.
func BenchmarkKeeper(b *testing.B) {
	root := b.TempDir()
	k := NewKeeper()
	job := testJob(b, root, "result = 1 + 1")
	job.Series = NewSeries(false)
	defer job.Series.Close()
	defer k.Close()
	run := func() {
		job.Began = time.Now()
		answer := k.Run(job)
		if string(answer.Result.Result) != "2" {
			b.Fatalf("%s %+v", answer.Result.Result, answer.Result.Failure)
		}
		answer.Sweep()
	}
	b.Run("kept", func(b *testing.B) {
		run()
		before := processor()
		median(b, run)
		b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	})
	b.Run("without records", func(b *testing.B) {
		job.Config.Security.Audit.Enabled = false
		run()
		before := processor()
		median(b, run)
		b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	})
	b.Run("two fdatasync", func(b *testing.B) {
		f, err := os.Create(root + "/synced")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		line := make([]byte, 1500)
		median(b, func() {
			for range 2 {
				f.Write(line)
				unix.Fdatasync(int(f.Fd()))
			}
		})
	})
	b.Run("line", func(b *testing.B) {
		const script = "import sys, json\nnames = {}\nfor line in sys.stdin:\n    q = json.loads(line)\n    exec(q['code'], names)\n    sys.stdout.write(json.dumps({'success': True, 'result': names.get('result')}) + '\\n'); sys.stdout.flush()"
		c := exec.Command(interpreter(b), "-u", "-c", script)
		in, _ := c.StdinPipe()
		out, _ := c.StdoutPipe()
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		lines := bufio.NewReader(out)
		median(b, func() {
			io.WriteString(in, "{\"code\": \"result = 1 + 1\"}\n")
			if s, err := lines.ReadString('\n'); err != nil || s != "{\"success\": true, \"result\": 2}\n" {
				b.Fatal(s, err)
			}
		})
		in.Close()
		c.Wait()
	})
}

// median runs a function again and again, and reports the median of its times: on a busy machine the
// mean says little.
func median(b *testing.B, run func()) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		run()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
}

// processor is the processor time of this process.
func processor() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
