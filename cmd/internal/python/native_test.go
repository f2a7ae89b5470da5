package python

import (
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// What the kernel has seen is told where the hook has not told it, neither twice nor lost.
func TestNative(t *testing.T) {
	t.Parallel()
	type (
		links    = []wire.Connection
		programs = []wire.Process
	)
	to := func(count int, host string, port int) wire.Connection {
		return wire.Connection{Host: host, Port: port, Via: "python", Count: count}
	}
	native := func(count int, host string, port int) wire.Connection {
		c := to(count, host, port)
		c.Via = "native"
		return c
	}
	by := func(program string, c wire.Connection) wire.Connection { c.Program = program; return c }
	ran := func(count int, program string, args ...string) wire.Process {
		return wire.Process{Program: program, Args: args, Via: "python", Count: count}
	}
	started := func(count int, program string, args ...string) wire.Process {
		p := ran(count, program, args...)
		p.Via = "native"
		return p
	}
	long := strings.Repeat("ж", 300)
	tests := []struct {
		name string
		told string // lines of the hook's
		seen wire.Events
		want wire.Events
	}{
		{"nothing", "", wire.Events{}, wire.Events{}},
		{"only seen", "", wire.Events{Connections: links{native(2, "10.0.0.1", 80)}, Binds: links{native(1, "0.0.0.0", 8080)}, Processes: programs{started(1, "/bin/ls", "-l")}, Dropped: 3},
			wire.Events{Connections: links{native(2, "10.0.0.1", 80)}, Binds: links{native(1, "0.0.0.0", 8080)}, Processes: programs{started(1, "/bin/ls", "-l")}, Dropped: 3}},
		{"only told", "C10.0.0.1\t80\nPls\n", wire.Events{}, wire.Events{Connections: links{to(1, "10.0.0.1", 80)}, Processes: programs{ran(1, "ls")}}},

		{"both", "C10.0.0.1\t80\n", wire.Events{Connections: links{native(1, "10.0.0.1", 80)}}, wire.Events{Connections: links{to(1, "10.0.0.1", 80)}}},
		{"more seen than told", "C10.0.0.1\t80\n", wire.Events{Connections: links{native(3, "10.0.0.1", 80)}}, wire.Events{Connections: links{to(1, "10.0.0.1", 80), native(2, "10.0.0.1", 80)}}},
		{"more told than seen", "C10.0.0.1\t80\nC10.0.0.1\t80\n", wire.Events{Connections: links{native(1, "10.0.0.1", 80)}}, wire.Events{Connections: links{to(2, "10.0.0.1", 80)}}},
		{"another port", "C10.0.0.1\t80\n", wire.Events{Connections: links{native(1, "10.0.0.1", 81)}}, wire.Events{Connections: links{to(1, "10.0.0.1", 80), native(1, "10.0.0.1", 81)}}},
		{"another address", "C10.0.0.1\t80\n", wire.Events{Connections: links{native(1, "10.0.0.2", 80)}}, wire.Events{Connections: links{to(1, "10.0.0.1", 80), native(1, "10.0.0.2", 80)}}},
		{"a child program's", "C10.0.0.1\t80\n", wire.Events{Connections: links{by("/bin/curl", native(1, "10.0.0.1", 80)), native(1, "10.0.0.1", 80)}},
			wire.Events{Connections: links{to(1, "10.0.0.1", 80), by("/bin/curl", native(1, "10.0.0.1", 80))}}},
		{"a name", "Cexample.org\t80\n", wire.Events{Connections: links{native(1, "10.0.0.1", 80)}}, wire.Events{Connections: links{to(1, "example.org", 80)}}},
		{"a name, and more", "Cexample.org\t80\n", wire.Events{Connections: links{native(1, "10.0.0.1", 443), native(2, "10.0.0.1", 80)}},
			wire.Events{Connections: links{to(1, "example.org", 80), native(1, "10.0.0.1", 443), native(1, "10.0.0.1", 80)}}},
		{"a name and an address", "C10.0.0.1\t80\nCexample.org\t80\n", wire.Events{Connections: links{native(1, "10.0.0.2", 80), native(1, "10.0.0.1", 80)}},
			wire.Events{Connections: links{to(1, "10.0.0.1", 80), to(1, "example.org", 80)}}},
		{"a name, and a child program's", "Cexample.org\t80\n", wire.Events{Connections: links{by("/bin/curl", native(1, "10.0.0.1", 80))}},
			wire.Events{Connections: links{to(1, "example.org", 80), by("/bin/curl", native(1, "10.0.0.1", 80))}}},
		{"a name is no path", "Cexample.org\t0\n", wire.Events{Connections: links{native(1, "unix:/s", 0)}}, wire.Events{Connections: links{to(1, "example.org", 0), native(1, "unix:/s", 0)}}},
		{"paths", "Cunix:/s\nCunix:@a\\x00\\udcff\n", wire.Events{Connections: links{native(1, "unix:/s", 0), native(1, "unix:@a\x00\xff", 0), native(1, "unix:/t", 0)}},
			wire.Events{Connections: links{to(1, "unix:/s", 0), to(1, "unix:@a\x00\uFFFD", 0), native(1, "unix:/t", 0)}}},
		{"IPv6 in another form", "C0::1\t80\nCfe80::1%eth0\t80\n", wire.Events{Connections: links{native(1, "::1", 80), native(1, "fe80::1", 80)}},
			wire.Events{Connections: links{to(1, "0::1", 80), to(1, "fe80::1%eth0", 80)}}},
		{"another family", "C2\t1024\n", wire.Events{Connections: links{native(2, "family:40", 0)}}, wire.Events{Connections: links{to(1, "2", 1024), native(1, "family:40", 0)}}},
		{"unreadable", "C10.0.0.1\t80\n", wire.Events{Connections: links{native(3, "?", 0)}}, wire.Events{Connections: links{to(1, "10.0.0.1", 80), native(2, "?", 0)}}},
		{"binds", "B\t8080\nB127.0.0.1\t0\n", wire.Events{Binds: links{native(1, "0.0.0.0", 8080), native(2, "127.0.0.1", 0)}},
			wire.Events{Binds: links{to(1, "*", 8080), to(1, "127.0.0.1", 0), native(1, "127.0.0.1", 0)}}},
		{"a bind of all interfaces", "B\t0\n", wire.Events{Binds: links{native(1, "127.0.0.1", 0), native(1, "::", 0)}},
			wire.Events{Binds: links{to(1, "*", 0), native(1, "127.0.0.1", 0)}}},
		{"a bind is no connection", "B127.0.0.1\t80\n", wire.Events{Connections: links{native(1, "127.0.0.1", 80)}},
			wire.Events{Connections: links{native(1, "127.0.0.1", 80)}, Binds: links{to(1, "127.0.0.1", 80)}}},

		{"a program of PATH", "Pls\t-l\n", wire.Events{Processes: programs{started(1, "/usr/bin/ls", "-l")}}, wire.Events{Processes: programs{ran(1, "ls", "-l")}}},
		{"from two directories", "Pls\nPls\nPls\n", wire.Events{Processes: programs{started(1, "/usr/bin/ls"), started(3, "/bin/ls")}}, wire.Events{Processes: programs{ran(3, "ls"), started(1, "/bin/ls")}}},
		{"other arguments", "Pls\t-l\n", wire.Events{Processes: programs{started(1, "/usr/bin/ls", "-a")}}, wire.Events{Processes: programs{ran(1, "ls", "-l"), started(1, "/usr/bin/ls", "-a")}}},
		{"a shell and what it starts", "P/bin/sh\t-c\tls; ls\n", wire.Events{Processes: programs{started(1, "/bin/sh", "-c", "ls; ls"), started(2, "/bin/ls")}},
			wire.Events{Processes: programs{ran(1, "/bin/sh", "-c", "ls; ls"), started(2, "/bin/ls")}}},
		{"a shell as newer libraries call it", "P/bin/sh\t-c\tls\n", wire.Events{Processes: programs{started(1, "/bin/sh", "-c", "--", "ls")}}, wire.Events{Processes: programs{ran(1, "/bin/sh", "-c", "ls")}}},
		{"by descriptor", "P7\t-l\n", wire.Events{Processes: programs{started(1, "/usr/bin/ls", "-l")}}, wire.Events{Processes: programs{ran(1, "7", "-l")}}},
		{"unreadable program", "Pls\t-l\n", wire.Events{Processes: programs{started(2, "?")}}, wire.Events{Processes: programs{ran(1, "ls", "-l"), started(1, "?")}}},
		{"a line that was cut", "Pls\t" + long[:500] + "\n", wire.Events{Processes: programs{started(1, "/bin/ls", long, "more")}}, wire.Events{Processes: programs{ran(1, "ls", long[:500])}}},
		{"a short line is whole", "Pls\n", wire.Events{Processes: programs{started(1, "/bin/ls", "-l")}}, wire.Events{Processes: programs{ran(1, "ls"), started(1, "/bin/ls", "-l")}}},
		{"secrets", "Pcurl\t--token=a\n", wire.Events{Processes: programs{started(1, "/bin/curl", "--token=a"), started(1, "/bin/curl", "--token=b", "-u", "http://u:p@h/")}},
			wire.Events{Processes: programs{ran(1, "curl", "--token=***"), started(1, "/bin/curl", "--token=***", "-u", "http://u:***@h/")}}},
		{"no UTF-8", "Pls\t\\udcff\n", wire.Events{Processes: programs{started(1, "/bin/ls", "\xff"), started(1, "/bin/\xff")}}, wire.Events{Processes: programs{ran(1, "ls", "\uFFFD"), started(1, "/bin/\uFFFD")}}},
		{"more than are named", "", wire.Events{Processes: slices.Collect(func(yield func(wire.Process) bool) {
			for i := range mostProcesses + 5 {
				if !yield(started(1, "/bin/ls", string(rune('a'+i)))) {
					return
				}
			}
		})}, wire.Events{Processes: slices.Collect(func(yield func(wire.Process) bool) {
			for i := range mostProcesses {
				if !yield(started(1, "/bin/ls", string(rune('a'+i)))) {
					return
				}
			}
		}), Dropped: 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Session{memory: make([]byte, eventsSize), childEvents: []byte(tt.told)}
			if got, want := inWords(s.Events(whyFlagged, tt.seen)), inWords(tt.want); got != want {
				t.Errorf("\n%swant\n%s", got, want)
			}
		})
	}
}
