package audit

import (
	"encoding/json"
	"slices"
	"time"
)

// A BriefReader decodes lines many times faster than [Line.Record], because it leaves out what lists of runs and statistics
// do not need, and does not look at it: Prev, the request's id, variables, files, limits, configuration, output,
// interpreter, isolation, hooks, what changes of the policy and of scripts say, and of host, user, auth, client and
// invocation all but the names, the method and the command. Its zero value is ready. It is not safe for concurrent use.
type BriefReader struct{ names map[string]string }

// namesMost is how many strings a BriefReader remembers, so that one that comes again needs no memory.
const namesMost = 20_000

// Record decodes a line. What is unusual, it decodes in full.
func (b *BriefReader) Record(l Line) (Record, error) {
	s := briefScanner{scanner: scanner{text: l.Text}, reader: b}
	var rec Record
	if s.record(&rec) {
		return rec, nil
	}
	return l.Record()
}

// intern is a string that is likely to come again.
func (b *BriefReader) intern(text []byte) string {
	if s, known := b.names[string(text)]; known {
		return s
	}
	if b.names == nil || len(b.names) >= namesMost {
		b.names = map[string]string{}
	}
	s := string(text)
	b.names[s] = s
	return s
}

// A briefScanner reads lines as this package writes them. Where a line is not as it expects, its methods return false.
type briefScanner struct {
	scanner
	reader *BriefReader
}

// record goes through the keys in their order, as scan does.
func (s *briefScanner) record(rec *Record) bool {
	t := keys()
	line := s.text
	if !s.literal("{") || line[len(line)-1] != '}' {
		return false
	}
	s.at-- // as if a comma stood there
	for next := 0; next < len(t.text); next++ {
		k := t.text[next]
		if rest := line[s.at:]; len(rest) <= len(k) || rest[0] != ',' && s.at > 0 || string(rest[1:len(k)]) != string(k[1:]) {
			continue
		}
		s.at += len(k)
		if !s.key(t.names[next], rec) {
			return false
		}
		if s.at == len(line)-1 {
			return rec.V > 0 && rec.Seq > 0
		}
	}
	return false
}

func (s *briefScanner) key(name string, rec *Record) bool {
	switch name {
	case "v":
		n, ok := s.integer()
		rec.V = int(n)
		return ok
	case "@timestamp":
		return s.once(&rec.Timestamp)
	case "event":
		return s.event(&rec.Event)
	case "seq":
		n, ok := s.integer()
		rec.Seq = uint64(n)
		return ok && n > 0
	case "run_id":
		return s.once(&rec.RunID)
	case "host":
		return s.object(func(key string) bool {
			return s.take(key, "name", &rec.Host.Name, "boot", "uptime_ms", "clock_jump_ms")
		})
	case "user":
		return s.object(func(key string) bool { return s.take(key, "name", &rec.User.Name, "id", "roles", "groups") })
	case "auth":
		return s.auth(&rec.Auth)
	case "client":
		return s.object(func(key string) bool { return s.take(key, "ip", &rec.Client.IP, "ip_source") })
	case "script":
		return s.script(&rec.Script)
	case "command":
		return s.again(&rec.Command)
	case "invocation":
		rec.Invoked = &Invocation{}
		return s.object(func(key string) bool {
			return s.take(key, "command", &rec.Invoked.Command, "argv", "argv_dropped", "stdin")
		})
	case "code":
		return s.code(&rec.Code)
	case "labels":
		rec.Labels = map[string]string{}
		return s.labels(rec.Labels)
	case "status":
		return s.again(&rec.Status)
	case "process":
		rec.Process = &Process{}
		return s.process(rec.Process)
	case "alert", "refusals": // these are rare
		return false
	}
	return s.value(0)
}

// object goes through an object whose keys have no escapes. field moves past the value of a key.
func (s *briefScanner) object(field func(key string) bool) bool {
	if !s.literal("{") {
		return false
	}
	if s.literal("}") {
		return true
	}
	for {
		key, ok := s.plain()
		if !ok || !s.literal(":") || !field(s.reader.intern(key)) {
			return false
		}
		if s.literal("}") {
			return true
		}
		if !s.literal(",") {
			return false
		}
	}
}

