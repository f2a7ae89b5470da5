package python

// RedactArguments hides in a command line what is told to be a secret by the rules for those of programs.
func RedactArguments(argv []string) []string {
	if len(argv) < 2 { // the program's own name is none
		return argv
	}
	return redact(argv)
}
