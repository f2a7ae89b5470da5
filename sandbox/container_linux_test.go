package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"py3run/sandbox/cgroup"
)

func TestContainer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files map[string]string
		env   map[string]string
		want  string
	}{
		{name: "a host", files: map[string]string{"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n", "proc/1/environ": "HOME=/\x00TERM=linux\x00"}},
		{name: "nothing to be seen"},
		{name: "docker, by its file", files: map[string]string{".dockerenv": ""}, want: "docker"},
		{name: "docker, by its group (v1)", files: map[string]string{"proc/self/cgroup": "4:memory:/docker/0123\n"}, want: "docker"},
		{name: "docker, by its group (systemd)", files: map[string]string{"proc/self/cgroup": "0::/system.slice/docker-0123.scope\n"}, want: "docker"},
		{name: "podman, by its file", files: map[string]string{"run/.containerenv": "engine=\"podman-5.0\"\n"}, want: "podman"},
		{name: "podman, by its group", files: map[string]string{"proc/1/cgroup": "0::/machine.slice/libpod-0123.scope\n"}, want: "podman"},
		{name: "kubernetes, by its variable", env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, want: "kubernetes"},
		{name: "kubernetes, by its account, in docker", files: map[string]string{".dockerenv": "", "var/run/secrets/kubernetes.io/serviceaccount/token": "x"}, want: "kubernetes"},
		{name: "kubernetes, by its group", files: map[string]string{"proc/self/cgroup": "4:memory:/kubepods/besteffort/pod1\n"}, want: "kubernetes"},
		{name: "by the first process's variable", files: map[string]string{"proc/1/environ": "PATH=/bin\x00container=lxc\x00TERM=linux"}, want: "lxc"},
		{name: "by this process's variable", env: map[string]string{"container": "oci"}, want: "oci"},
		{name: "by what systemd notes", files: map[string]string{"run/systemd/container": "systemd-nspawn\n"}, want: "systemd-nspawn"},
		{name: "another variable of that name's end", files: map[string]string{"proc/1/environ": "mycontainer=x\x00"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for path, text := range tt.files {
				path = filepath.Join(root, path)
				check(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
			}
			if got := container(root, func(name string) string { return tt.env[name] }); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// In a container nothing is recommended that only a service manager of the host could do, and what
// is can work there.
func TestInsideRepair(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		kind   string
		uid    int
		around cgroup.Surroundings
		want   []string // in the cause for memory, or the repair
		not    []string
	}{
		{"docker", "docker", 0, cgroup.Surroundings{ReadOnly: true, Version2: true, Memory: 512 << 20, MemoryAt: "/sys/fs/cgroup/memory.max"},
			[]string{"container (docker), whose control groups are mounted read-only", "512 MB for all runs together (/sys/fs/cgroup/memory.max)", "writable-cgroups=true", "--memory=2g", "cgroup.subtree_control"}, []string{"chown"}},
		{"docker, an ordinary user", "docker", 1000, cgroup.Surroundings{ReadOnly: true, Version2: true}, []string{"no limit of its own", "chown 1000 /sys/fs/cgroup "}, nil},
		{"podman", "podman", 0, cgroup.Surroundings{ReadOnly: true, Version2: true}, []string{"unmask=/sys/fs/cgroup"}, nil},
		{"kubernetes", "kubernetes", 0, cgroup.Surroundings{ReadOnly: true, Version2: true}, []string{"cgroup_writable", "resources.limits"}, nil},
		{"another", "lxc", 0, cgroup.Surroundings{ReadOnly: true, Version2: true}, []string{"container (lxc)", "mounted writable"}, nil},
		{"writable already", "docker", 0, cgroup.Surroundings{Version2: true}, []string{"cgroup.subtree_control"}, []string{"read-only", "writable-cgroups"}},
		{"version 1", "docker", 0, cgroup.Surroundings{ReadOnly: true}, []string{"--memory=2g", "version 2 on the host"}, []string{"writable-cgroups", "subtree_control"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			said := insideCause(tt.kind, "memory", tt.around) + "\n" + insideRepair(tt.kind, tt.uid, tt.around)
			for _, want := range tt.want {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in %s", want, said)
				}
			}
			for _, not := range append(tt.not, "Delegate", "loginctl", "systemd-run") {
				if strings.Contains(said, not) {
					t.Errorf("%q in %s", not, said)
				}
			}
		})
	}
}
