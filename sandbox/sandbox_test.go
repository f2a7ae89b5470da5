package sandbox

import (
	"bytes"
	"os"
	"testing"
	"time"
)

const probe = `
import os
print(os.read(1024,1), os.getpid(), os.getuid(), os.listdir('/proc/self/fd'))
print([l for l in open('/proc/self/status') if l[:3] in ('Cap','Sig','Shd')], flush=True)
os.system('(sleep 100 &)')
os.kill(os.getpid(),9)
`

func TestSmoke(t *testing.T) {
	for _, m := range []Method{Namespace, Process} {
		var out, errb bytes.Buffer
		spec := Spec{Path: "/usr/bin/python3", Args: []string{"python3", "-I", "-c", probe}, Env: []string{"PATH=/bin:/usr/bin"}, Dir: "/", Method: m,
			Limits: Limits{Wall: 5 * time.Second, OpenFiles: 1024, Processes: 64, CPU: 2 * time.Second}, FirstFile: 1024, DumpSignal: 0, Grace: time.Second}
		r, err := Start(spec, IO{Stdout: &out, Stderr: &errb})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r.Protection())
		r.Release()
		o := r.Wait(make(chan os.Signal), nil)
		t.Logf("%+v\n%s\n%s", o, out.String(), errb.String())
	}
}
