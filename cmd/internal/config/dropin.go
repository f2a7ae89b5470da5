package config

// ForDropIn makes of a configuration the one for py3run in the place of an interpreter. The program
// has no limit on its time, its idleness and its output unless somebody has set one, and none on its
// disk use. The caller's variable for memory replaces the default, also by a looser value: such callers
// set it for each Python that they start. A value that somebody has configured stays, and a ceiling
// holds.
func (l *Loaded) ForDropIn(environ []string) {
	for _, key := range []string{"security.execution-timeout-seconds", "security.idle-timeout-seconds", "security.max-output-size-mb"} {
		l.OnlyIfSet(key)
	}
	l.Config.Security.MaxDiskMB = 0
	const memory = "security.max-memory-mb"
	s, from := settingAt(memory), l.Origins[memory]
	v, err := s.fromText(lookup(environ, s.tightenedBy))
	if from.Kind != FromDefault || err != nil {
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
