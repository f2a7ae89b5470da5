package passwd

import (
	"os"
	"slices"
	"testing"
)

const (
	users = "root:x:0:0:root:/root:/bin/sh\nplant:x:1000:100:The plant,,,:/home/plant:/bin/sh\nbroken:x:one:1:::\nbroken:x:7:7::/:\n" +
		"short:x:1:1\nlast:x:1001:1001::/home/last\nplant:x:0:0::/:\n"
	groups = "root:x:0:\nusers:x:100:plant\ndialout:x:20:ops,plant\nops:x:30:ops\nlp:x:seven:plant\n"
)

func TestFind(t *testing.T) {
	t.Parallel()
	plant := User{"plant", 1000, 100, "/home/plant"}
	tests := []struct {
		name, uid string // one of them
		want      User
		ok        bool
	}{
		{"plant", "", plant, true},
		{"", "1000", plant, true},
		{"last", "", User{"last", 1001, 1001, "/home/last"}, true},
		{"root", "", User{"root", 0, 0, "/root"}, true},
		{"nobody", "", User{}, false},
		{"broken", "", User{}, false},
		{"short", "", User{}, false},
		{"", "1", User{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name+tt.uid, func(t *testing.T) {
			t.Parallel()
			got, ok := find(users, func(f []string) bool { return tt.uid == "" && f[0] == tt.name || f[2] == tt.uid })
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("%+v, %t, want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	plant, _ := find(users, func(f []string) bool { return f[0] == "plant" })
	if got, want := groupsOf(plant, groups), []int{100, 20}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	const users = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\ncat:x:1002:1002::/:\ndan:x:1003:1002::/:\neve:x:1004:100::/:\nfay:x:1005:1005::/:\n"
	const groups = "root:x:0:\nann:x:1000:\nbob:x:1001:bob,ann\ncat:x:1002:\nusers:x:100:\nadm:x:4:ann\nfay:x:1005:fay\n"
	for _, tt := range []struct {
		name     string
		gid, uid int
		want     bool
	}{
		{"of its own", 1000, 1000, true},
		{"of its own, as a member, too", 1005, 1005, true},
		{"root's", 0, 0, true},
		{"another is a member", 1001, 1001, false},
		{"the first group of another, too", 1002, 1002, false},
		{"not the first group", 4, 1000, false},
		{"another user's", 1000, 1001, false},
		{"of nobody known", 7, 7, false},
		{"a group that only another service knows", 77, 1000, false},
	} {
		if got := private(tt.gid, tt.uid, users, groups); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	if private(1000, 1000, users, "") {
		t.Error("a group that is not listed counts as private")
	}
}

func TestThisHost(t *testing.T) {
	t.Parallel()
	u, ok := ByUID(os.Getuid())
	if !ok {
		t.Skip("the user of this test is not in " + usersFile)
	}
	if named, ok := ByName(u.Name); !ok || named.Name != u.Name {
		t.Errorf("%q by name: %+v, %t", u.Name, named, ok)
	}
	if g := u.Groups(); len(g) == 0 || g[0] != u.GID {
		t.Errorf("groups %v of %+v", g, u)
	}
}

func TestGroupID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		want int // -1: an error
	}{{"0", 0}, {"54321", 54321}, {"root", 0}, {"no-such-group", -1}, {"no such group", -1}, {"-5", -1}, {"99999999999", -1}} {
		got, err := GroupID(tt.name)
		if err == nil && got != tt.want || (err != nil) != (tt.want < 0) {
			t.Errorf("%s: %d, %v", tt.name, got, err)
		}
		if err != nil && err.Error() != "no group "+tt.name+" in /etc/group" && !os.IsNotExist(err) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
