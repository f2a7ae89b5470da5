package ctl

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

func (a *app) keygen() *cobra.Command {
	var out, name string
	c := &cobra.Command{
		Use: "keygen", Short: "Make a key that signs checkpoints", Args: cobra.NoArgs,
		Long: `Writes an Ed25519 key to FILE (mode 0600), and its public half, which verify takes, to FILE.pub.
Neither file may exist.

Keep the key where the account that writes the log cannot read it: as root, or as a user of its own
who may read the log. The public file says since when the key is valid (from=TIME). When you replace
the key, add until=TIME to its line, and add the line of the new key. verify rejects what a key
signed outside its time.`,
		Example: "  py3runctl audit keygen --out /root/py3run-checkpoint.key",
		RunE: func(*cobra.Command, []string) error {
			return a.makeKey(out, name, time.Now())
		},
	}
	c.Flags().StringVar(&out, "out", "", "the `file` to write")
	c.Flags().StringVar(&name, "name", "", "name of the key in signatures (default: py3run/ and the host's name)")
	c.MarkFlagRequired("out")
	return c
}

func (a *app) makeKey(out, name string, now time.Time) error {
	if name == "" {
		host, _ := os.Hostname()
		name = "py3run/" + strings.Map(func(c rune) rune {
			if c <= ' ' || c == '+' || c > '~' {
				return '-'
			}
			return c
		}, cmp.Or(host, "host"))
	}
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err == nil {
		_, err = note.NewSigner(private) // GenerateKey accepts names that nothing else accepts
	}
	if err != nil {
		return fmt.Errorf("make key %q: %w", name, err)
	}
	write := func(path, text string, mode os.FileMode) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text + "\n")
		return errors.Join(err, f.Sync(), f.Close())
	}
	if err := write(out, private, 0o600); err != nil {
		return err
	}
	if err := write(out+".pub", public+" from="+now.UTC().Format(time.RFC3339), 0o644); err != nil {
		os.Remove(out)
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n%s.pub\n", out, out)
	return err
}

// readKey reads a private key. It refuses one that other users can read.
func readKey(path string) (note.Signer, note.Verifier, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("read key %s: is open to others (mode %04o)", path, info.Mode().Perm())
	}
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	secret := strings.TrimSpace(string(text))
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, nil, fmt.Errorf("read key %s: %w", path, err)
	}
	// The package does not return the public half. The last field is the algorithm and the seed; it
	// may contain a +.
	fields := strings.SplitN(secret, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, nil, fmt.Errorf("read key %s: not an Ed25519 key", path)
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey))
	if err != nil {
		return nil, nil, fmt.Errorf("read key %s: %w", path, err)
	}
	verifier, err := note.NewVerifier(public)
	return signer, verifier, err
}

// A signingKey is a public key and the time for which it is trusted.
type signingKey struct {
	note.Verifier
	from, until time.Time // zero: no bound
}

func (k signingKey) covers(t time.Time) bool {
	return (k.from.IsZero() || !t.Before(k.from)) && (k.until.IsZero() || t.Before(k.until))
}

// readKeys reads a file of public keys: one on a line, followed by from=TIME and until=TIME. Lines
// that begin with # are comments.
func readKeys(path string) (keys []signingKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		wrong := func(err error) ([]signingKey, error) {
			return nil, fmt.Errorf("read keys %s:%d: %w", path, number, err)
		}
		if strings.HasPrefix(fields[0], "PRIVATE+KEY+") {
			return nil, refusedWith(fmt.Errorf("read keys %s:%d: this is the private key", path, number), "name the public half: "+path+".pub")
		}
		var k signingKey
		if k.Verifier, err = note.NewVerifier(fields[0]); err != nil {
			return wrong(err)
		}
		for _, f := range fields[1:] {
			name, value, _ := strings.Cut(f, "=")
			t, err := time.Parse(time.RFC3339, value)
			switch {
			case err == nil && name == "from":
				k.from = t
			case err == nil && name == "until":
				k.until = t
			default:
				return wrong(fmt.Errorf("%q: want from=TIME or until=TIME", f))
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read keys %s: no key", path)
	}
	return keys, nil
}
