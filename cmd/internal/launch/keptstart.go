package launch

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// startKept starts an interpreter that is kept, with the plan of its first job. It takes over the
// plan's interpreter.
func startKept(p Plan) (*kept, error) {
	k := &kept{run: run{plan: p}, first: p.RunID}
	if p.Job.Series == nil { // else it is the series'
		k.held.add(func() error { k.plan.Interpreter.Close(); return nil })
	}
	if err := k.start(k.askForWorker()); err != nil {
		return nil, errors.Join(append([]error{err}, k.held.release(0)...)...)
	}
	// What only the first job needs would stay in memory.
	k.plan.Job.Request, k.plan.Job.Source, k.plan.Python, k.plan.Warnings = wire.Request{}, nil, python.Job{}, nil
	return k, nil
}

// start makes the directories and starts the interpreter: in the worker that was asked for if there is
// one (nil: there is none), and otherwise as our own child.
func (k *kept) start(asked *warm.Lease) error {
	taken := false
	defer func() {
		if asked != nil && !taken {
			asked.GiveUp()
		}
	}()
	if err := k.makePlaces(); err != nil {
		return err
	}
	if err := k.openCode(); err != nil {
		return err
	}
	before := k.held.count()
	if asked != nil {
		taken = true
		k.held.add(func() error { asked.Close(); return nil })
		if asked.Receive() == nil {
			k.lease = asked
			job := k.plan.Python
			job.Environ = k.plan.Spec.Env
			session, err := python.OpenKeptWorker(job)
			if err == nil {
				err = k.startBy(session, k.plan.Spec, asked.Handoff)
			}
			if err == nil {
				return nil
			}
			asked.Handoff.Close()
		}
		k.held.release(before)
		k.lease = nil
	}
	k.cold = true
	spec := k.plan.Spec
	session, err := python.OpenKept(k.plan.Interpreter, k.plan.Python, spec.FirstFile)
	if err != nil {
		return err
	}
	spec.Args = append([]string{spec.Path}, session.Args()...)
	return k.startBy(session, spec, sandbox.OwnChild)
}

// startBy starts the interpreter, which then waits for its first job.
func (k *kept) startBy(session *python.Kept, spec sandbox.Spec, by sandbox.Backend) error {
	k.session = session
	k.held.add(func() error { session.Close(); return nil })
	k.outputs = newOutputs(k.plan)
	stdio := sandbox.IO{Workdir: k.workdir, Files: session.Files()}
	stdio.Stdout, stdio.Stderr = k.outputs.writers()
	program, err := sandbox.StartResident(spec, stdio, by)
	session.Started()
	if err != nil {
		return err
	}
	k.program = program
	k.held.add(func() error {
		if !k.ended {
			program.End(spec.Grace)
		}
		if k.lease != nil && k.lease.Alive() { // the template removes the group
			return nil
		}
		return program.RemoveGroup()
	})
	return program.Release()
}

// end ends the interpreter and gives back what belongs to it.
func (k *kept) end() []error {
	failed := k.held.release(0)
	if k.left != nil {
		if err := k.left.Clear(clearTime); err != nil {
			failed = append(failed, err)
		}
		k.plan.removeParents()
	}
	return failed
}

// codeFiles are the files with the code of jobs. The code of a job that may leave functions behind
// keeps its file, so that tracebacks and inspect find the lines of the functions later. Other code
// is replaced in its file by that of the next job.
type codeFiles struct {
	base    string          // path of the working directory
	beside  *sandbox.Beside // nil: there is one file for all jobs
	owner   *sandbox.User
	file    *os.File // that the last job has used
	suffix  string   // of it
	code    []byte   // in it
	number  int
	earlier []string // suffixes of the files of earlier jobs, except the very first
}

const codeFilesMost = 32 // of earlier jobs

// openCode prepares the files, before any code runs.
func (k *kept) openCode() error {
	c := &codeFiles{base: k.plan.Dir.Path, owner: k.plan.Spec.RunAs, suffix: codeSuffix, code: k.plan.Python.Code}
	file, err := k.workdir.Reopen(codeSuffix)
	if err != nil {
		return err
	}
	c.file, k.code = file, c
	k.held.add(func() error { c.beside.Close(); return c.file.Close() })
	if len(k.plan.Job.Config.Security.Isolation.ReadDirs) > 0 { // the code could not read other files there
		return nil
	}
	c.beside, err = k.workdir.Beside()
	return err
}

// path returns the path of the file for the code of the next job.
func (c *codeFiles) path(code []byte) string {
	if c.beside != nil && !bytes.Equal(code, c.code) && leavesFunctions(c.code) {
		return c.base + "." + strconv.Itoa(c.number+1) + codeSuffix
	}
	return c.base + c.suffix
}

// leavesFunctions reports whether functions of a code may live on. Functions from a text that the code
// executes have no file.
func leavesFunctions(code []byte) bool {
	for _, word := range []string{"def", "lambda", "class"} {
		if bytes.Contains(code, []byte(word)) {
			return true
		}
	}
	return false
}

// put writes the code of the next job into the file at its path.
func (c *codeFiles) put(code []byte) error {
	if bytes.Equal(code, c.code) {
		return nil
	}
	if c.path(code) != c.base+c.suffix {
		suffix := "." + strconv.Itoa(c.number+1) + codeSuffix
		file, err := c.beside.Add(suffix, c.owner)
		if err != nil {
			return err
		}
		if c.number > 0 {
			c.earlier = append(c.earlier, c.suffix)
		}
		c.file.Close()
		c.file, c.suffix, c.code, c.number = file, suffix, nil, c.number+1
	}
	if len(c.earlier) > codeFilesMost {
		c.beside.Remove(c.earlier[0]) // the code may have removed it
		c.earlier = c.earlier[1:]
	}
	if _, err := c.file.WriteAt(code, 0); err != nil {
		return err
	}
	if len(code) < len(c.code) {
		if err := c.file.Truncate(int64(len(code))); err != nil {
			return err
		}
	}
	c.code = bytes.Clone(code)
	return nil
}
