package python

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pyenv's shims are scripts that it writes itself. It takes the version from PYENV_VERSION, else from
// the nearest .python-version above PYENV_DIR or the current directory, else from its own file
// "version"; a version may be a prefix, may be one of several, and may be "system", which is PATH.
var pyenv = shimKind{"pyenv", dependPyenv, "pyenv: "}

func dependPyenv(in *inputs, s *shim) {
	command := filepath.Base(s.path)
	in.file(s.path)
	in.shell()
	in.variables("PYENV_", "_PYENV_")
	if in.get("PYENV_VERSION") == "" {
		var found []versionFile
		if dir := in.get("PYENV_DIR"); dir != "" {
			if !filepath.IsAbs(dir) {
				in.doubt("the variable PYENV_DIR is no absolute path")
			}
			found = in.upward(filepath.Clean(dir), true, ".python-version")
		}
		if len(found) == 0 {
			in.upward(in.dir, true, ".python-version")
		}
	}
	in.file(filepath.Join(s.root, "version"))
	in.each(filepath.Join(s.root, "versions"), "bin/"+command, "pyvenv.cfg")
	manager, err := filepath.EvalSymlinks(s.manager)
	if err != nil {
		in.doubt(s.manager + " cannot be found")
	}
	prefix := filepath.Dir(filepath.Dir(manager))
	in.each(filepath.Join(prefix, "libexec"))
	in.stat(manager)
	in.pyenvHooks(prefix, s.root)
}

// pyenvHooks adds pyenv's hooks: scripts that can change its answer. Those that it brings itself, and
// those of pyenv-virtualenv, change nothing where the interpreter is there.
func (in *inputs) pyenvHooks(prefix, root string) {
	// What a shim has started finds its hooks here, those that pyenv always has among them.
	dirs := append(filepath.SplitList(in.get("PYENV_HOOK_PATH")),
		root+"/pyenv.d", prefix+"/pyenv.d", "/usr/etc/pyenv.d", "/usr/local/etc/pyenv.d", "/etc/pyenv.d", "/usr/lib/pyenv/hooks")
	for _, plugins := range slices.Compact([]string{root + "/plugins", prefix + "/plugins"}) {
		for _, name := range in.each(plugins) {
			dirs = append(dirs, filepath.Join(plugins, name, "etc/pyenv.d"))
		}
	}
	known := []string{"pip-rehash.bash", "conda.bash", "python-config.bash", "system-site-packages.bash"}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if dir != "" && !filepath.IsAbs(dir) {
			in.doubt("the variable PYENV_HOOK_PATH has a relative path")
		}
		if dir == "" || !in.stat(dir) {
			continue
		}
		for _, at := range []string{"exec", "which", "version-name"} {
			for _, name := range in.each(filepath.Join(dir, at)) {
				if strings.HasSuffix(name, ".bash") && !slices.Contains(known, name) {
					in.doubt(filepath.Join(dir, at, name) + " is a hook that can change pyenv's answer")
				}
			}
		}
	}
}

// pyenvLines are the lines of pyenv's shims that say nothing of the place, in all its versions.
var pyenvLines = []string{"#!/usr/bin/env bash", "set -e", `[ -n "$PYENV_DEBUG" ] && set -x`, `program="${0##*/}"`, "SHIM_PATH=${0%/*}", `export _PYENV_SHIM_PATH="$SHIM_PATH"`, "",
	// Older shims look for a script among the arguments, which an interpreter that is asked does not have.
	`if [[ "$program" = "python"* ]]; then`, "for arg; do", `case "$arg" in`, "-c* | -- ) break ;;", "*/* )", `if [ -f "$arg" ]; then`, `export PYENV_FILE_ARG="$arg"`, `export PYENV_DIR="${arg%/*}"`, "break", ";;", "esac", "done", "fi"}

// pyenvShim reads a shim of pyenv. A script with any other line is none.
func pyenvShim(text string) (root, manager string, ok bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if slices.Contains(pyenvLines, line) {
			continue
		}
		if to, ok := between(line, `export PYENV_ROOT="`, `"`); ok && root == "" {
			root = strings.TrimRight(to, "/")
		} else if to, ok := between(line, `exec "`, `" exec "$program" "$@"`); ok && manager == "" {
			manager = to
		} else if _, ok := between(line, `if [[ $SHIM_PATH != "`, `" ]]; then`); !ok {
			return "", "", false
		}
	}
	return root, manager, root != "" && manager != ""
}

