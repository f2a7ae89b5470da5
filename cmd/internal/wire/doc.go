// Package wire is the public JSON of the launcher: requests, results, the statuses with their exit
// codes, and the JSON Schemas. It knows no configuration, no user and no process: it turns bytes
// into values and back.
//
//	stdin  ─ Decode ─► Request, []Warning       strict; the caller capped the size; nothing is believed yet
//	child  ─ Inspect ─► Findings                the value that a run handed back, still as bytes
//	Result ─ Encode ─► one line on stdout
//	events ─ AppendEvent ─► the lines before it, in a stream; ResultEvent makes the last one
//	Result ─ ExitStatus ─► the process's exit code
//
// Everything with a JSON name here is public. Published names, statuses and exit codes never change
// their meaning. testdata/wire holds requests with their outcomes, for this reader and for others.
package wire
