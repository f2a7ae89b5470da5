package config

import "py3run/internal/envvar"

// replaceDefault lets the caller's variable for a key, such as PYTHON3_MAX_MEMORY_MB, replace the
// default, also by a looser value. It is for commands whose callers set such variables for each
// Python that they start. A value that somebody has configured stays, and a ceiling holds.
func (l *Loaded) replaceDefault(key string, environ []string) {
	s, from := settingAt(key), l.Origins[key]
	text := envvar.Lookup(environ, s.tightenedBy)
	if from.Kind != FromDefault || text == "" {
		return
	}
	v, err := s.fromText(text)
	if err != nil { // Load has warned of it
		return
	}
	from.Kind, from.Name = FromEnvironment, s.tightenedBy
	if from.Ceiling.Value != "" {
		if ceiling, err := s.fromText(from.Ceiling.Value); err == nil && s.exceeds(v, ceiling) {
			v, from.Ceiling.Asked = ceiling, format(v)
		}
	}
	l.set(s, v, from)
}

// ForBridge makes of a configuration the one for the requests to a bridge: their time limit is
// bridge.timeout-seconds, the caller's variable for memory replaces the default, and interpreters
// are kept ready unless somebody has set warm.enabled.
func (l *Loaded) ForBridge(environ []string) {
	const own, usual, warm = "bridge.timeout-seconds", "security.execution-timeout-seconds", "warm.enabled"
	s := settingAt(usual)
	if limit := any(l.Config.Bridge.TimeoutSeconds); s.exceeds(s.get(&l.Config), limit) {
		from := l.Origins[own]
		from.Key = own
		l.set(s, limit, from)
	}
	l.replaceDefault("security.max-memory-mb", environ)
	if l.Origins[warm].Kind == FromDefault {
		l.Config.Warm.Enabled = true
	}
}

// ForDropIn makes of a configuration the one for py3run in the place of an interpreter. The program
// has no limit on its time, its idleness and its output unless somebody has set one, and none on its
// disk use. The caller's variable for memory replaces the default.
func (l *Loaded) ForDropIn(environ []string) {
	for _, key := range []string{"security.execution-timeout-seconds", "security.idle-timeout-seconds", "security.max-output-size-mb"} {
		l.OnlyIfSet(key)
	}
	l.Config.Security.MaxDiskMB = 0
	l.replaceDefault("security.max-memory-mb", environ)
}
