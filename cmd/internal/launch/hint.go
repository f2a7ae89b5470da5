package launch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

// hint helps with an exception that py3run may have caused: by the interpreter that it chose, by the
// limit on open files, or by the directory in which it runs the code. Empty: no hint.
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
			return "a relative path starts in the working directory of the run, which contains only the files of the request: name it there, or use an absolute path"
		}
	}
	return ""
}

// whoCanRaise says who can raise a limit, and where. A request can only tighten limits, and its sender
// may not know who has set them.
func whoCanRaise(name string, origins map[string]config.Origin) string {
	short := strings.ReplaceAll(name, "_", "-")
	i := slices.IndexFunc(config.Shorts[:], func(s config.Short) bool { return s.Name == short })
	if i < 0 {
		return ""
	}
	key := config.Shorts[i].Key
	from := origins[key]
	if from.Key != "" {
		key = from.Key
	}
	switch {
	case from.Ceiling.Asked != "":
		return fmt.Sprintf("; that is the ceiling in %s, which only its owner raises", from.Ceiling.File)
	case from.Kind == config.FromFile, from.Kind == config.FromPolicy:
		return fmt.Sprintf("; %s is set in %s, whose owner can raise it", key, from.Name)
	case from.Kind != config.FromDefault:
		return fmt.Sprintf("; whoever starts py3run has set %s, by %s, and can raise it", key, from.Name)
	default:
		return fmt.Sprintf("; that is the default of %s, which whoever starts py3run can raise: with %s, or in a configuration file such as %s", key, config.Variable(key), config.SystemFile)
	}
}

// remedy returns the hint for a limit that ended the run: what the code can do, and who has set the
// limit. usual is the hint of the status.
func remedy(usual, name string, job Job) string {
	do, _, _ := strings.Cut(usual, ", or have ")
	if asked, _ := job.Request.Limits.Get(name); asked > 0 {
		if allowed, _ := limitsOf(job.Config.Security).Get(name); allowed == 0 || asked <= allowed {
			return do + "; the request itself asks for this limit, with limits." + name
		}
	}
	if text := whoCanRaise(name, job.Origins); text != "" {
		return do + text
	}
	return usual
}
