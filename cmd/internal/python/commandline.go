package python

import "strings"

// A CommandLine is what CPython makes of its arguments, as far as a record wants to know it: where
// the code comes from.
type CommandLine struct {
	Source CodeSource
	Text   string // of the option -c
	Name   string // of the file or the module
	At     int    // index of the argument in which the text or the name stands
	Begins int    // of Text or a module's name within that argument
}

// CodeSource is where the code of an interpreter comes from.
type CodeSource string

const (
	FromOption      CodeSource = "option"      // -c TEXT
	FromModule      CodeSource = "module"      // -m NAME
	FromFile        CodeSource = "file"        // FILE
	FromStdin       CodeSource = "stdin"       // - or nothing
	FromInteraction CodeSource = "interactive" // nothing, with -i or at a terminal
	FromNothing     CodeSource = "none"        // -V, -h, or a mistake, for which no code runs
)

// Options of CPython (Python/getopt.c): a colon follows those with an argument.
const (
	shortOptions = "+bBc:dEhiIm:OPqRsStuvVW:xX:?"
	longOptions  = "--check-hash-based-pycs --help --help-all --help-env --help-xoptions --version"
)

// ReadCommandLine reads the arguments of CPython, without argv[0], as CPython does. terminal says that
// standard input is one.
func ReadCommandLine(args []string, terminal bool) CommandLine {
	nothing := CommandLine{Source: FromNothing}
	informs, inspects := false, false
	next := 0
	for next < len(args) {
		arg := args[next]
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		next++
		switch arg {
		case "--":
			return withoutOptions(args, next, informs, inspects || terminal)
		case "--help", "--version":
			informs = true
			continue
		}
		if strings.HasPrefix(arg, "--") {
			if !strings.Contains(" "+longOptions+" ", " "+arg+" ") {
				return nothing
			}
			if informs = informs || strings.HasPrefix(arg, "--help"); !strings.HasPrefix(arg, "--help") {
				if next++; next > len(args) {
					return nothing
				}
			}
			continue
		}
		for i := 1; i < len(arg); i++ {
			at := strings.IndexByte(shortOptions[1:], arg[i])
			if at < 0 || arg[i] == ':' {
				return nothing
			}
			switch arg[i] {
			case 'h', '?', 'V':
				informs = true
			case 'i':
				inspects = true
			}
			if takes := at+2 < len(shortOptions) && shortOptions[at+2] == ':'; !takes {
				continue
			}
			value := CommandLine{At: next - 1, Begins: i + 1, Text: arg[i+1:]}
			if value.Text == "" {
				if next >= len(args) {
					return nothing
				}
				value = CommandLine{At: next, Text: args[next]}
				next++
			}
			switch {
			case arg[i] != 'c' && arg[i] != 'm':
			case informs:
				return nothing
			case arg[i] == 'c':
				value.Source = FromOption
				return value
			default:
				value.Source, value.Name, value.Text = FromModule, value.Text, ""
				return value
			}
			break // the rest of the argument was the option's
		}
	}
	return withoutOptions(args, next, informs, inspects || terminal)
}

// withoutOptions is the command line whose first argument after the options is args[next].
func withoutOptions(args []string, next int, informs, interactive bool) CommandLine {
	switch {
	case informs:
		return CommandLine{Source: FromNothing}
	case next < len(args) && args[next] != "-":
		return CommandLine{Source: FromFile, Name: args[next], At: next}
	case interactive:
		return CommandLine{Source: FromInteraction}
	}
	return CommandLine{Source: FromStdin}
}