// between returns an absolute path that stands between two texts, without what a shell would replace.
func between(line, before, after string) (path string, ok bool) {
	path, ok = strings.CutPrefix(line, before)
	path, end := strings.CutSuffix(path, after)
	return path, ok && end && filepath.IsAbs(path) && !strings.ContainsAny(path, "$`\\\"' \t")
}

// asdf's shims are scripts that it writes itself. It takes the version from ASDF_PYTHON_VERSION, else
// from the nearest .tool-versions that names one, or .python-version where its configuration says so.
var asdf = shimKind{"asdf", dependAsdf, "No "}

func dependAsdf(in *inputs, s *shim) {
	command := filepath.Base(s.path)
	home := in.get("HOME")
	data := cmp.Or(in.get("ASDF_DATA_DIR"), filepath.Join(home, ".asdf"))
	in.file(s.path)
	in.shell()
	in.variables("ASDF_")
	settings := in.file(cmp.Or(in.get("ASDF_CONFIG_FILE"), filepath.Join(home, ".asdfrc")))
	if strings.Contains(settings, "pre_") || strings.Contains(settings, "post_") {
		in.doubt("the configuration of asdf has hooks")
	}
	legacy := strings.Contains(settings, "legacy_version_file")
	if in.get("ASDF_PYTHON_VERSION") == "" {
		names := []string{cmp.Or(in.get("ASDF_DEFAULT_TOOL_VERSIONS_FILENAME"), ".tool-versions")}
		if strings.Contains(names[0], "/") {
			in.doubt("the variable ASDF_DEFAULT_TOOL_VERSIONS_FILENAME is no name of a file")
		}
		in.file(filepath.Join(home, names[0]))
		if legacy {
			names = append(names, ".python-version")
		}
		in.upward(in.dir, false, names...)
	}
	plugin := filepath.Join(data, "plugins/python/bin")
	for _, name := range in.each(plugin) {
		switch name {
		case "exec-path", "list-bin-paths":
			in.doubt(filepath.Join(plugin, name) + " can change asdf's answer")
		case "list-legacy-filenames":
			text := strings.TrimSpace(in.file(filepath.Join(plugin, name)))
			if last := text[strings.LastIndexByte(text, '\n')+1:]; legacy && last != `echo ".python-version"` && last != "echo .python-version" {
				in.doubt(filepath.Join(plugin, name) + " names other version files")
			}
		}
	}
	in.each(filepath.Join(data, "installs/python"), "bin/"+command)
	in.each(data)
	manager := s.manager
	if !filepath.IsAbs(manager) {
		manager = ""
		for _, dir := range filepath.SplitList(in.get("PATH")) {
			if path := filepath.Join(dir, s.manager); executable(path) == nil {
				manager = path
				break
			}
		}
	}
	manager, err := filepath.EvalSymlinks(manager)
	if err != nil {
		in.doubt("the program of asdf cannot be found")
	}
	in.stat(manager)
	for _, dir := range []string{"lib", "lib/functions", "lib/commands"} { // of asdf before 0.16, which is scripts
		in.each(filepath.Join(filepath.Dir(filepath.Dir(manager)), dir))
	}
}

// asdfShim reads a shim of asdf for a command that only its plugin for Python provides.
func asdfShim(text, command string) (manager string, ok bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "#!/usr/bin/env bash" || line == "" || strings.HasPrefix(line, "# asdf-plugin: python ") {
			continue
		}
		line, _ = strings.CutSuffix(line, " # asdf_allow: ' asdf '")
		var end bool
		if manager, end = strings.CutSuffix(line, ` exec "`+command+`" "$@"`); manager == "" || !end || ok {
			return "", false
		}
		manager, ok = strings.CutPrefix(manager, "exec ")
		if _, plain := between(manager, "", ""); !ok || manager != "asdf" && (!plain || filepath.Base(manager) != "asdf") {
			return "", false
		}
	}
	return manager, ok
}

// mise's shims are links to its program. It merges all its configuration files from the current
// directory upward. These can have templates, run programs and name further files; an answer is kept
// only where they do nothing but name versions.
var mise = shimKind{"mise", dependMise, ""}

// miseMore are what else can be the configuration of mise in a directory.
var miseMore = []string{"mise.local.toml", ".mise.local.toml", "mise/config.toml", "mise/config.local.toml", "mise/conf.d", ".mise/config.toml", ".mise/config.local.toml", ".mise/conf.d", ".config/mise.toml", ".config/mise.local.toml", ".config/mise", "miserc.toml", ".miserc.toml", ".rtx.toml", ".rtx.local.toml"}

