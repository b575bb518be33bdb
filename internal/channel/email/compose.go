package email

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Bounds of what stands in a header, in runes.
const (
	maxSubject = 200
	maxName    = 100
	maxURL     = 900 // a line of a mail has at most 998 bytes
)

// letter is a mail ready for the wire.
type letter struct {
	from, to string // envelope, as in MAIL FROM and RCPT TO: <a@b>
	utf8     bool   // an address is not ASCII: needs SMTPUTF8
	raw      []byte
}

// signedHeaders are covered by DKIM: all that a reader or a robot acts on. RFC
// 8058 asks for the two of unsubscription. Those named twice cannot be added
// later either.
var signedHeaders = []string{
	"From", "From", "To", "To", "Subject", "Subject", "Reply-To", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "List-Id", "List-Unsubscribe", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Unsubscribe-Post", "Auto-Submitted",
}

// compose makes the letter; an error says why this can never be a mail.
func (c *config) compose(target channel.Target, m *belfry.Message, now time.Time) (*letter, error) {
	to, err := normal(target.Address)
	if err != nil {
		return nil, err
	}
	id := token(m.ID)
	if id == "" {
		return nil, errors.New("the message has no id")
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithEncoding(mail.EncodingQP), mail.WithCharset(mail.CharsetUTF8))
	from, replyTo := c.addresses(m)
	msg.FromMailAddress(from)
	msg.ToMailAddress(&netmail.Address{Name: line(target.Name, maxName), Address: to})
	if replyTo != nil {
		msg.ReplyToMailAddress(replyTo)
	}
	msg.Subject(line(m.Subject, maxSubject))
	msg.SetMessageIDWithValue(id + "@" + c.domain)
	msg.SetDateWithValue(now)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	if m.Thread != "" {
		root := "<" + threadID(m.Thread) + "@" + c.domain + ">"
		msg.SetGenHeader("References", root)
		msg.SetGenHeader("In-Reply-To", root)
	}
	precedence := "bulk"
	if list := c.listID(m.ListID); list != "" {
		msg.SetGenHeader("List-Id", list)
		precedence = "list"
	}
	msg.SetGenHeader("Precedence", precedence)
	if link := linkText(m.Unsubscribe); link != "" {
		msg.SetGenHeader("List-Unsubscribe", "<"+link+">")
		msg.SetGenHeader("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
	}
	if lang := token(m.Locale); lang != "" && len(lang) <= 35 {
		msg.SetGenHeader("Content-Language", lang)
	}
	text, html := body(m.Text), body(m.HTML)
	if text == "" && html != "" {
		msg.SetBodyString(mail.TypeTextHTML, html)
	} else {
		msg.SetBodyString(mail.TypeTextPlain, text)
		if html != "" {
			msg.AddAlternativeString(mail.TypeTextHTML, html)
		}
	}
	size := 0
	for i := range m.Attachments {
		a := &m.Attachments[i]
		size += len(a.Body)
		if err := msg.AttachReader(line(a.Name, maxName), bytes.NewReader(a.Body), mail.WithFileContentType(mail.ContentType(line(a.ContentType, maxName)))); err != nil {
			return nil, fmt.Errorf("the mail cannot carry %s: %w", a.Name, err)
		}
	}
	var raw bytes.Buffer
	raw.Grow(1<<10 + len(text)*5/4 + len(html)*5/4 + size*3/2)
	if _, err := msg.WriteTo(&raw); err != nil {
		return nil, fmt.Errorf("the mail cannot be written: %w", err)
	}
	if c.dkimKey != nil {
		if raw, err = c.sign(&raw); err != nil {
			return nil, fmt.Errorf("the mail cannot be signed: %w", err)
		}
	}
	return &letter{
		from: envelope(c.returnPath), to: envelope(to),
		utf8: !ascii(to) || !ascii(c.returnPath) || !ascii(from.Address),
		raw:  raw.Bytes(),
	}, nil
}

// addresses are From and Reply-To (nil = none) of a message. A sender of a
// domain that the relay may not send for is never put into From: its name is,
// and answers go to it.
func (c *config) addresses(m *belfry.Message) (from, replyTo *netmail.Address) {
	from, replyTo = c.from, c.replyTo
	if a := mailbox(m.ReplyTo); a != nil {
		replyTo = a
	}
	wanted := mailbox(m.From)
	if wanted == nil {
		return from, replyTo
	}
	if slices.Contains(c.domains, wanted.Address[strings.LastIndexByte(wanted.Address, '@')+1:]) {
		return wanted, replyTo
	}
	if wanted.Name != "" {
		from = &netmail.Address{Name: wanted.Name, Address: c.from.Address}
	}
	if mailbox(m.ReplyTo) == nil {
		replyTo = wanted
	}
	return from, replyTo
}

// mailbox reads a mailbox that may have a name; nil when it is none.
func mailbox(text string) *netmail.Address {
	if text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		return nil
	}
	a, err := netmail.ParseAddress(text)
	if err != nil {
		return nil
	}
	address, err := normal(a.Address)
	if err != nil {
		return nil
	}
	return &netmail.Address{Name: line(a.Name, maxName), Address: address}
}