// take reads the string of one key, and leaves others out. A key that is none of these can be the same one for
// encoding/json, which does not tell capitals apart.
func (s *briefScanner) take(key, want string, to *string, others ...string) bool {
	if key == want {
		return s.again(to)
	}
	return slices.Contains(others, key) && s.value(0)
}

// once reads a string that comes in few records.
func (s *briefScanner) once(to *string) bool {
	text, ok := s.decoded()
	*to = string(text)
	return ok
}

// again reads a string that comes in many.
func (s *briefScanner) again(to *string) bool {
	text, ok := s.decoded()
	*to = s.reader.intern(text)
	return ok
}

func (s *briefScanner) decoded() ([]byte, bool) {
	start := s.at
	if text, ok := s.plain(); ok {
		return text, true
	}
	s.at = start
	if !s.str() {
		return nil, false
	}
	var text string
	err := json.Unmarshal(s.text[start:s.at], &text)
	return []byte(text), err == nil
}

func (s *briefScanner) int64(to *int64) (ok bool) {
	*to, ok = s.integer()
	return ok
}

func (s *briefScanner) event(e *Event) bool {
	return s.object(func(key string) bool {
		switch key {
		case "action":
			return s.again((*string)(&e.Action))
		case "outcome":
			return s.again((*string)(&e.Outcome))
		case "reason":
			return s.again(&e.Reason)
		case "duration_ns":
			return s.int64(&e.DurationNS)
		case "end":
			return s.once(&e.End)
		}
		return false
	})
}

func (s *briefScanner) auth(a *Auth) bool {
	return s.object(func(key string) bool {
		switch key {
		case "method":
			return s.again((*string)(&a.Method))
		case "os_user":
			return s.again(&a.OSUser)
		case "key_id":
			return s.again(&a.KeyID)
		case "holder":
			return s.again(&a.Holder)
		case "os_uid", "login_uid", "sudo_user", "sudo_source":
			return s.value(0)
		}
		return false
	})
}

func (s *briefScanner) script(p *Script) bool {
	return s.object(func(key string) bool {
		switch key {
		case "name":
			return s.again(&p.Name)
		case "version":
			return s.again(&p.Version)
		case "source":
			return s.again((*string)(&p.Source))
		case "path":
			return s.again(&p.Path)
		}
		return false
	})
}

func (s *briefScanner) code(c *Code) bool {
	return s.object(func(key string) bool {
		switch key {
		case "sha256":
			return s.again(&c.SHA256)
		case "bytes":
			return s.int64(&c.Bytes)
		case "source":
			return s.again(&c.Source)
		case "stored":
			c.Stored = s.literal("true")
			return c.Stored || s.literal("false")
		}
		return false
	})
}

func (s *briefScanner) labels(to map[string]string) bool {
	if !s.literal("{") {
		return false
	}
	for !s.literal("}") {
		if len(to) > 0 && !s.literal(",") {
			return false
		}
		var name, value string
		if !s.again(&name) || !s.literal(":") || !s.again(&value) {
			return false
		}
		if _, twice := to[name]; twice {
			return false
		}
		to[name] = value
	}
	return true
}

func (s *briefScanner) process(p *Process) bool {
	return s.object(func(key string) bool {
		switch key {
		case "exit_code":
			n, ok := s.integer()
			p.ExitCode = new(int(n))
			return ok
		case "signal":
			return s.again(&p.Signal)
		case "cpu_ms":
			return s.int64(&p.CPUMS)
		case "peak_memory_bytes":
			return s.int64(&p.PeakMemoryBytes)
		case "peak_processes":
			return s.int64(&p.PeakProcesses)
		case "stdout_bytes":
			p.StdoutBytes = new(int64)
			return s.int64(p.StdoutBytes)
		case "stderr_bytes":
			p.StderrBytes = new(int64)
			return s.int64(p.StderrBytes)
		case "result_bytes":
			return s.int64(&p.ResultBytes)
		}
		return false
	})
}

// ParseTime reads a time as records have it, faster than package time does; zero: it cannot be read.
func ParseTime(text string) time.Time { return readTime([]byte(text)) }
