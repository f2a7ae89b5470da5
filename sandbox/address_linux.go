package sandbox

import (
	"encoding/binary"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peerOf reads a socket address. The host is empty if the address leads nowhere: the removal of a
// peer, the kernel's own families.
func peerOf(a []byte) Peer {
	if len(a) < 2 {
		return Peer{}
	}
	switch family := binary.NativeEndian.Uint16(a); {
	case family == unix.AF_INET && len(a) >= 8:
		return Peer{Host: netip.AddrFrom4([4]byte(a[4:])).String(), Port: int(binary.BigEndian.Uint16(a[2:]))}
	case family == unix.AF_INET6 && len(a) >= 24:
		return Peer{Host: netip.AddrFrom16([16]byte(a[8:])).String(), Port: int(binary.BigEndian.Uint16(a[2:]))}
	case family == unix.AF_UNIX && len(a) > 2:
		name := string(a[2:])
		if name[0] == 0 {
			return Peer{Host: "unix:@" + name[1:]}
		}
		name, _, _ = strings.Cut(name, "\x00")
		return Peer{Host: "unix:" + name}
	case family == unix.AF_UNSPEC, family == unix.AF_UNIX, family == unix.AF_NETLINK, family == unix.AF_ALG, family == unix.AF_INET, family == unix.AF_INET6:
		return Peer{}
	default:
		return Peer{Host: "family:" + strconv.Itoa(int(family))}
	}
}

// nameService tells whether a socket is one that the C library looks names up by.
func nameService(socket string) bool {
	socket = path.Clean(socket)
	if slices.Contains([]string{"/var/run/nscd/socket", "/run/nscd/socket"}, socket) {
		return true
	}
	return slices.Contains([]string{"/run/systemd/resolve", "/run/systemd/userdb"}, path.Dir(socket)) && strings.HasPrefix(path.Base(socket), "io.systemd.")
}
