package scripts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", partMost)
	for _, name := range []string{"a", "tank-balance", "tank/daily/balance", "0", "a.b_c-d", "a/b/c/d", "x.meta.json", "index.json", "lock", "meta.json", long + "/" + long, "console", "com10", "com", "lpt0"} {
		if err := BadName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"": "is empty", "..": "two dots", ".": "begins with", "../../etc/passwd": "two dots", "a/../b": "two dots", "a..b": "two dots", "/etc": "a slash", "a/": "a slash", "a//b": "a slash",
		".lock": "begins with", "-rf": "begins with", "_x": "begins with", "a.": "ends with a dot", "a/b.": "ends with a dot", "A": "a capital letter", "tank/Balance": "a capital letter",
		long + "a": "64 are allowed", strings.Repeat("a/", 3) + "a/b": "more than 4 parts", strings.Repeat(long+"/", 3) + long: "200 are allowed",
		"аdmin": "besides a-z", "ａ": "besides a-z", "e\u0301": "besides a-z", "é": "besides a-z", "a b": "besides a-z", "a\x00": "besides a-z", "a\n": "besides a-z", "a\\b": "besides a-z",
		"a+b": "besides a-z", "a@1": "besides a-z", "a%2fb": "besides a-z", "a:b": "besides a-z", "a\u202eb": "besides a-z", "\xff": "besides a-z",
		"con": "a device", "aux.py": "a device", "a/nul": "a device", "com1": "a device", "lpt9.x.y": "a device",
	} {
		err := BadName(name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
			continue
		}
		for _, r := range err.Error() {
			if r < ' ' || r > '~' {
				t.Errorf("%q: the message has %q: %v", name, r, err)
			}
		}
	}
}

func TestNormal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"My Script": "my_script", "Tank Balance (v2)": "tank_balance_v2", "Füllstand": "f_llstand", "../../etc/passwd": "etc/passwd", "Reports/Daily Run.py": "reports/daily_run.py",
		"a": "a", "CON": "script_con", "日本": "", "": "", "_x_": "x", "A/B/C/D/E": "", "a..b": "a.b", "a._b": "a.b",
	} {
		if got := Normal(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseRef(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]int{"a": 0, "a/b@1": 1, "a@999999999": 999999999} {
		if _, version, err := ParseRef(ref); err != nil || version != want {
			t.Errorf("%s: %d, %v", ref, version, err)
		}
	}
	for _, ref := range []string{"", "@1", "a@", "a@0", "a@01", "a@-1", "a@+1", "a@1.0", "a@1 ", "a@latest", "a@1@2", "a@1000000000", "a@\u0661", "../a@1"} {
		if name, version, err := ParseRef(ref); err == nil {
			t.Errorf("%q is %s@%d", ref, name, version)
		}
	}
}

// Whatever the name, a save makes nothing outside the store, and what can be saved can be resolved.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "a/b", "../a", "a/../../b", "names", "objects", "аdmin", "con", "a\x00b", strings.Repeat("x", 65), "A", "a@1", ".lock"} {
		f.Add(name)
	}
	s := fixture(f)
	above := filepath.Dir(filepath.Dir(s.dir))
	f.Fuzz(func(t *testing.T, name string) {
		_, err := s.Save(name, Draft{Code: []byte("1")}, by("alice"))
		if (err == nil) != (BadName(name) == nil) {
			t.Fatalf("%q: %v", name, err)
		}
		if err == nil {
			if got, err := s.Resolve(name); err != nil || got.Meta.Name != name {
				t.Errorf("%q: %v", name, err)
			}
			return
		}
		if _, err := s.Resolve(name); err == nil && !strings.Contains(name, "@") {
			t.Errorf("%q cannot be saved and can be resolved", name)
		}
		for _, dir := range []string{above, filepath.Dir(s.dir)} {
			if list, _ := os.ReadDir(dir); len(list) > 1 {
				t.Fatalf("%q: there are %v in %s", name, list, dir)
			}
		}
		if normal := Normal(name); normal != "" && BadName(normal) != nil {
			t.Errorf("%q: its normal form %q is no name", name, normal)
		}
	})
}

// A version that is none is not a matter of the name.
func TestBadVersion(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"x", "", "0", "01", "1@2", "-1"} {
		_, _, err := ParseRef("plant/daily@" + version)
		wrong, ok := err.(*NameError)
		if !ok || !strings.HasPrefix(wrong.Error(), "version "+strconv.Quote(version)+" of the script plant/daily: ") || !strings.Contains(wrong.Hint(), "plant/daily@1 is its first version") {
			t.Errorf("%q: %v", version, err)
		}
	}
}
