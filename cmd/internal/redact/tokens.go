package redact

import (
	"strings"
	"sync"
)

// A token is a secret that can be told by how it begins. The beginnings and lengths are those that
// the services publish, and scanners of secrets go by.
type token struct {
	start string
	least int  // characters behind it
	mixed bool // there are digits among them, because words begin like this, too
	hex   bool // there is nothing else but hexadecimal digits
}

var tokens = [...]token{
	// Code and packages.
	{start: "ghp_", least: 16}, {start: "gho_", least: 16}, {start: "ghu_", least: 16}, {start: "ghs_", least: 16}, {start: "ghr_", least: 16}, {start: "github_pat_", least: 16},
	{start: "glpat-", least: 16}, {start: "gldt-", least: 16}, {start: "glrt-", least: 16}, {start: "glptt-", least: 16}, {start: "glcbt-", least: 16}, {start: "glft-", least: 16},
	{start: "glimt-", least: 16}, {start: "glagent-", least: 16}, {start: "gloas-", least: 16}, {start: "glsoat-", least: 16}, {start: "glffct-", least: 16}, {start: "GR1348941", least: 16},
	{start: "ATBB", least: 20, mixed: true}, {start: "ATATT", least: 20, mixed: true}, {start: "ATCTT3xFfG", least: 16}, {start: "BBDC-", least: 30, mixed: true},
	{start: "npm_", least: 30}, {start: "pypi-AgE", least: 16}, {start: "rubygems_", least: 30, mixed: true}, {start: "oy2", least: 43, mixed: true}, {start: "CLOJARS_", least: 40, mixed: true},
	{start: "dckr_pat_", least: 20}, {start: "dckr_oat_", least: 20}, {start: "AKCp", least: 40, mixed: true}, {start: "cmVmd", least: 40, mixed: true},
	{start: "sgp_", least: 30, mixed: true}, {start: "CCIPAT_", least: 20}, {start: "bkua_", least: 30}, {start: "HRKU-", least: 30}, {start: "sqp_", least: 30}, {start: "squ_", least: 30}, {start: "sqa_", least: 30},
	{start: "API-", least: 24, mixed: true}, {start: "figd_", least: 20}, {start: "figp_", least: 20}, {start: "rdme_", least: 30},

	// Clouds.
	{start: "AKIA", least: 16}, {start: "ASIA", least: 16}, {start: "ABIA", least: 16}, {start: "ACCA", least: 16, mixed: true}, {start: "A3T", least: 17, mixed: true}, {start: "ABSK", least: 60},
	{start: "bedrock-api-key-", least: 16}, {start: "AIza", least: 30}, {start: "ya29.", least: 16}, {start: "GOCSPX-", least: 20}, {start: "1//0", least: 30}, {start: "LTAI", least: 16, mixed: true},
	{start: "dop_v1_", least: 30}, {start: "doo_v1_", least: 30}, {start: "dor_v1_", least: 30}, {start: "v1.0-", least: 100, mixed: true}, {start: "cfut_", least: 30}, {start: "cfat_", least: 30}, {start: "cfk_", least: 30},
	{start: "sha256~", least: 30}, {start: "fo1_", least: 30}, {start: "fm1r_", least: 30}, {start: "fm1a_", least: 30}, {start: "fm2_", least: 30}, {start: "nfp_", least: 30}, {start: "tskey-", least: 16},
	{start: "AQVN", least: 30, mixed: true}, {start: "t1.", least: 60, mixed: true}, {start: "YC", least: 38, mixed: true}, {start: "pul-", least: 30, mixed: true}, {start: "dapi", least: 32, hex: true},
	{start: "hvs.", least: 20}, {start: "hvb.", least: 20}, {start: "hvr.", least: 20}, {start: "s.", least: 24, mixed: true}, {start: "dp.", least: 30, mixed: true}, {start: "ops_eyJ", least: 16},
	{start: "A3-", least: 30, mixed: true}, {start: "AGE-SECRET-KEY-1", least: 16}, {start: "pnu_", least: 30}, {start: "tk-us-", least: 30}, {start: "ico-", least: 30, mixed: true}, {start: "dnkey-", least: 30},
	{start: "pscale_tkn_", least: 20}, {start: "pscale_pw_", least: 20}, {start: "pscale_oauth_", least: 20}, {start: "sbp_", least: 30}, {start: "sb_secret_", least: 16}, {start: "4b1d", least: 38, mixed: true},
	{start: "rh-api-", least: 20}, {start: "napi_", least: 30}, {start: "jfrt", least: 60, mixed: true}, {start: "ls__", least: 20}, {start: "lsv2_", least: 20},

	// Models.
	{start: "sk-", least: 16, mixed: true}, {start: "hf_", least: 20}, {start: "api_org_", least: 20}, {start: "r8_", least: 30}, {start: "pplx-", least: 30}, {start: "gsk_", least: 30}, {start: "xai-", least: 30},
	{start: "nvapi-", least: 20}, {start: "pcsk_", least: 20}, {start: "apify_api_", least: 20}, {start: "csk-", least: 30, mixed: true}, {start: "fw_", least: 20, mixed: true}, {start: "tgp_v1_", least: 20},

	// Money.
	{start: "sk_live_", least: 10}, {start: "sk_test_", least: 10}, {start: "sk_prod_", least: 10}, {start: "rk_live_", least: 10}, {start: "rk_test_", least: 10}, {start: "rk_prod_", least: 10}, {start: "whsec_", least: 16},
	{start: "sq0atp-", least: 16}, {start: "sq0csp-", least: 16}, {start: "sq0idp-", least: 16}, {start: "EAAA", least: 40, mixed: true}, {start: "shpat_", least: 20}, {start: "shpca_", least: 20}, {start: "shppa_", least: 20}, {start: "shpss_", least: 20},
	{start: "FLWSECK", least: 12}, {start: "rzp_live_", least: 14}, {start: "rzp_test_", least: 14}, {start: "access-sandbox-", least: 30}, {start: "access-development-", least: 30}, {start: "access-production-", least: 30},
	{start: "EZAK", least: 40, mixed: true}, {start: "EZTK", least: 40, mixed: true}, {start: "shippo_live_", least: 20}, {start: "shippo_test_", least: 20}, {start: "duffel_live_", least: 20}, {start: "duffel_test_", least: 20},
	{start: "live_", least: 35, mixed: true}, {start: "test_", least: 35, hex: true}, {start: "access_token$", least: 20},

	// Messages and people.
	{start: "xoxb-", least: 16}, {start: "xoxa-", least: 16}, {start: "xoxp-", least: 16}, {start: "xoxr-", least: 16}, {start: "xoxs-", least: 16}, {start: "xoxo-", least: 16}, {start: "xoxe-", least: 16}, {start: "xoxe.", least: 16}, {start: "xoxc-", least: 16}, {start: "xoxd-", least: 16},
	{start: "xapp-", least: 16}, {start: "SG.", least: 30}, {start: "xkeysib-", least: 30}, {start: "xsmtpsib-", least: 30}, {start: "key-", least: 32, hex: true}, {start: "SK", least: 32, hex: true}, {start: "re_", least: 24, mixed: true},
	{start: "EAA", least: 80, mixed: true}, {start: "IGQV", least: 60, mixed: true}, {start: "secret_", least: 40, mixed: true}, {start: "ntn_", least: 30, mixed: true}, {start: "lin_api_", least: 20}, {start: "lin_oauth_", least: 20}, {start: "pat", least: 60, mixed: true},
	{start: "PMAK-", least: 30}, {start: "tfp_", least: 30}, {start: "fio-u-", least: 30}, {start: "CFPAT-", least: 30}, {start: "pat-na1-", least: 30}, {start: "pat-eu1-", least: 30}, {start: "sl.", least: 100, mixed: true}, {start: "phx_", least: 30}, {start: "aio_", least: 24, mixed: true},

	// What watches.
	{start: "sntrys_", least: 30}, {start: "sntryu_", least: 30}, {start: "glsa_", least: 20}, {start: "glc_", least: 20}, {start: "NRAK-", least: 20}, {start: "NRII-", least: 20}, {start: "NRIQ-", least: 20}, {start: "NRJS-", least: 16}, {start: "NRBR-", least: 16},
	{start: "dt0c01.", least: 20}, {start: "ddp_", least: 30, mixed: true}, {start: "ddw_", least: 30, mixed: true}, {start: "rootly_", least: 30}, {start: "sm_pat_", least: 16}, {start: "sm_aat_", least: 16}, {start: "sm_sat_", least: 16}, {start: "api-", least: 36, mixed: true}, {start: "sdk-", least: 36, mixed: true},

	// Anybody's: JSON Web Tokens, plain and in base64 again; and py3run's own keys.
	{start: "eyJ", least: 16}, {start: "ZXlK", least: 30, mixed: true}, {start: "p3r_", least: 16},
}

