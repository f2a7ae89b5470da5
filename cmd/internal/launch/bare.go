package launch

import (
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// Bare is what only `python` has: py3run in the place of an interpreter. The interpreter gets the
// caller's arguments, streams and environment, and no code of py3run's. So there is no session with
// it, and no working directory of the run's.
type Bare struct {
	Args    []string // of the interpreter, from argv[0], which is the caller's; "": the interpreter's path
	Link    python.Link
	Inherit []int            // the caller's descriptors, which the interpreter gets
	Ignored []syscall.Signal // signals that stay ignored

	// Released is called when the interpreter is executed. It takes a while to start, and meanwhile
	// this process has nothing else to do.
	Released func()

	// Where the output goes if a limit on it is set: then it is copied, and counted.
	Stdout, Stderr io.Writer
	OneStream      bool

	python.CommandLine
	Source string // audit.Code.Source; Job.Source has the bytes, if they are known
	File   string // the file with the code, absolute; empty: there is none
}

// headroom is how much more memory than PYTHON3_MAX_MEMORY_MB the run may have, if that variable is its
// limit. Scripts of such callers limit their own address space by the variable. They are to get a
// MemoryError, before the kernel ends a process.
func headroom(mb float64) float64 { return max(32, mb/16) }

// bare changes the Spec for an interpreter that is to notice no launcher.
func (p Plan) bare(spec *sandbox.Spec) {
	job, b := p.Job, p.Job.Bare
	spec.Transparent, spec.Ignored, spec.DumpSignal = true, b.Ignored, 0
	spec.Args = slices.Clone(b.Args)
	if spec.Args[0] == "" {
		spec.Args[0] = spec.Path
	}
	if b.Link.Last != "" {
		spec.Links = []sandbox.Link{{Path: b.Link.Last, Target: spec.Path}}
		// sys.executable is the link. Where it leads to py3run in the run too, that has to find the same
		// interpreter without the caller's variables.
		spec.Linkless = []string{"PY3RUN_PYTHON_INTERPRETER=" + spec.Path}
	}
	if job.Origins["security.max-memory-mb"].Name == maxMemory && job.Origins["security.max-memory-mb"].Ceiling.Asked == "" {
		spec.Limits.Memory += megabytes(headroom(p.Limits.MemoryMB))
	}
}

// bareEnvironment returns the caller's environment without the variables of py3run, and with the limits
// in force in those variables by which the caller has asked for limits.
func bareEnvironment(job Job, limits wire.Limits) (environ []string) {
	for _, e := range job.Environ {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "PY3RUN_"):
			continue
		case name == maxMemory:
			e = handedOn(e, limits.MemoryMB)
		case name == maxCPU:
			e = handedOn(e, limits.CPUSeconds)
		}
		environ = append(environ, e)
	}
	return environ
}

// handedOn lowers the value of NAME=VALUE to the limit in force. A value above 1 is rounded down to a
// whole number, as scripts expect. A text that is no number stays.
func handedOn(entry string, limit float64) string {
	name, text, _ := strings.Cut(entry, "=")
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || limit == 0 || !(value > limit || value == 0) { // 0 means no limit
		return entry
	}
	if limit > 1 {
		limit = math.Floor(limit)
	}
	return name + "=" + strconv.FormatFloat(limit, 'f', -1, 64)
}

// places returns what the interpreter needs besides its own directories.
func (b *Bare) places() (paths []string) {
	for _, path := range []string{b.Link.Path, b.Link.Last, b.File} {
		if path != "" {
			paths = append(paths, filepath.Dir(path))
		}
	}
	if venv := b.Link.Path; venv != "" {
		paths = append(paths, filepath.Dir(filepath.Dir(venv)))
	}
	return paths
}

// script returns the name of the code.
func (b *Bare) script() audit.Script {
	switch {
	case b.CommandLine.Source == python.FromModule:
		return audit.Script{Name: b.Name, Source: audit.ScriptModule}
	case b.File != "" && !within("/dev", b.File) && !within("/proc", b.File):
		return audit.Script{Name: filepath.Base(b.File), Source: audit.ScriptFile, Path: b.File}
	}
	return audit.Script{}
}

// recorded returns the arguments for the record: the text of -c is in Code.
func (b *Bare) recorded() []string {
	args := slices.Clone(b.Args)
	if at := b.At + 1; b.CommandLine.Source == python.FromOption && at < len(args) {
		args[at] = args[at][:b.Begins] + "[code]"
	}
	return args
}

// startBare starts the interpreter. It is held before its execve until it is released.
func (r *run) startBare() (*program, error) {
	facts, spec := r.plan.Facts, r.plan.Spec
	r.unpinned = r.plan.makeOwn(envvar.Lookup(r.plan.Job.Environ, "HOME"))
	// Without the entry, a group would stay behind if py3run is killed. That is no reason to refuse.
	entry, err := sandbox.MakeEntry(r.plan.Dir)
	if err == nil {
		if facts.Root == "" {
			notePlace(facts.StateDir, r.plan.Dir.Root, knownPlaces(facts.StateDir))
		}
		r.held.add(func() error { entry.Leave(); return nil })
	}
	p := &program{}
	stdio := sandbox.IO{Inherit: r.plan.Job.Bare.Inherit, Entry: entry}
	if r.plan.Limits.OutputMB > 0 {
		p.outputs = newOutputs(r.plan)
		stdio.Stdout, stdio.Stderr = p.outputs.writers()
	}
	if p.running, err = sandbox.Start(spec, stdio, sandbox.OwnChild); err != nil {
		return p, err
	}
	r.held.add(func() error {
		if !p.ended {
			p.running.Kill()
			p.running.Wait(nil, nil)
		}
		return p.running.RemoveGroup()
	})
	return p, nil
}

// attendBare executes the interpreter, waits for its end, and gathers the evidence.
func (r *run) attendBare(p *program, warnings []wire.Warning) Evidence {
	if err := p.running.Release(); err != nil {
		p.running.Wait(nil, nil)
		p.ended = true
		return Evidence{Setup: err, Warnings: warnings}
	}
	setup := time.Since(r.plan.Job.Began)
	p.running.Heed(r.heed(p.running))
	if released := r.plan.Job.Bare.Released; released != nil {
		released()
	}
	o := p.running.Wait(r.plan.Job.Signals, nil)
	p.ended = true
	r.reach("ended")
	e := Evidence{Outcome: o, Started: o.Began, Cancelled: r.cancelled, Unpinned: r.unpinned, Warnings: warnings, SetupFor: setup,
		ReplyErr: python.ErrNoReply, Events: python.KernelEvents(eventsOf(o.Activity)), Uncounted: p.outputs == nil}
	if p.outputs != nil {
		p.outputs.leave(o.Undelivered)
		e.Printed, e.Overflow, e.Lost = p.outputs.printed(), p.outputs.overflow(), p.outputs.lost()
		e.Streams = p.outputs.digestsOf(r.plan.Job.Config.Security.Audit.LogOutput == "head")
	}
	return e
}
