package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash/crc32"
	"strings"
)

// The text of an API key. The fixed beginning and the checksum let secret scanners find keys that
// have leaked:
//
//	p3r_k7qm2x9a_<43 characters of base64url: 256 bits>_<6 characters of base62: CRC-32 of all before the last _>
const (
	KeyPrefix = "p3r_"

	idLength       = 8
	secretLength   = 43
	checksumLength = 6
	keyLength      = len(KeyPrefix) + idLength + 1 + secretLength + 1 + checksumLength

	idLetters = "abcdefghijkmnpqrstuvwxyz23456789" // 32, without those that look like others
	base62    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// KeyRefused is all that a caller learns of a key that is not accepted, whatever the reason.
const KeyRefused = "the API key is not accepted"

// NewKey makes an API key. Only its hash is kept: the text is shown once.
func NewKey() (id, text string) {
	var random [idLength]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	for i, b := range random {
		random[i] = idLetters[int(b)%len(idLetters)]
	}
	var secret [sha256.Size]byte
	rand.Read(secret[:])
	id = string(random[:])
	text = KeyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	return id, text + "_" + checksum(text)
}

// ParseKey returns the id of a key. It reports whether the key is well formed and its checksum is
// right, which says nothing about whether anybody has made it. The id shares no memory with the text,
// which its owner can then erase.
func ParseKey(text string) (id string, formed, sum bool) {
	if len(text) != keyLength || !strings.HasPrefix(text, KeyPrefix) {
		return "", false, false
	}
	rest := text[len(KeyPrefix):]
	id, rest = rest[:idLength], rest[idLength:]
	secret, rest := rest[1:1+secretLength], rest[1+secretLength:]
	if text[len(KeyPrefix)+idLength] != '_' || rest[0] != '_' || !isKeyID(id) {
		return "", false, false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil || strings.ContainsAny(secret, "\r\n") { // DecodeString passes over line ends
		return "", false, false
	}
	if strings.Trim(rest[1:], base62) != "" {
		return "", false, false
	}
	return strings.Clone(id), true, rest[1:] == checksum(text[:keyLength-checksumLength-1])
}

func isKeyID(id string) bool {
	return len(id) == idLength && strings.Trim(id, idLetters) == ""
}

func checksum(text string) string {
	n := crc32.ChecksumIEEE([]byte(text))
	var digits [checksumLength]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62[n%62]
		n /= 62
	}
	return string(digits[:])
}

// HashKey is what is kept of a key: the SHA-256 of its whole text in hexadecimal. The text has 256
// random bits, so nothing slower is needed.
func HashKey(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// IsHash reports whether a text is a SHA-256 in lower-case hexadecimal: it becomes the name of a file.
func IsHash(text string) bool {
	return len(text) == hex.EncodedLen(sha256.Size) && strings.Trim(text, "0123456789abcdef") == ""
}

// isKey compares a key with a hash. Its time does not depend on where they differ.
func isKey(text, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashKey(text)), []byte(hash)) == 1
}