// byStart has the tokens that begin with a character, in one list after the other.
var byStart = sync.OnceValue(func() *[128][]token {
	var at [128][]token
	for _, t := range tokens {
		at[t.start[0]] = append(at[t.start[0]], t)
	}
	return &at
})

// Text hides tokens with a known beginning in a text of the caller's.
func Text(s string) string { return hideTokens(s) }

// hideTokens hides what follows the beginning of a token.
func hideTokens(s string) string {
	if len(s) < 16 {
		return s
	}
	starts := byStart()
	var b strings.Builder
	done := 0
	cover := func(from, to int) {
		if from >= done {
			b.WriteString(s[done:from] + redacted)
			done = to
		}
	}
	run := 0 // where the characters end that a token may have
	for i := 0; i+16 <= len(s); i++ {
		if run <= i {
			run = i + tokenLength(s[i:])
		}
		if run-i < 8 {
			continue
		}
		if i < done || i > 0 && isWordByte(s[i-1]) && !(i > 2 && s[i-3] == '%') {
			continue
		}
		if s[i] < 128 {
			for _, t := range starts[s[i]] {
				if !strings.HasPrefix(s[i:], t.start) {
					continue
				}
				from := i + len(t.start)
				to := run
				if to < from { // its beginning has others
					to = from + tokenLength(s[from:])
				}
				if to-from >= t.least && t.fits(s[from:to]) {
					cover(from, to)
					break
				}
			}
		}
		if i >= done {
			if from, to := shaped(s, i, run-i); from > 0 {
				cover(from, to)
			}
		}
	}
	if done == 0 {
		return s
	}
	return b.String() + s[done:]
}

