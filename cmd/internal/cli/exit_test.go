package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestExit(t *testing.T) {
	t.Parallel()
	broken := &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
	tests := []struct {
		name string
		err  error
		lost error // of standard output
		code int
		want string
	}{
		{"done", nil, nil, 0, ""},
		{"reader has seen enough", broken, nil, 0, ""},
		{"reader of a message has seen enough", nil, broken, 0, ""},
		{"lost output", nil, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, 1, "tool: error: write standard output: no space left on device\n"},
		{"only a code", ExitCode(7), nil, 7, ""},
		{"a code in another error", fmt.Errorf("x: %w", ExitCode(3)), nil, 3, ""},
		{"usage", Usagef("want %d", 5), nil, 2, "tool: error: want 5\ntool: hint: see tool work --help\n"},
		{"usage with a hint", &UsageError{Text: "want 5", Hint: "say 5"}, nil, 2, "tool: error: want 5\ntool: hint: say 5\n"},
		{"usage by its text", errors.New("unknown flag: --x"), nil, 2, "tool: error: unknown flag: --x\ntool: hint: see tool work --help\n"},
		{"failure", errors.New("read x: no"), nil, 1, "tool: error: read x: no\n"},
		{"failure with a hint", fs.ErrPermission, nil, 1, "tool: error: permission denied\ntool: hint: ask\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root, said := tree(), ""
			root.SetOut(&Output{File: os.Stdout, lost: tt.lost})
			m := Messages{Program: "tool", Say: func(line []byte) { said += string(line) }}
			code := m.Exit(root, []string{"work"}, tt.err, func(err error) string {
				if errors.Is(err, fs.ErrPermission) {
					return "ask"
				}
				return ""
			})
			if code != tt.code || said != tt.want {
				t.Errorf("%d, %q, want %d, %q", code, said, tt.code, tt.want)
			}
		})
	}
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	if err := OneOf("format", "csv", "text", "json", "csv"); err != nil {
		t.Error(err)
	}
	for _, given := range []string{"", "xml"} {
		err := OneOf("format", given, "text", "json", "csv")
		if want := fmt.Sprintf("invalid argument %q for --format: want text, json or csv", given); err == nil || err.Error() != want || !IsUsage(err) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
