package config

// OnlyIfSet lifts a limit that has its default. It is for commands that apply the limit only if
// somebody has set it; a ceiling counts as set.
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
