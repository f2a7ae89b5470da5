package access

import "py3run/cmd/internal/config"

// Behind returns the users for whom a run counts besides the one it is for: who names another user keeps
// its own limits. Without a key that is the user of the operating system, where these count. With a key it
// is the key's own user, if the policy limits how often that one may run something. c is the configuration
// before it was tightened for g.
func (p *Policy) Behind(g Grant, by Claim, c config.Config, origins map[string]config.Origin) []Count {
	switch {
	case g.Method == ByClaim:
		grant, denial := p.Identify(Claim{OSUID: by.OSUID, OSUser: by.OSUser, At: by.At})
		who, counted := Counted(grant, c.Security.RateLimit)
		if denial != nil || !counted {
			return nil
		}
		c, _ = config.Tighten(c, origins, p.LimitsFor(grant, ""))
		return []Count{{who, RatesOf(c.Security.RateLimit)}}
	case g.Method == ByKey && g.Holder != "" && p != nil:
		var own []config.Bound
		for _, key := range rateKeys {
			if v, ok := p.Users[g.Holder].Limits[key]; ok {
				own = append(own, config.Bound{Key: key, Value: v, Replaces: true})
			}
		}
		if len(own) == 0 {
			return nil
		}
		c, _ = config.Tighten(config.Config{}, nil, own) // what the policy does not say of that user limits nothing
		return []Count{{Subject{Name: g.Holder, Standing: Proved, Method: ByKey}, RatesOf(c.Security.RateLimit)}}
	}
	return nil
}

var rateKeys = [...]string{"security.rate-limit." + PerUserPerMinute, "security.rate-limit." + PerUserPerHour, "security.rate-limit." + ConcurrentPerUser}
