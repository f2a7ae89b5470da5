package config

// OnlyIfSet lifts a limit that has its default: for a command that keeps to a limit only where
// somebody has set it. A ceiling is set, too.
func (l *Loaded) OnlyIfSet(key string) {
	s, from := settingAt(key), l.Origins[key]
	if from.Kind != FromDefault {
		return
	}
	limit := any(0.0)
	if from.Ceiling.Value != "" {
		limit, _ = s.fromText(from.Ceiling.Value)
	}
	s.set(&l.Config, limit)
}
