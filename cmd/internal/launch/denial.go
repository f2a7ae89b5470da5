package launch

import (
	"errors"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// recordDenial writes the record of a run that was denied, unless a summary will have it. It has the
// reason's own code, which can be more than the caller learns. That there is no record is no reason to
// let the run begin.
func (r *run) recordDenial(refused refusal) (*audit.Receipt, []wire.Warning) {
	p := r.plan
	if !p.Job.Request.Command.RunsCode() {
		return nil, nil
	}
	p.Limits, _ = Effective(p.Job.Config.Security, p.Job.Request.Limits)
	if !p.Job.Config.Security.Audit.Enabled {
		return nil, recordPolicy(p)
	}
	if refused.summarised && r.trouble == nil && len(r.due) == 0 { // a flood costs the log nothing
		return nil, nil
	}
	receipt, warnings, err := r.appendDenial(p, refused)
	if err != nil {
		warnings = append(warnings, wire.Warning{Code: "audit_unavailable", Message: "this refusal is not in the audit log: " + err.Error()})
	}
	return receipt, warnings
}

func (r *run) appendDenial(p Plan, refused refusal) (*audit.Receipt, []wire.Warning, error) {
	dir, err := p.Job.Config.AuditDir(p.Job.Environ)
	if err != nil {
		return nil, nil, err
	}
	log, err := audit.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	warnings, err := shareStrictly(log, p.Job.Config)
	if err != nil {
		return nil, warnings, err
	}
	err = r.recordLimits(log)
	if refused.summarised {
		return nil, warnings, err
	}
	rec := record(p)
	rec.Event = audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: refused.denial.Code}
	rec.Status, rec.Config = string(refused.status), configFiles(p)
	receipt, failed := log.Append(rec)
	if failed != nil {
		return nil, warnings, errors.Join(err, failed)
	}
	return &receipt, warnings, err
}
