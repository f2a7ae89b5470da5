package launch

import (
	"os"
	"strings"
	"syscall"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// heed returns what the launcher does now and then while a run lasts, for [sandbox.Running.Heed]; nil:
// nothing. It lets py3runctl ps see the run, and looks whether py3runctl cancel wants it to end. Who
// that was is in r.cancelled then. A run that leaves no records can be neither seen nor cancelled.
//
// Whatever waits for a run calls it, with what it waits for, and gives r.cancelled to the Evidence.
func (r *run) heed(running interface {
	Traces() (init int, group []string)
}) func() syscall.Signal {
	if r.record == nil || r.record.run == nil {
		return nil
	}
	record, told := r.record.run, false
	return func() syscall.Signal {
		if !told {
			told = true
			init, group := running.Traces()
			namespace, _ := os.Readlink("/proc/self/ns/pid")
			record.Tell(audit.Live{Launcher: os.Getpid(), Init: init, Namespace: namespace, Group: group})
		}
		if r.cancelled = record.Cancelled(); r.cancelled == nil {
			return 0
		}
		return syscall.SIGTERM
	}
}

// cancelledBy describes the end of a run that somebody else than the caller wanted.
func cancelledBy(by *audit.Record) *wire.Failure {
	f := &wire.Failure{Code: "cancelled_by_operator", Message: "cancelled: by " + by.User.Name + " with py3runctl cancel"}
	if by.Cancel != nil && by.Cancel.Reason != "" {
		f.Message += ": " + strings.Join(strings.Fields(by.Cancel.Reason), " ")
	}
	return f
}
