package redact

import (
	"path"
	"slices"
	"strings"
)

// A form says where the secret of an option stands.
type form uint8

const (
	attached  form = iota // in the same word
	loose                 // in the same word or in the next one
	following             // in the next word
	account               // as loose, after a user's name
)

// secretOptions are the options of programs whose names begin so; a name of up to three characters
// is the whole name.
var secretOptions = []struct {
	programs, options string // between blanks
	form              form
}{
	{"mysql mariadb 7z 7za 7zr 7zz rar unrar", "-p", attached},
	{"rar unrar", "-hp", attached},
	{"sshpass mycli mongo psexec rdesktop smbmap useradd usermod cqlsh cypher-shell rabbitmqadmin ncftp racadm twine poetry hydra crackmapexec netexec evil-winrm xfreerdp wlfreerdp", "-p", loose},
	{"ssh-keygen", "-N -P", loose},
	{"pdftotext pdftoppm pdfinfo", "-upw -opw", following},
	{"swaks", "-ap", following},
	{"sendemail sendEmail", "-xp", following},
	{"vercel", "-t", following},
	{"dotnet", "-k", following},
	{"ConvertTo-SecureString", "-String", following},
	{"plink pscp psftp putty", "-pw", following},
	{"redis-cli valkey-cli keydb-cli", "-a", loose},
	{"ldappasswd", "-a -s", loose},
	{"ldap", "-w", loose},
	{"zip unzip sqlcmd osql tsql bcp ipmitool mosquitto", "-P", loose},
	{"snmp", "-c -A -X", loose},
	{"openssl", "-k -K -hmac", following},
	{"schtasks", "/rp", loose},
	{"xfreerdp wlfreerdp signtool", "/p", loose},
	{"curl", "-u -U -E", account},
	{"http https xh", "-a", account},
	{"lftp", "-u", account},
	{"smbclient smbget smbcacls smbtree rpcclient winexe", "-U", account},
}

// secretWords are followed by a secret, as words of these programs.
var secretWords = []struct{ programs, words string }{
	{"mysqladmin nmcli", "password"},
	{"redis-cli valkey-cli keydb-cli", "auth requirepass masterauth"},
	{"iwconfig", "key enc"},
	{"vault", "login unseal"},
	{"cargo", "login"},
	{"snyk", "auth"},
	{"pdftk", "input_pw user_pw owner_pw"},
}

// secretPlaces are words of programs that are secrets by their place: after this number of words
// that are not options.
var secretPlaces = []struct {
	programs string
	words    int
}{{"wpa_passphrase", 1}, {"ConvertTo-SecureString mkpasswd", 0}}

// storing are pairs of words that begin a command which stores secrets. After them each NAME=VALUE
// is a secret, and so are the values of storedOptions.
var (
	storing       = [][2]string{{"secret", "set"}, {"secrets", "set"}, {"kv", "put"}, {"ssm", "put-parameter"}}
	storedOptions = []string{"--value", "--body", "-b"}
)

// accountOptions take a user's name and a password; of some programs a group instead. loginOptions
// never take a group.
var accountOptions = []string{"-u", "-U", "--user"}

var loginOptions = []string{"--proxy-user", "--creds", "--src-creds", "--dest-creds", "--userpass", "--basic-auth", "--cert", "--proxy-cert"}

// groupPrograms take USER:GROUP where others take USER:PASSWORD, before the command that they run:
// within this number of words that are not options.
var groupPrograms = []struct {
	programs string
	words    int
}{{"docker podman nerdctl", 3}, {"sudo su chroot runuser setpriv", 0}}

// accountPrograms name an account as user/password.
var accountPrograms = []string{"sqlplus", "sqlldr", "expdp", "impdp", "exp", "imp", "rman", "tnsping"}

// among tells whether a program is in a list, whose names stand between blanks. A name of more than
// three characters may be the beginning of the program's.
func among(list, program string) bool {
	if program == "" {
		return false
	}
	for name := range strings.FieldsSeq(list) {
		if program == name || len(name) > 3 && strings.HasPrefix(program, name) {
			return true
		}
	}
	return false
}

// programName is the name of a program that a word may stand for; empty if it cannot be one.
func programName(word string) string {
	name := strings.TrimSuffix(path.Base(strings.Trim(word, "'\"`$()\\")), ".exe")
	if name == "" || name[0] == '-' || strings.ContainsAny(name, " \t\n;.=:@,%{}") {
		return ""
	}
	return name
}

// known tells whether the tables have a program.
func known(program string) bool {
	for _, o := range secretOptions {
		if among(o.programs, program) {
			return true
		}
	}
	for _, w := range secretWords {
		if among(w.programs, program) {
			return true
		}
	}
	for _, g := range groupPrograms {
		if among(g.programs, program) {
			return true
		}
	}
	for _, p := range secretPlaces {
		if among(p.programs, program) {
			return true
		}
	}
	return slices.Contains(accountPrograms, program) || program == "htpasswd"
}
