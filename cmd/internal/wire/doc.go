// Package wire is the public JSON of the launcher: requests in, results out, the statuses with
// their exit codes, and the JSON Schemas of all three. It knows no configuration, no user and no
// process; it turns bytes into values and back.
//
//	stdin  ─ Decode ─► Request, []Warning       strict, capped by the caller, nothing believed yet
//	child  ─ Inspect ─► Findings                the value a run handed back, still as bytes
//	Result ─ Encode ─► one line on stdout
//	Result ─ ExitStatus ─► the process's exit code
//
// Everything with a JSON name here is public. Published names, statuses and exit codes never change
// meaning; testdata/wire holds requests with their outcomes for this and other readers.
package wire