// fits tells whether what follows may be a token's rest.
func (t token) fits(rest string) bool {
	switch {
	case t.hex:
		return strings.Trim(rest[:t.least], "0123456789abcdefABCDEF") == "" && (len(rest) == t.least || !isWordByte(rest[t.least]))
	case t.mixed:
		digits := 0
		for i := range len(rest) {
			if '0' <= rest[i] && rest[i] <= '9' {
				digits++
			}
		}
		return digits >= 2 && !strings.Contains(rest[:t.least], "/") // which paths have
	}
	return true
}

// tokenLength is how far a token may go.
func tokenLength(s string) int {
	n := 0
	for n < len(s) && (isWordByte(s[n]) || strings.IndexByte(".~+/=-", s[n]) >= 0) {
		n++
	}
	return n
}

// shaped finds tokens that are told by their form, in what has so many characters that a token may
// have: from is 0 if none begins here.
func shaped(s string, i, length int) (from, to int) {
	n := 0
	for i+n < len(s) && n < 40 && isWordByte(s[i+n]) {
		n++
	}
	rest := s[i+n:]
	switch {
	case n >= 8 && n <= 10 && isNumber(s[i:i+n]) && strings.HasPrefix(rest, ":A") && tokenLength(rest[1:]) >= 34: // of Telegram
		return i + n + 1, i + n + 1 + tokenLength(rest[1:])
	case n == 14 && strings.HasPrefix(rest, ".atlasv1.") && length > 54: // of Terraform
		return i + n + len(".atlasv1."), i + length
	case n == 32 && strings.HasPrefix(rest, "-us") && len(rest) > 3 && isNumber(rest[3:4]) && strings.Trim(s[i:i+n], "0123456789abcdef") == "": // of Mailchimp
		return i + 4, i + n
	}
	// Keys of storage accounts: 64 bytes in base64. Secrets of applications in Azure. Tokens of
	// Discord's bots.
	if length > 100 {
		return 0, 0
	}
	whole := s[i : i+length]
	switch {
	case length == 88 && strings.HasSuffix(whole, "==") && strings.Count(whole, "=") == 2 && !strings.ContainsAny(whole, ".~-_"):
		return i + 4, i + length
	case length >= 37 && length <= 44 && len(whole) > 6 && strings.HasPrefix(whole[4:], "Q~") && isNumber(whole[3:4]):
		return i + 4, i + length
	case strings.IndexByte("MNO", s[i]) >= 0 && n >= 23 && n <= 28 && length >= 58 && length <= 76 && strings.Count(whole, ".") == 2 && strings.LastIndexByte(whole, '.')-n == 7:
		return i + n, i + length
	}
	return 0, 0
}

// hidePrivateKeys hides what stands between the lines that enclose a private key.
func hidePrivateKeys(s string) string {
	const begin, end = "-----BEGIN ", "-----END "
	var b strings.Builder
	for {
		i := strings.Index(s, begin)
		if i < 0 {
			return b.String() + s
		}
		head := strings.Index(s[i+len(begin):], "-----")
		if head < 0 || head > 60 {
			return b.String() + s
		}
		from := i + len(begin) + head + len("-----")
		if !strings.Contains(s[i:from], "PRIVATE KEY") {
			b.WriteString(s[:from])
			s = s[from:]
			continue
		}
		b.WriteString(s[:from] + redacted)
		if s = s[from:]; strings.Contains(s, end) {
			s = s[strings.Index(s, end):]
		} else {
			s = ""
		}
	}
}
