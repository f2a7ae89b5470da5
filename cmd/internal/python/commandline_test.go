package python

import (
	"strings"
	"testing"
)

func TestReadCommandLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args     string // separated by |
		terminal bool
		want     CommandLine
	}{
		{"", false, CommandLine{Source: FromStdin}},
		{"", true, CommandLine{Source: FromInteraction}},
		{"-", false, CommandLine{Source: FromStdin}},
		{"-|a", false, CommandLine{Source: FromStdin}},
		{"-i", false, CommandLine{Source: FromInteraction}},
		{"-u|-i", false, CommandLine{Source: FromInteraction}},
		{"-i|-", false, CommandLine{Source: FromInteraction}},
		{"-c|print(1)", false, CommandLine{Source: FromOption, Text: "print(1)", At: 1}},
		{"-cprint(1)", false, CommandLine{Source: FromOption, Text: "print(1)", At: 0, Begins: 2}},
		{"-Ic|print(1)|-V", false, CommandLine{Source: FromOption, Text: "print(1)", At: 1}},
		{"-uIcpass", false, CommandLine{Source: FromOption, Text: "pass", At: 0, Begins: 4}},
		{"-c", false, CommandLine{Source: FromNothing}},
		{"-c|", false, CommandLine{Source: FromOption, At: 1}},
		{"-i|-c|1", false, CommandLine{Source: FromOption, Text: "1", At: 2}},
		{"-m|venv|x", false, CommandLine{Source: FromModule, Name: "venv", At: 1}},
		{"-mvenv|x", false, CommandLine{Source: FromModule, Name: "venv", Begins: 2}},
		{"-um|http.server", false, CommandLine{Source: FromModule, Name: "http.server", At: 1}},
		{"-m", false, CommandLine{Source: FromNothing}},
		{"a.py", true, CommandLine{Source: FromFile, Name: "a.py"}},
		{"-u|a.py|-c|x", false, CommandLine{Source: FromFile, Name: "a.py", At: 1}},
		{"-W|error|-X|dev|a.py", false, CommandLine{Source: FromFile, Name: "a.py", At: 4}},
		{"-Werror|-Xdev|a.py", false, CommandLine{Source: FromFile, Name: "a.py", At: 2}},
		{"-bWerror|a.py", false, CommandLine{Source: FromFile, Name: "a.py", At: 1}},
		{"-W", false, CommandLine{Source: FromNothing}},
		{"-X|importtime|-c|1", false, CommandLine{Source: FromOption, Text: "1", At: 3}},
		{"-bBdEiIOPqRsStuvx|a.py", false, CommandLine{Source: FromFile, Name: "a.py", At: 1}},
		{"--|-c", false, CommandLine{Source: FromFile, Name: "-c", At: 1}},
		{"--|-|x", false, CommandLine{Source: FromStdin}},
		{"--", true, CommandLine{Source: FromInteraction}},
		{"-V", false, CommandLine{Source: FromNothing}},
		{"-VV", true, CommandLine{Source: FromNothing}},
		{"--version", false, CommandLine{Source: FromNothing}},
		{"--version|-c|1", false, CommandLine{Source: FromNothing}},
		{"-c|1|--version", false, CommandLine{Source: FromOption, Text: "1", At: 1}},
		{"-h", false, CommandLine{Source: FromNothing}},
		{"-?", false, CommandLine{Source: FromNothing}},
		{"--help-all", false, CommandLine{Source: FromNothing}},
		{"--help-env|a.py", false, CommandLine{Source: FromNothing}},
		{"--check-hash-based-pycs|always|a.py", false, CommandLine{Source: FromFile, Name: "a.py", At: 2}},
		{"--check-hash-based-pycs", false, CommandLine{Source: FromNothing}},
		{"--unknown|a.py", false, CommandLine{Source: FromNothing}},
		{"-Z|a.py", false, CommandLine{Source: FromNothing}},
		{"-J|a.py", false, CommandLine{Source: FromNothing}},
		{"-:|a.py", false, CommandLine{Source: FromNothing}},
		{"-+|a.py", false, CommandLine{Source: FromNothing}},
	} {
		var args []string
		if tt.args != "" {
			args = strings.Split(tt.args, "|")
		}
		if got := ReadCommandLine(args, tt.terminal); got != tt.want {
			t.Errorf("%q, terminal %v:\n%+v, want\n%+v", args, tt.terminal, got, tt.want)
		}
	}
}
