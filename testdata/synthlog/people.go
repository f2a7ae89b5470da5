package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"py3run/audit"
)

// A person is a user, with how that user calls.
type person struct {
	name   string
	roles  []string
	auth   audit.Auth
	client string
	weight float64
}

// A program is a stored script; its versions change.
type program struct {
	name    string
	version int
	code    string
	bytes   int64
	usual   time.Duration
	fails   float64
	weight  float64
}

// A machine is a host. Its boot never ends.
type machine struct {
	name, boot string
	up         time.Time
}

var (
	firstNames  = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "karl", "lena", "mia", "nils", "olga", "paul", "quentin", "rosa", "sven", "tina"}
	strangers   = []string{`o'hara "x"`, "Zoë", "<b>mallory</b>", "李雷", "ops team", "a\u202eb"}
	scriptWords = []string{"tank-balance", "pump-report", "import-orders", "export-csv", "weather", "invoice-check", "shift-plan", "calibrate", "nightly-sync", "sensor-drift", "quota", "archive"}
	scriptDirs  = []string{"plant", "office", "lab"}
	sites       = []string{"north", "south", "harbour", "mill"}
	snippets    = 300
)

func (s *site) populate(r *rand.Rand) {
	for i := range s.users {
		p := person{name: firstNames[i%len(firstNames)], roles: []string{"user"}, weight: 1 / math.Pow(float64(i+1), 0.9)}
		if n := i / len(firstNames); n > 0 {
			p.name += fmt.Sprint(n + 1)
		}
		if i%9 == 5 {
			p.name = strangers[i/9%len(strangers)]
			if i/9 >= len(strangers) {
				p.name += fmt.Sprint(i / 9)
			}
		}
		p.client = fmt.Sprintf("10.%d.%d.%d", i%4, r.IntN(256), 1+r.IntN(254))
		switch i % 5 {
		case 0, 1:
			p.auth = audit.Auth{Method: audit.AuthOSUser, OSUID: 1000 + i, OSUser: p.name, LoginUID: new(1000 + i)}
			p.client = ""
		case 2:
			p.auth = audit.Auth{Method: audit.AuthAsserted, OSUID: 990, OSUser: "gateway"}
		case 3:
			p.auth = audit.Auth{Method: audit.AuthAPIKey, OSUID: 990, OSUser: "gateway", KeyID: fmt.Sprintf("k%07x", r.Uint32()>>4)}
		case 4:
			p.auth = audit.Auth{Method: audit.AuthAPIKey, OSUID: 990, OSUser: "gateway", KeyID: "k7qm2x9a", Holder: "gateway-a"}
			p.client = fmt.Sprintf("2001:db8::%x", i)
		}
		if i%7 == 0 {
			p.roles = []string{"user", "auditor"}
		}
		s.people = append(s.people, p)
	}
	for i := range s.scripts {
		name := scriptDirs[i%len(scriptDirs)] + "/" + scriptWords[i%len(scriptWords)]
		if n := i / len(scriptWords); n > 0 {
			name += fmt.Sprintf("-%d", n+1)
		}
		s.programs = append(s.programs, program{name: name, version: 1, code: hexes(r, 64), bytes: int64(200 + r.IntN(20_000)),
			usual: time.Duration(50+r.IntN(4000)) * time.Millisecond, fails: 0.02 + 0.1*r.Float64()*r.Float64(), weight: 1 / float64(i+1)})
	}
	for i, name := range []string{"gw-a", "gw-b", "batch-01.plant.example"} {
		s.machines = append(s.machines, machine{name, uuid(r.Uint64(), r.Uint64()), s.end.AddDate(0, 0, -s.days-i-1)})
	}
	for range snippets {
		s.codes = append(s.codes, hexes(r, 64))
	}
}

func hexes(r *rand.Rand, n int) string {
	const digits = "0123456789abcdef"
	text := make([]byte, n)
	for i := range text {
		text[i] = digits[r.IntN(16)]
	}
	return string(text)
}

func uuid(high, low uint64) string {
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0x0fff|0x7000, low>>48&0x3fff|0x8000, low&(1<<48-1))
}

// pick chooses one of n by their weights.
func pick(r *rand.Rand, n int, weight func(int) float64) int {
	sum := 0.0
	for i := range n {
		sum += weight(i)
	}
	at := r.Float64() * sum
	for i := range n {
		if at -= weight(i); at < 0 {
			return i
		}
	}
	return n - 1
}
