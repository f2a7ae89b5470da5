package scripts

import "fmt"

// A NotFoundError says that there is no such script or version. Its text does not tell the two
// apart: whoever must not know of a script gets the same text for one that exists.
type NotFoundError struct {
	Ref string
	Of  *Meta // the script exists, and only the version does not, or it was deleted; nil: there is no such script
}

// NotFound is the error for a script that does not exist, and for one that the caller must not know of.
func NotFound(ref string) error { return &NotFoundError{Ref: ref} }

func (e *NotFoundError) Error() string { return fmt.Sprintf("script %s: not found", shown(e.Ref)) }

// Hint is for those who may know of the script.
func (e *NotFoundError) Hint() string {
	switch {
	case e.Of == nil:
		return "py3runctl script list shows the scripts that you may run or read"
	case e.Of.Current == 0:
		return fmt.Sprintf("the script was deleted; py3runctl script history %s shows its versions", e.Of.Name)
	}
	return fmt.Sprintf("the newest version is %s@%d; py3runctl script history %[1]s shows all", e.Of.Name, e.Of.Current)
}

// A ConflictError says that a script is not at the version that the writer has seen.
type ConflictError struct {
	Name    string
	Want    int     // the version that the writer has seen; 0: none
	Current Version // Number 0: there is no such script, or it was deleted
}

func (e *ConflictError) Error() string {
	there := "there is no script of that name"
	if e.Current.Number > 0 {
		there = fmt.Sprintf("its current version is %d, by %s", e.Current.Number, e.Current.Author)
	}
	return fmt.Sprintf("save script %s: not at version %d: %s", e.Name, e.Want, there)
}

// Hint says how to go on.
func (e *ConflictError) Hint() string {
	if e.Current.Number == 0 {
		return "--if-version 0 saves a script that does not exist yet"
	}
	return fmt.Sprintf("py3runctl script show %s shows it; save with --if-version %d once your text has its changes", e.Name, e.Current.Number)
}

// A DamageError says that a file of the store is not what was written: nothing of that script is run.
type DamageError struct {
	Name  string // of the script
	What  string // the file, below the directory of the store
	Cause string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("script %s is damaged: %s: %s", e.Name, e.What, e.Cause)
}

// Hint says how to repair it.
func (e *DamageError) Hint() string {
	return "restore the file from a backup; if the text is known to be right, saving it again as a new version repairs an object"
}
