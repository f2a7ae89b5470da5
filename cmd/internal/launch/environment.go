package launch

import (
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
)

// environment returns the environment of the program.
func (p Plan) environment() []string {
	if p.Job.Bare != nil {
		return bareEnvironment(p.Job, p.Limits)
	}
	return environment(p.Job, p.Limits, p.Dir.Path)
}

// environment returns the caller's variables that are on the allow list, and those that the run sets.
func environment(job Job, limits wire.Limits, workdir string) []string {
	var env []string
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	keep := append([]string{"PYTHON3_DATA_DIR"}, job.Config.Security.Isolation.EnvKeep...)
	numeric := []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"}
	keep = append(keep, numeric...)
	if job.Live != nil && job.Live.Terminal != nil {
		keep = append(keep, ofTerminals...)
	}
	for _, e := range job.Environ {
		name, _, _ := strings.Cut(e, "=")
		if name == "TMPDIR" || strings.HasPrefix(name, "PY3RUN_") || name == maxMemory || name == maxCPU || has(name) {
			continue
		}
		if slices.ContainsFunc(keep, func(pattern string) bool {
			start, open := strings.CutSuffix(pattern, "*")
			return name == pattern || open && strings.HasPrefix(name, start)
		}) {
			env = append(env, e)
		}
	}
	env = append(env, "TMPDIR="+workdir)
	for _, e := range []string{limitVariable(job, maxMemory, limits.MemoryMB), limitVariable(job, maxCPU, limits.CPUSeconds)} {
		if e != "" {
			env = append(env, e)
		}
	}
	// Numeric libraries start one thread for each core, and malloc gives each thread an arena. On a
	// large host that alone exceeds the limits on processes and memory. So give these libraries a
	// quarter of the process limit.
	threads := runtime.NumCPU()
	if limits.Processes > 0 {
		threads = max(1, min(threads, int(limits.Processes)/4))
	}
	for _, name := range numeric[:3] {
		if !has(name) {
			env = append(env, name+"="+strconv.Itoa(threads))
		}
	}
	if limits.MemoryMB > 0 && !has("MALLOC_ARENA_MAX") {
		env = append(env, "MALLOC_ARENA_MAX=2")
	}
	return env
}

// ofTerminals are variables that say what the caller's terminal is and can do.
var ofTerminals = []string{"TERM", "COLORTERM", "NO_COLOR", "TERMINFO", "TERMINFO_DIRS"}

// Variables by which callers tighten the limits of every Python that they start. The configuration reads
// them, and so do scripts that set such limits themselves.
const maxMemory, maxCPU = "PYTHON3_MAX_MEMORY_MB", "PYTHON3_MAX_CPU_SECONDS"

// limitVariable returns the variable for the code as NAME=VALUE. VALUE is the caller's, or the limit in
// force if that is smaller. A value above 1 is rounded down to a whole number, as scripts expect.
// Without a limit in force it returns "".
func limitVariable(job Job, name string, limit float64) string {
	value, err := strconv.ParseFloat(envvar.Lookup(job.Environ, name), 64)
	if err != nil || limit == 0 || !(value >= 0) {
		return ""
	}
	if value == 0 || value > limit { // the caller's 0 means no limit
		value = limit
	}
	if value > 1 {
		value = math.Floor(value)
	}
	return name + "=" + strconv.FormatFloat(value, 'f', -1, 64)
}
