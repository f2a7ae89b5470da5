// Package audit keeps a log of what was run, by whom, and with which result. A record is one
// line of JSON. Many processes extend the file at the same time, and a changed, removed or
// inserted line shows.
//
// # The log
//
//	<dir>/audit.jsonl               the current segment
//	<dir>/audit-<first seq>.jsonl   closed segments, seq with 12 digits
//	<dir>/torn-<seq>-<n>.frag       bytes cut from a torn end, see below
//	<dir>/runs/<run id>             one for each run under way, see below; beside it .live and .cancel
//	<dir>/code/<sha256>             code that was run, if the operator keeps it
//	<dir>/holds.json                legal holds in force, see below
//	<dir>/variables.key             for keyed hashes of values, if the operator wants them
//	<dir>/.lock                     locked by every writer, never removed; holds the seq and hash of the newest record,
//	                                and the hashes of configuration files
//
// A line is one JSON object of printable ASCII, with its keys in the order of [Record], and at
// most 16 KiB long with its newline. seq starts at 1 and rises by one. prev is the lower-case
// hexadecimal SHA-256 of the line before, without its newline; in the first record of all it is
// 64 zeros. Both go on across segments. Field names follow the Elastic Common Schema where it
// has one.
//
// # Writing a record
//
// There is no daemon. Every run writes its own records, and the writers share only the directory:
//
//	fit      drop lists until the line fits           nothing is touched yet
//	lock     flock on .lock, for 5 s and more      ◄─ ErrLocked
//	│ open   audit.jsonl: regular, one link, ours
//	│ tail   the last whole record                 ─► seq, prev
//	│ rotate a start only: 16 MiB or a day old     ─► audit-<first seq>.jsonl
//	│ repair what stands after that record         ─► torn-*.frag, cut, an audit-repair record
//	│ compare with the text of .lock               ─► removed, cut or replaced, or no text: an audit-repair record
//	│ and a start's configuration files            ─► changed: a policy-change record
//	│ reserve a start only: room for all ends      ◄─ disk full: error
//	│ write  one write(2)                          ◄─ short or failed: cut back, error
//	│ look   the path still leads to this file     ◄─ moved or removed: error
//	unlock
//	sync     fdatasync: this record and all before it
//
// The writes fix the order of the records, so that the slow part, the sync, can stand outside
// the lock. A process that is killed anywhere in this leaves a whole record, nothing, or a torn
// end for the next writer to repair; the kernel releases its lock.
//
// A torn end is what follows the last line that is a record: half a line, the NULs that some
// file systems leave after a power cut, or a line of something else. The repair keeps those
// bytes in a file named after the seq of the audit-repair record that it is about to write. A
// writer that dies, or finds the disk full, between the cut and that record leaves the file as a
// note, and the next writer writes the record. So these files belong to their log: whoever
// starts a new log in the same directory must move them away, too.
//
// # Runs
//
// [Log.Begin] makes a file for the run, holds it locked, and reserves room in the segment for
// the end record. [Run.End] removes the file under the same lock under which it writes the end
// record. A record that cannot be written to the log is kept in the file. A file that nobody
// holds locked belongs to a run whose writer died: [Log.Recover] writes the kept record, or one
// that the run is orphaned.
//
// In a process that has one run after the other ([Log.Stay]) the file of a run that has ended is
// renamed, to .spare- and a random number, and renamed again for the next run: that takes a third of
// the time. It stays locked. [Log.Recover] removes those of dead processes.
//
// Beside it, a run that lasts has the file <run id>.live: its launcher says by which processes and
// which control group it can be seen ([Reader.LiveRuns]). [Log.Cancel] writes an execution-cancel
// record and leaves its line in <run id>.cancel, where the launcher looks while the run lasts
// ([Run.Cancelled]).
//
// # A log that was removed, cut or replaced
//
// .lock also holds the seq and hash of the newest record. If the log does not have that record,
// the next one goes on after it all the same, so that no seq is given twice. An audit-repair
// record says what was expected and what was found. If a segment was only moved away, the
// numbers go on without a gap.
//
// Whoever cuts the log may remove .lock, too. If there are records and no .lock, or a .lock that
// belongs to another log or is too old, the next writer adds an audit-repair record with the
// reason memory-lost, which names the newest record that there is. The file of a run under way
// is a second note. If .lock is empty, as a power cut can leave it, the next record of any kind
// says so in its field repair.
//
// # Who may read
//
// Files have mode 0600, and the directory 0700. [Log.ShareWith] lets the members of a group read
// them, except variables.key.
//
// # Removing old records
//
// [Log.Prune] removes closed segments. Before that it writes an audit-retention record, which
// says what the oldest remaining record goes on from: the hash of the record before it, and the
// Merkle tree over all records up to there. Record and removal happen under one lock.
//
// # Legal holds
//
// A hold keeps the records that it selects, its own record, and everything after the oldest of
// these, because records are removed from the oldest end only. Two places say which holds are in
// force: the records audit-hold and audit-hold-release, and the file holds.json, which is replaced
// as a whole under the lock. [Log.AddHold] writes the file first and [Log.ReleaseHold] the record
// first, so that a writer that is killed in between leaves a hold in force. [Report.Plan] refuses to
// remove anything while the two disagree: whoever takes away one of them has not lifted the hold.
// [Log.Prune] compares the file again under the lock.
//
// # Reading
//
// A [Reader] needs only the permission to read, and no writer waits for it: it sees the log as
// it was at one moment. [Reader.Verify] checks everything above. What cannot be read because of
// the host (no permission, no descriptor left, a bad disk) is reported as unreadable, and never
// as a broken log.
//
// Each finding has an id. An audit-acknowledged record that names the id says that somebody has
// looked into the finding. The finding stays, and says who did.
//
// # What is not covered
//
// The account that writes the log, and root, can rewrite all of it, including .lock: the chain
// only proves that what is there is consistent. Against them only a [Receipt] or a checkpoint
// that somebody else keeps helps. flock does not work reliably over NFS and SMB. The directories
// above the log's are not checked. Whoever removes .lock while writers are at work can break the
// chain. Access control lists are not checked.
package audit