func dependMise(in *inputs, s *shim) {
	home := in.get("HOME")
	config := cmp.Or(in.get("MISE_CONFIG_DIR"), filepath.Join(cmp.Or(in.get("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "mise"))
	data := cmp.Or(in.get("MISE_DATA_DIR"), filepath.Join(cmp.Or(in.get("XDG_DATA_HOME"), filepath.Join(home, ".local/share")), "mise"))
	state := cmp.Or(in.get("MISE_STATE_DIR"), filepath.Join(cmp.Or(in.get("XDG_STATE_HOME"), filepath.Join(home, ".local/state")), "mise"))
	in.variables("MISE_", "__MISE_", "XDG_")
	for _, e := range in.environ {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "MISE_") && value != "" && !slices.Contains([]string{"MISE_PYTHON_VERSION", "MISE_CONFIG_DIR", "MISE_DATA_DIR", "MISE_STATE_DIR", "MISE_CACHE_DIR", "MISE_SHELL"}, name) {
			in.doubt("the variable " + name + " configures mise")
		}
	}
	real, err := filepath.EvalSymlinks(in.dir)
	if err != nil {
		in.doubt(in.dir + " cannot be followed")
	}
	dirs := slices.Compact([]string{in.dir, real})
	for _, dir := range dirs {
		for _, f := range in.upward(dir, false, "mise.toml", ".mise.toml", "mise.lock", ".tool-versions", ".python-version", ".python-versions") {
			in.miseConfig(f.path, f.text)
		}
		for ; ; dir = filepath.Dir(dir) {
			for _, name := range miseMore {
				if path := filepath.Join(dir, name); path != config && exists(path) {
					in.doubt(path + " can configure mise")
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, name := range in.each(config) {
		if name == "config.toml" {
			path := filepath.Join(config, name)
			in.miseConfig(path, in.file(path))
		} else if name != "mise.lock" {
			in.doubt(filepath.Join(config, name) + " can configure mise")
		}
	}
	if in.stat("/etc/mise") {
		in.doubt("/etc/mise configures mise")
	}
	in.file(filepath.Join(home, ".tool-versions"))
	for _, dir := range []string{state, state + "/trusted-configs", state + "/ignored-configs"} {
		in.stat(dir)
	}
	in.each(filepath.Join(data, "installs/python"), "bin/"+filepath.Base(s.path))
	in.each(filepath.Join(data, "plugins"))
	in.stat(filepath.Join(data, "installs"))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// miseConfig looks for what makes the answer depend on more than the text of a configuration file.
func (in *inputs) miseConfig(path, text string) {
	if strings.Contains(text, "{{") || strings.Contains(text, "{%") {
		in.doubt(path + " has a template")
	}
	if filepath.Ext(path) != ".toml" {
		return
	}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, pair := strings.Cut(line, "=")
		key = strings.Trim(strings.TrimSpace(key), `"'`)
		switch {
		case line == "" || line[0] == '#':
		case line == "[tools]" || line == "[settings]":
			table = line
		case table == "[tools]" && pair && !strings.ContainsAny(key, ":.") && !strings.ContainsAny(value, "{") && !strings.Contains(value, "latest"):
		case table == "[settings]" && key == "idiomatic_version_file_enable_tools":
		default:
			in.doubt(path + " does more than to name versions")
		}
	}
}

// rye's shims are hard links to its program. In a project they lead to its virtual environment; else
// to the version of the nearest .python-version, if its configuration says so, or to PATH.
var rye = shimKind{"rye", dependRye, ""}

func dependRye(in *inputs, s *shim) {
	home := cmp.Or(in.get("RYE_HOME"), filepath.Join(in.get("HOME"), ".rye"))
	command := filepath.Base(s.path)
	in.variables("RYE_", "UV_")
	real, err := filepath.EvalSymlinks(in.dir)
	if err != nil {
		in.doubt(in.dir + " cannot be followed")
	}
	for _, dir := range slices.Compact([]string{in.dir, real}) {
		for _, f := range in.upward(dir, false, "pyproject.toml", ".python-version") {
			if filepath.Base(f.path) != "pyproject.toml" {
				continue
			}
			if strings.Contains(f.text, "rye") {
				in.doubt(f.path + " is a project that rye brings up to date each time")
			}
			venv := filepath.Join(filepath.Dir(f.path), ".venv")
			in.stat(filepath.Join(venv, "bin", command))
			in.file(filepath.Join(venv, "rye-venv.json"))
		}
	}
	in.file(filepath.Join(home, "config.toml"))
	in.each(filepath.Join(home, "py"), "bin/"+command, "bin/python3", "install/bin/python3")
}
