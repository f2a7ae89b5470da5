package launch

import (
	"fmt"
	"strings"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
)

// limitsOf returns the limits of a configuration.
func limitsOf(c config.Security) wire.Limits {
	return wire.Limits{
		TimeoutSeconds: c.ExecutionTimeoutSeconds, CPUSeconds: c.MaxCPUSeconds, MemoryMB: c.MaxMemoryMB, Processes: float64(c.MaxProcesses),
		OutputMB: c.MaxOutputSizeMB, FileMB: c.MaxFileSizeMB, DiskMB: c.MaxDiskMB, IdleSeconds: c.IdleTimeoutSeconds,
	}
}

// Effective returns the limits of a run: those of the configuration, tightened by the request. If the
// request asks for more than the configuration allows, a warning says so.
func Effective(c config.Security, asked wire.Limits) (wire.Limits, []wire.Warning) {
	limits := limitsOf(c)
	var warnings []wire.Warning
	for _, name := range wire.LimitNames() {
		most, _ := limits.Get(name)
		want, _ := asked.Get(name)
		switch {
		case want == 0: // not given
		case most == 0 || want <= most:
			limits.Set(name, want)
		default:
			warnings = append(warnings, wire.Warning{Code: "clamped_limit",
				Message: fmt.Sprintf("%s: %v asked, the configuration allows %v", name, want, most)})
		}
	}
	return limits, warnings
}

// limitsInForce returns the limits of a job, and the job's warnings with those of clamped limits. These
// also say who can raise the limit.
func limitsInForce(job Job) (wire.Limits, []wire.Warning) {
	limits, clamped := Effective(job.Config.Security, job.Request.Limits)
	warnings := job.Warnings[:len(job.Warnings):len(job.Warnings)]
	for _, w := range clamped {
		name, _, _ := strings.Cut(w.Message, ":")
		w.Message += whoCanRaise(name, job.Origins)
		warnings = append(warnings, w)
	}
	return limits, warnings
}
