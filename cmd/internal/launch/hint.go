package launch

import (
	"strconv"
	"strings"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

// hint helps with an exception whose cause may be py3run's doing: which interpreter it took, and where it runs the code. Empty: there is nothing to say.
func hint(f wire.Failure, ip python.Interpreter, openFiles int, ownDir bool) string {
	switch f.Type {
	case "ModuleNotFoundError":
		return "the interpreter was Python " + ip.Version + " at " + ip.Path + "; install the module for that one, or name another with python.interpreter (a path, a version, or the directory of a virtual environment)"
	case "OSError":
		if strings.Contains(f.Message, "[Errno 24]") {
			return "security.max-open-files = " + strconv.Itoa(openFiles) + " limits the open files of each process of a run"
		}
	case "FileNotFoundError":
		_, name, quoted := strings.Cut(f.Message, ": '")
		if ownDir && quoted && !strings.HasPrefix(name, "/") {
			return "a relative path starts in the working directory of the run, which has nothing of the caller's in it: give an absolute one"
		}
	}
	return ""
}
