package cli

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tree() *cobra.Command {
	root := &cobra.Command{Use: "tool", SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
	root.PersistentFlags().String("config", "", "")
	sub := &cobra.Command{Use: "work", RunE: func(*cobra.Command, []string) error { return nil }}
	for _, name := range []string{"memory-mb", "timeout-seconds", "cpu-seconds", "disk-mb", "processes"} {
		sub.Flags().Int(name, 0, "")
	}
	sub.Flags().Bool("secret", false, "")
	sub.Flags().MarkHidden("secret")
	root.AddCommand(sub)
	Suggest(root)
	AddHelp(root)
	root.SetOut(io.Discard)
	return root
}

func TestHint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"work --memory 5", "did you mean --memory-mb? see tool work --help"},
		{"work --timeout=5", "did you mean --timeout-seconds? see tool work --help"},
		{"work --timeout-secs=5", "did you mean --timeout-seconds? see tool work --help"},
		{"work --proceses 5", "did you mean --processes? see tool work --help"},
		{"work --confg x", "did you mean --config? see tool work --help"},
		{"work --frobnicate", "see tool work --help"},
		{"work --secre", "see tool work --help"},
		{"work -x", "see tool work --help"},
		{"work --memory-mb", "see tool work --help"},
		{"--frobnicate", "see tool --help"},
		{"nothing", "see tool --help"},
	} {
		root := tree()
		args := strings.Fields(tt.args)
		root.SetArgs(args)
		err := root.Execute()
		if err == nil || !IsUsage(err) {
			t.Errorf("%s: %v is no usage error", tt.args, err)
			continue
		}
		if got := Hint(root, args, err); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.args, got, tt.want)
		}
	}
}

// What a flag wants is said in words, not as Go says it.
func TestValueOfAFlag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"work --seconds x", `invalid argument "x" for --seconds: want a number`},
		{"work --flag=maybe", `invalid argument "maybe" for --flag: want true or false`},
		{"work --count 1.5", `invalid argument "1.5" for --count: want a whole number`},
	} {
		root := tree()
		work, _, _ := root.Find([]string{"work"})
		work.Flags().Float64("seconds", 1, "")
		work.Flags().BoolP("flag", "f", false, "")
		work.Flags().Int("count", 1, "")
		root.SetArgs(strings.Fields(tt.args))
		if err := root.Execute(); err == nil || err.Error() != tt.want || !IsUsage(err) {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.want)
		}
	}
}

// Completion in a bash that has nothing but itself completes, and says nothing.
func TestCompletionOfBareBash(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	root := tree()
	var script bytes.Buffer
	root.SetOut(&script)
	root.SetArgs([]string{"completion", "bash"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ words, want string }{
		{"tool wo", "tool __complete wo"},
		{"tool work --memory-mb = 5", "tool __complete work --memory-mb=5"},
		{"tool work a : b", "tool __complete work a:b"},
		{"tool work a b", "tool __complete work a b"},
	} {
		// The program itself is a function that shows how it was asked.
		test := script.String() + `
tool() { echo "tool $*" >&3; echo ":4"; }
compopt() { :; }
COMP_WORDS=(` + tt.words + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_tool 3>&1
`
		c := exec.Command(bash, "--norc", "--noprofile", "-c", test)
		c.Env = []string{"PATH=/usr/bin:/bin"}
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil || strings.TrimSpace(string(out)) != tt.want || errs.Len() > 0 {
			t.Errorf("%s: %v: %q, want %q; %s", tt.words, err, out, tt.want, errs.String())
		}
	}
}