// sign puts a DKIM signature in front. It is go-msgauth's: the signatures of
// go-mail 0.8.1 do not verify once the list of headers is longer than a line,
// because it signs another folding than it writes.
func (c *config) sign(raw *bytes.Buffer) (bytes.Buffer, error) {
	var signed bytes.Buffer
	signed.Grow(raw.Len() + 1<<10)
	err := dkim.Sign(&signed, raw, &dkim.SignOptions{
		Domain: c.dkimDomain, Selector: c.dkimSelector, Signer: c.dkimKey,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             signedHeaders,
	})
	return signed, err
}

// envelope is an address as it stands in MAIL FROM and RCPT TO.
func envelope(address string) string { return (&netmail.Address{Address: address}).String() }

// threadID is the id of the message that never was, under which mail programs
// gather all messages of a thread.
func threadID(thread string) string {
	sum := sha256.Sum256([]byte(thread))
	return "thread_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// listID is the List-Id of RFC 2919: <label.domain>; empty for what is none.
func (c *config) listID(id string) string {
	id = strings.Trim(id, "<>")
	if token(id) != id || id == "" || len(id) > 200 || !isDomain(strings.ReplaceAll(id, "_", "-")) {
		return ""
	}
	if !strings.Contains(id, ".") {
		id += "." + c.domain
	}
	return "<" + id + ">"
}

// linkText is a web address as it may stand between < and > in a header; empty for
// what is none. RFC 8058 wants https; http is left to the reader's program.
func linkText(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return ""
	}
	text = u.String()
	for i := 0; i < len(text); i++ {
		if ch := text[i]; ch <= ' ' || ch > '~' || strings.IndexByte(`<>",`, ch) >= 0 {
			return ""
		}
	}
	if len(text) > maxURL {
		return ""
	}
	return text
}

// token keeps of s what may stand in a message id or a language tag.
func token(s string) string {
	keep := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
			return r
		}
		return -1
	}
	s = strings.Trim(strings.Map(keep, s), ".")
	for strings.Contains(s, "..") {
		s = strings.ReplaceAll(s, "..", ".")
	}
	if len(s) > 200 {
		return ""
	}
	return s
}

// line makes one line of at most limit runes: what may stand in a header.
func line(s string, limit int) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), r == utf8.RuneError:
			space = n > 0
			continue
		}
		if n >= limit-1 {
			b.WriteRune('…')
			break
		}
		if space {
			b.WriteByte(' ')
			n, space = n+1, false
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// body makes text that any mail program takes: UTF-8 without control
// characters other than line ends and tabs.
func body(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' || r == '\u00a0' || r == '\u00ad' {
			return r
		}
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// normal is a mail address with its domain in ASCII. The error speaks to people
// and does not repeat the address.
func normal(address string) (string, error) {
	if strings.ContainsFunc(address, unicode.IsControl) {
		return "", errors.New("the address has control characters")
	}
	a, err := netmail.ParseAddress("<" + address + ">")
	if err != nil {
		return "", errors.New("the address is not a mail address")
	}
	at := strings.LastIndexByte(a.Address, '@')
	local, domain := a.Address[:at], a.Address[at+1:]
	if strings.HasPrefix(domain, "[") {
		return "", errors.New("the address names a machine by number; a domain is needed")
	}
	// STD 3 rules, so that no character of the domain has a meaning on the wire.
	domain, err = idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || !isDomain(domain) {
		return "", errors.New("the address has no valid domain")
	}
	if local == "" || len(local) > 64 || len(local)+1+len(domain) > 254 {
		return "", errors.New("the address is too long")
	}
	return local + "@" + strings.ToLower(domain), nil
}

// isDomain reports whether s is made of labels as in a host name.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
