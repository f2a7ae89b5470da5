package redact

import (
	"slices"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   string // arguments, between |
		want string
	}{
		{"nothing secret", "ls|-l|--color=auto|/tmp", "ls|-l|--color=auto|/tmp"},
		{"the program itself", "password", "password"},
		{"a key in its place", "/bin/p3r_k7qm2x9a_0123456789012345678901234567890123456789012|x", "/bin/p3r_***|x"},
		{"an option with a value", "x|--password=hunter2", "x|--password=***"},
		{"an option with an empty value", "x|--password=", "x|--password="},
		{"an option, then its value", "x|--token|abc|y", "x|--token|***|y"},
		{"an option at the end", "x|--token", "x|--token"},
		{"two options", "x|--user|bob|--secret|a|--api-key|b", "x|--user|bob|--secret|***|--api-key|***"},
		{"one dash", "java|-Djavax.net.ssl.keyStorePassword=x|-jar|y", "java|-Djavax.net.ssl.keyStorePassword=***|-jar|y"},
		{"a variable", "env|PGPASSWORD=x|psql", "env|PGPASSWORD=***|psql"},
		{"a variable of another kind", "env|PGUSER=x|psql", "env|PGUSER=x|psql"},
		{"upper case", "x|--PassWord=abc", "x|--PassWord=***"},
		{"MySQL", "mysqldump|-u|root|-psecret|db", "mysqldump|-u|root|-p***|db"},
		{"MySQL, asked for", "/usr/bin/mysql|-p|db", "/usr/bin/mysql|-p|db"},
		{"-p of another program", "mkdir|-pv|a", "mkdir|-pv|a"},
		{"credentials in a URL", "curl|https://bob:pw@host/x", "curl|https://bob:***@host/x"},
		{"an @ in the password", "curl|https://bob:p@w@host/x", "curl|https://bob:***@host/x"},
		{"a user only", "git|ssh://git@host/x", "git|ssh://git@host/x"},
		{"an @ in the path", "curl|https://host/a:b@c", "curl|https://host/a:b@c"},
		{"a URL's query", "curl|https://host/x?a=1&access_token=abc&b=2&sig=x", "curl|https://host/x?a=1&access_token=***&b=2&sig=***"},
		{"a URL in an option", "x|--url=postgres://u:p@h/db", "x|--url=postgres://u:***@h/db"},
		{"a header", "curl|-H|Authorization: Bearer abc|x", "curl|-H|Authorization: Bearer ***|x"},
		{"a header of another scheme", "curl|-H|authorization: abc", "curl|-H|authorization: ***"},
		{"a header without a space", "curl|-H|Authorization:abc", "curl|-H|Authorization:***"},
		{"a header with a key", "curl|-H|X-Api-Key: abc", "curl|-H|X-Api-Key: ***"},
		{"a header with a token", "curl|-H|PRIVATE-TOKEN: abc|https://h/", "curl|-H|PRIVATE-TOKEN: ***|https://h/"},
		{"another header", "curl|-H|Accept: text/html", "curl|-H|Accept: text/html"},
		{"a variable may have spaces", "sh|-c|DB_PASSWORD=x run", "sh|-c|DB_PASSWORD=***"},
		{"a shell's line", "sh|-c|run DB_PASSWORD=x --token abc https://u:p@h/ --verbose", "sh|-c|run DB_PASSWORD=*** --token *** https://u:***@h/ --verbose"},
		{"a shell's header", "sh|-c|curl -H 'Authorization: Bearer abc' https://h/", "sh|-c|curl -H 'Authorization: Bearer *** https://h/"},
		{"a shell's lines", "sh|-c|export TOKEN=a\nrun\nx --password b\n", "sh|-c|export TOKEN=***\nrun\nx --password ***\n"},
		{"JSON", `curl|-d|{"user":"u","password":"p","n":1}`, `curl|-d|{"user":"u","password":"***","n":1}`},
		{"JSON with blanks", `curl|-d|{"user": "u", "api_key" : "a \"b\" c", "pin": 7}`, `curl|-d|{"user": "u", "api_key" : "***", "pin": 7}`},
		{"a number in JSON", `curl|-d|{"token":123,"n":1}`, `curl|-d|{"token":"***","n":1}`},
		{"JSON in a shell's line", `sh|-c|curl -d "{\"password\":\"p q\",\"n\":1}" http://h/`, `sh|-c|curl -d "{\"password\":\"***\",\"n\":1}" http://h/`},
		{"a Python dictionary", `python|-c|f({'password': 'p', 'n': 1})`, `python|-c|f({'password': '***', 'n': 1})`},
		{"a user with a password", "curl|-u|bob:pw|http://h/", "curl|-u|bob:***|http://h/"},
		{"the same in a word", "curl|--user=bob:pw|--proxy-user|al:pw", "curl|--user=bob:***|--proxy-user|al:***"},
		{"the same in a shell's line", "sh|-c|curl -u bob:pw http://h/", "sh|-c|curl -u bob:*** http://h/"},
		{"a user and a group", "docker|run|-u|1000:1000|x", "docker|run|-u|1000:1000|x"},
		{"MySQL in a shell's line", "sh|-c|mysql -psecret -h h db; mkdir -pv a", "sh|-c|mysql -p*** -h h db; mkdir -pv a"},
		{"other programs' passwords", "sshpass|-p|pw|ssh|h", "sshpass|-p|***|ssh|h"},
		{"Redis in a shell's line", "sh|-c|redis-cli -a pw get x", "sh|-c|redis-cli -a *** get x"},
		{"OpenSSL", "openssl|rsa|-passin|pass:pw|-in|f", "openssl|rsa|-passin|***|-in|f"},
		{"a header without a space, with a scheme, in a shell's line", `sh|-c|curl -H "Authorization:Bearer abc" http://h/`, `sh|-c|curl -H "Authorization:Bearer *** http://h/`},
		{"a header with blanks", "curl|-H|Cookie: a=1; b=2|x", "curl|-H|Cookie: ***|x"},
		{"an author is no secret", "git|commit|--author=Bob <b@h>|--author|Al", "git|commit|--author=Bob <b@h>|--author|Al"},
		{"a fragment", "open|https://h/cb#state=1&access_token=abc", "open|https://h/cb#state=1&access_token=***"},
		{"a signed URL", "curl|https://h/x?X-Amz-Expires=60&X-Amz-Signature=abc", "curl|https://h/x?X-Amz-Expires=60&X-Amz-Signature=***"},
		{"a token for a user", "git|clone|https://ghp_0123456789abcdefghij@h/x", "git|clone|https://ghp_***@h/x"},
		{"a token anywhere", "x|glpat-0123456789abcdefghij|y", "x|glpat-***|y"},
		{"no token", "x|sk-short|task-0123456789abcdefghijklmnop", "x|sk-short|task-0123456789abcdefghijklmnop"},
		{"an option of MySQL that only begins so", "mysql|--protocol=tcp|-P3306", "mysql|--protocol=tcp|-P3306"},
		{"a connection string", "psql|host=h user=u password=abc dbname=d", "psql|host=h user=u password=*** dbname=d"},
		{"text with spaces", "x|two  spaces |and = signs", "x|two  spaces |and = signs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := strings.Split(tt.in, "|")
			before := slices.Clone(in)
			if got := strings.Join(Args(in), "|"); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if !slices.Equal(in, before) {
				t.Error("the arguments themselves were changed")
			}
		})
	}
}

func TestLooksSecret(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"x": false, "api_key": false, "tank_pressures_of_the_last_forty_eight_hours_2": false, "averagePressureOfAllTanksInTheNorthernHalf": false,
		"p3r_k7Qm2abc_0123456789012345678901234567890123456789012": true, "ghp_0123456789abcdefghij": true, "Zk9sJd83hfKq0PzLm4xVb7nQw2eRt6yUi1oA5sDf": true,
	} {
		if got := LooksSecret(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
