// Package envvar looks up variables in an environment as os.Environ returns it.
package envvar

// Lookup returns the value of a variable; empty: it is not set. Of a name that stands there twice the
// first counts, as for os.Getenv. It builds no text: each run looks up some twenty variables.
func Lookup(environ []string, name string) string {
	for _, e := range environ {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return e[len(name)+1:]
		}
	}
	return ""
}
