package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/web"
)

// mostResult is how long the result of a run may be that the pages read, in bytes.
const mostResult = 64 << 20

// RunAgain starts py3run as the visitor, and waits for the result.
func (v visitor) RunAgain(a web.Again, variables []byte) (web.Outcome, error) {
	if len(variables) > 0 {
		a.Body["variables"] = json.RawMessage(variables)
	}
	request, err := json.Marshal(a.Body)
	if err != nil {
		return web.Outcome{}, err
	}
	result := bounded{most: mostResult}
	failed := bounded{most: mostShown}
	c := exec.Command(v.app.launcher(), v.againArgs()...)
	c.Env, c.Stdin, c.Stdout, c.Stderr = v.againEnviron(), bytes.NewReader(request), &result, &failed
	if v.key != "" {
		r, w, err := os.Pipe()
		if err != nil {
			return web.Outcome{}, err
		}
		defer r.Close()
		c.ExtraFiles = []*os.File{r} // its descriptor 3
		_, err = w.WriteString(v.key)
		if err = errors.Join(err, w.Close()); err != nil {
			return web.Outcome{}, err
		}
	}
	err = c.Run()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return web.Outcome{}, visible{errNoProgram, http.StatusConflict, hint(errNoProgram)}
	}
	if out, ok := outcomeOf(result.Bytes()); ok {
		return out, nil
	}
	return web.Outcome{}, fmt.Errorf("run again %s: py3run has given no result: %v: %s", a.RunID, err, failed.String())
}

// againArgs are the arguments of py3run. The key is not among them: everybody on the host could read it.
func (v visitor) againArgs() []string {
	args := []string{"exec", "--audit-line", "off"}
	if v.app.configFile != "" {
		args = append(args, "--config", v.app.configFile)
	}
	if v.key != "" {
		args = append(args, "--api-key-fd", "3")
	}
	return args
}

// againEnviron is the environment of the pages, for the same log. Where the visitor has shown a key, no
// other one must be found.
func (v visitor) againEnviron() (environ []string) {
	for _, one := range v.environ {
		if v.key == "" || !strings.HasPrefix(one, config.KeyFileVariable+"=") {
			environ = append(environ, one)
		}
	}
	if v.app.dir != "" {
		environ = append(environ, config.Variable("security.audit.dir")+"="+v.app.dir)
	}
	return environ
}

// mostShown is how long each text of a result is on a page.
const mostShown = 64 << 10

// outcomeOf reads a result line.
func outcomeOf(line []byte) (out web.Outcome, ok bool) {
	var r struct {
		RunID      string          `json:"run_id"`
		Status     string          `json:"status"`
		Result     json.RawMessage `json:"result"`
		ResultText string          `json:"result_text"`
		Error      string          `json:"error"`
		Traceback  string          `json:"traceback"`
		Stdout     string          `json:"stdout"`
		Stderr     string          `json:"stderr"`
		Truncated  bool            `json:"stdout_truncated"`
		Lost       bool            `json:"stderr_truncated"`
		Failure    struct {
			Hint  string `json:"hint"`
			Where []struct {
				File     string `json:"file"`
				Line     int    `json:"line"`
				Function string `json:"function"`
			} `json:"where"`
		} `json:"failure"`
		Warnings []struct {
			Message string `json:"message"`
		} `json:"warnings"`
	}
	if json.Unmarshal(line, &r) != nil || r.Status == "" {
		return out, false
	}
	cut := func(text string) string {
		if len(text) > mostShown {
			out.Cut = true
			return strings.ToValidUTF8(text[:mostShown], "") + " …"
		}
		return text
	}
	out = web.Outcome{RunID: r.RunID, Status: r.Status, Cut: r.Truncated || r.Lost}
	out.Error, out.Hint, out.Traceback = cut(r.Error), cut(r.Failure.Hint), cut(r.Traceback)
	out.Stdout, out.Stderr, out.Result = cut(r.Stdout), cut(r.Stderr), cut(string(r.Result))
	if r.ResultText != "" {
		out.Result = cut(r.ResultText)
	}
	for _, f := range r.Failure.Where[:min(len(r.Failure.Where), 50)] {
		out.Where = append(out.Where, fmt.Sprintf("%s, line %d, in %s", f.File, f.Line, f.Function))
	}
	for _, w := range r.Warnings[:min(len(r.Warnings), 20)] {
		out.Warnings = append(out.Warnings, cut(w.Message))
	}
	return out, true
}

// A bounded buffer takes so many bytes, and refuses what comes then.
type bounded struct {
	bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, errors.New("more than the pages take")
	}
	return b.Buffer.Write(p)
}
