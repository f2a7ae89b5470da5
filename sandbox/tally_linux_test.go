package sandbox

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

func TestActivityAddresses(t *testing.T) {
	t.Parallel()
	address := func(family uint16, rest ...byte) []byte {
		return append(binary.NativeEndian.AppendUint16(nil, family), rest...)
	}
	tests := []struct {
		name string
		raw  []byte
		want Peer
	}{
		{"IPv4", address(unix.AF_INET, 0, 80, 10, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9), Peer{Host: "10.0.0.1", Port: 80}},
		{"IPv4, as short as can be", address(unix.AF_INET, 1, 0, 10, 0, 0, 1), Peer{Host: "10.0.0.1", Port: 256}},
		{"IPv4, too short", address(unix.AF_INET, 1, 0, 10, 0, 0), Peer{}},
		{"IPv6", address(unix.AF_INET6, append([]byte{0, 80, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 7, 0, 0, 0)...), Peer{Host: "2001:db8::1", Port: 80}},
		{"IPv4 in IPv6", address(unix.AF_INET6, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4), Peer{Host: "::ffff:1.2.3.4", Port: 80}},
		{"IPv6, too short", address(unix.AF_INET6, 0, 80, 0, 0, 0, 0, 1), Peer{}},
		{"unix", address(unix.AF_UNIX, append([]byte("/run/x"), 0, 'y')...), Peer{Host: "unix:/run/x"}},
		{"unix, without its end", address(unix.AF_UNIX, []byte("/run/x")...), Peer{Host: "unix:/run/x"}},
		{"unix, abstract", address(unix.AF_UNIX, 0, 'a', 0, 'b'), Peer{Host: "unix:@a\x00b"}},
		{"unix, no name", address(unix.AF_UNIX), Peer{}},
		{"nobody", address(unix.AF_UNSPEC, make([]byte, 14)...), Peer{}},
		{"netlink", address(unix.AF_NETLINK, make([]byte, 10)...), Peer{}},
		{"another family", address(unix.AF_VSOCK, make([]byte, 14)...), Peer{Host: "family:40"}},
		{"half a family", []byte{1}, Peer{}},
		{"nothing", nil, Peer{}},
	}
	for _, tt := range tests {
		if got := peerOf(tt.raw); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Whether a UDP socket's connect is one of getaddrinfo's shows only in what follows.
func TestActivityLookups(t *testing.T) {
	t.Parallel()
	connect := func(thread int, host string, port int, datagram bool) sighting {
		return sighting{kind: seccomp.Connect, tid: thread, peers: []Peer{{Host: host, Port: port}}, datagram: datagram}
	}
	udp := func(thread int, host string, port int) sighting { return connect(thread, host, port, true) }
	tcp := func(thread int, host string, port int) sighting { return connect(thread, host, port, false) }
	var crowd []sighting
	for thread := range lookupsMost + 2 {
		crowd = append(crowd, udp(thread+1, "a", 1))
	}
	tests := []struct {
		name  string
		calls []sighting
		want  string
	}{
		{"one to send to", []sighting{udp(1, "a", 53)}, "a:53×1"},
		{"the same again", []sighting{udp(1, "a", 53), udp(1, "a", 53), udp(1, "a", 53)}, "a:53×3"},
		{"others", []sighting{udp(1, "a", 53), udp(1, "b", 54), udp(1, "a", 53)}, "a:53×2 b:54×1"},
		{"without a service", []sighting{udp(1, "a", 0), udp(1, "b", 0)}, ""},
		{"a name, and its first address", []sighting{udp(1, "a", 80), udp(1, "b", 80), tcp(1, "a", 80)}, "a:80×1"},
		{"a name, and all its addresses", []sighting{udp(1, "a", 80), udp(1, "b", 80), tcp(1, "a", 80), tcp(1, "b", 80)}, "a:80×1 b:80×1"},
		{"its second address", []sighting{udp(1, "a", 80), udp(1, "b", 80), tcp(1, "b", 80)}, "b:80×1"},
		{"looked up by another thread", []sighting{udp(1, "a", 80), udp(1, "b", 80), tcp(2, "a", 80)}, "a:80×1"},
		{"with a name server", []sighting{udp(1, "s", 53), udp(1, "a", 80), udp(1, "b", 80), tcp(1, "a", 80)}, "s:53×1 a:80×1"},
		{"used by UDP as well", []sighting{udp(1, "a", 80), udp(1, "b", 80), udp(1, "a", 80)}, "a:80×1"},
		{"looked up twice", []sighting{udp(1, "a", 80), udp(1, "b", 80), udp(1, "a", 80), udp(1, "b", 80), tcp(1, "a", 80)}, "a:80×1"},
		{"looked up only", []sighting{udp(1, "a", 80), udp(1, "b", 80)}, "a:80×1 b:80×1"},
		{"another port", []sighting{udp(1, "a", 80), udp(1, "b", 80), tcp(1, "a", 81)}, "a:81×1 a:80×1 b:80×1"},
		{"one address does not make a lookup", []sighting{udp(1, "a", 80), tcp(1, "a", 80)}, "a:80×2"},
		{"many threads", crowd, "a:1×18"},
	}
	for _, tt := range tests {
		found := newTally()
		for _, call := range tt.calls {
			found.take(call)
		}
		var got []string
		for _, p := range found.activity(0).Connections {
			got = append(got, fmt.Sprintf("%s:%d×%d", p.Host, p.Port, p.Count))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestActivityStarts(t *testing.T) {
	t.Parallel()
	start := func(thread int, program string, args ...string) sighting {
		return sighting{kind: seccomp.Exec, tid: thread, start: &Execution{Program: program, Args: args}}
	}
	tests := []struct {
		name  string
		calls []sighting
		want  string
	}{
		{"one", []sighting{start(1, "/a/x")}, "/a/x×1"},
		{"attempts", []sighting{start(1, "/a/x"), start(1, "/b/x"), start(1, "/c/x")}, "/c/x×1"},
		{"attempts of two", []sighting{start(1, "/a/x"), start(2, "/a/x"), start(1, "/b/x"), start(2, "/b/x")}, "/b/x×2"},
		{"found earlier by another", []sighting{start(1, "/a/x"), start(2, "/a/x"), start(2, "/b/x")}, "/a/x×1 /b/x×1"},
		{"one after the other in one place", []sighting{start(1, "/a/sh"), start(1, "/a/x")}, "/a/sh×1 /a/x×1"},
		{"other arguments", []sighting{start(1, "/a/x", "1"), start(1, "/b/x", "2")}, "/a/x×1 /b/x×1"},
		{"again in one place", []sighting{start(1, "/a/x"), start(1, "/a/y"), start(1, "/a/x")}, "/a/x×2 /a/y×1"},
	}
	for _, tt := range tests {
		found := newTally()
		for _, call := range tt.calls {
			found.take(call)
		}
		var got []string
		for _, x := range found.activity(0).Executions {
			got = append(got, fmt.Sprintf("%s×%d", x.Program, x.Count))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
