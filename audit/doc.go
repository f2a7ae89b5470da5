// Package audit keeps a log of what was run, by whom, and what came of it: one
// line of JSON a record, in a file that many processes extend at once and in
// which a changed, removed or inserted line shows.
//
// # The log
//
//	<dir>/audit.jsonl               the current segment
//	<dir>/audit-<first seq>.jsonl   closed segments, seq with 12 digits
//	<dir>/torn-<seq>-<n>.frag       bytes cut from a torn end, see below
//	<dir>/runs/<run id>             of each run under way, see below
//	<dir>/code/<sha256>             code that was run, if it is to be kept
//	<dir>/variables.key             by which values are known, if they are to be
//	<dir>/.lock                     taken by every writer, never removed; its text is the seq and hash of the newest record, and of configuration files
//
// A line is one JSON object of printable ASCII, at most 16 KiB with its
// newline, its keys in the order of [Record]. seq starts at 1 and rises by
// one. prev is the lower-case hexadecimal SHA-256 of the line before, without
// its newline; 64 zeros in the first record of all. Both go on across
// segments. Field names follow the Elastic Common Schema where it has one.
//
// # Writing a record
//
// Every writer is a process of its own; there is no daemon. What they share is
// the directory:
//
//	fit      lists dropped until the line fits        nothing touched yet
//	lock     flock on .lock, for at most 2 s       ◄─ ErrLocked
//	│ open   audit.jsonl: regular, one link, ours
//	│ tail   the last whole record                 ─► seq, prev
//	│ rotate a start only: 16 MiB or a day old     ─► audit-<first seq>.jsonl
//	│ repair what stands after it                  ─► torn-*.frag, cut, an audit-repair record
//	│ compare with the text of .lock               ─► removed, cut or replaced, or no text: an audit-repair record
//	│ and a start's configuration files            ─► changed: a policy-change record
//	│ reserve a start only: room for all ends      ◄─ disk full: error
//	│ write  one write(2)                          ◄─ short or failed: cut back, error
//	│ look   the path still leads to this file     ◄─ moved or removed: error
//	unlock
//	sync     fdatasync: this record and all before it
//
// The order of the records is fixed by the writes, so that the slow part, the
// sync, stands outside the lock. A process killed anywhere in this leaves
// either a whole record, nothing, or a torn end for the next writer to repair;
// the kernel takes its lock away.
//
// A torn end is whatever follows the last line that is a record: half a line,
// the NULs some file systems leave after a power cut, a line of something
// else. The repair keeps those bytes in a file named for the seq of the
// audit-repair record it is about to write. A writer that dies, or finds the
// disk full, between the cut and that record leaves the file as a note, and
// the next one writes the record. For this reason fragments belong to their
// log: who starts a log afresh in the same directory moves them away as well.
//
// # Runs
//
// [Log.Begin] makes a file for the run, which it holds locked, and reserves room
// in the segment for its end record. [Run.End] takes the file away under the
// same lock under which the end record is written; a record that does not get
// into the log is kept in the file. A file that is not locked any more is that
// of a run whose writer died: [Log.Recover] writes the kept record, or one that
// the run is orphaned.
//
// # A log that was removed, cut or replaced
//
// The newest record's seq and hash stand in .lock as well. Where the log does
// not have that record, it goes on after it all the same, so that no seq is
// given twice, with an audit-repair record that says what was expected and
// what was found. A segment that was only moved away continues like this
// without a gap in the numbers.
//
// Whoever cuts the log may take .lock away as well. Records without it have an
// audit-repair record with the reason memory-lost, which names the newest one
// there is; so has a .lock that is of another log, or too old. The file of a
// run under way is a second note. An empty .lock, which a power cut leaves, is
// told by the field repair of the next record, whatever that is.
//
// # Who may read
//
// Files are of mode 0600, and the directory is 0700. [Log.ShareWith] opens
// them to the members of a group, but for variables.key.
//
// # Removing old records
//
// [Log.Prune] removes closed segments, after an audit-retention record that
// says what the oldest record left goes on from: the hash of the one before
// it, and the Merkle tree over all records up to there. Record and removal
// are under one lock.
//
// # Reading
//
// A [Reader] needs no more than to be allowed to read, and nobody waits for
// it: it sees the log as it was at one moment. [Reader.Verify] checks all
// that stands above. What cannot be read because of the host (no permission, no
// descriptor left, a bad disk) is told as such, and never as a broken log.
//
// Each finding has an id. An audit-acknowledged record that names it says that
// somebody has looked into it; the finding stays, and says who.
//
// # What is not covered
//
// The log's user and root can rewrite all of it, .lock included: the chain
// proves only that what is there is consistent. Then the [Receipt] that
// somebody else kept tells, not this package. flock over NFS and SMB is not relied upon, nor are the
// directories above the log's checked. Who removes .lock while writers are at
// work can break the chain. Access control lists are not looked at.
package audit
