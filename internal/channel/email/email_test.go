package email_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/channeltest"
	"github.com/belfryhq/belfry/internal/channel/email"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ada = channel.Target{Address: "ada@example.org", Name: "Ada Lovelace"}

func message() *belfry.Message {
	return &belfry.Message{
		ID: "dlv_0123456789abcdefghjkmnpqrs", Subject: "Course CPR was changed",
		Text: "Hello Ada,\n\nthe course CPR was changed.\n.\nA line that begins with a dot is above.\n",
		HTML: "<!doctype html><html><body><p>Hello Ada, the course <b>CPR</b> was changed.</p></body></html>",
		URL:  "https://school.example/course/41", Unsubscribe: "https://belfry.example/u/abc-DEF_123",
		ListID: "sub_0123456789abcdefghjkmnpqrs", Thread: "default/course/41", Locale: "en",
		Time: time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC),
	}
}

func send(t *testing.T, s channel.Sender, to channel.Target, m *belfry.Message) belfry.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Send(ctx, to, m)
}

func mustSend(t *testing.T, s channel.Sender, to channel.Target, m *belfry.Message) {
	t.Helper()
	if out := send(t, s, to, m); out.Kind != belfry.OutcomeAccepted {
		t.Fatalf("%v %q", out.Kind, out.Detail)
	}
}

// parts reads a mail with an independent parser.
func parts(t *testing.T, data []byte) (gomessage.Header, map[string]string) {
	t.Helper()
	e, err := gomessage.Read(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	add := func(p *gomessage.Entity) {
		typ, _, err := p.Header.ContentType()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		out[typ] = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	if mr := e.MultipartReader(); mr != nil {
		for {
			p, err := mr.NextPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			add(p)
		}
	} else {
		add(e)
	}
	return e.Header, out
}

// feature: MDL-7 (e-mail)
// feature: NEW-8 (the headers of one-click unsubscription)
func TestAMail(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address, "reply_to", "Help Desk <help@school.example>", "return_path", "bounces@school.example")
	m := message()
	mustSend(t, s, ada, m)
	got := r.got()
	if len(got) != 1 || got[0].from != "bounces@school.example" || got[0].to != "ada@example.org" {
		t.Fatalf("%+v", got)
	}
	h, body := parts(t, got[0].data)
	for name, want := range map[string]string{
		"From":                     `"Belfry School" <notices@school.example>`,
		"To":                       `"Ada Lovelace" <ada@example.org>`,
		"Reply-To":                 `"Help Desk" <help@school.example>`,
		"Subject":                  "Course CPR was changed",
		"Message-Id":               "<dlv_0123456789abcdefghjkmnpqrs@school.example>",
		"List-Id":                  "<sub_0123456789abcdefghjkmnpqrs.school.example>",
		"List-Unsubscribe":         "<https://belfry.example/u/abc-DEF_123>",
		"List-Unsubscribe-Post":    "List-Unsubscribe=One-Click",
		"Auto-Submitted":           "auto-generated",
		"X-Auto-Response-Suppress": "All",
		"Precedence":               "list",
		"Content-Language":         "en",
		"Mime-Version":             "1.0",
		"User-Agent":               "",
		"X-Mailer":                 "",
	} {
		if v := h.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if typ, _, err := h.ContentType(); err != nil || typ != "multipart/alternative" {
		t.Errorf("content type %q %v", typ, err)
	}
	if body["text/plain"] != m.Text || body["text/html"] != m.HTML {
		t.Errorf("bodies %q", body)
	}
	parsed, err := netmail.ReadMessage(strings.NewReader(string(got[0].data)))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := parsed.Header.Date(); err != nil || time.Since(d).Abs() > time.Minute {
		t.Errorf("date %v %v: must be when it was sent, not when the event happened", d, err)
	}
	if root := h.Get("References"); root == "" || root != h.Get("In-Reply-To") || !strings.HasSuffix(root, "@school.example>") {
		t.Errorf("thread %q %q", root, h.Get("In-Reply-To"))
	}
	for _, l := range strings.Split(string(got[0].data), "\r\n") {
		if len(l) > 998 || strings.ContainsAny(l, "\r\n") {
			t.Errorf("a line has %d bytes or a bare line end", len(l))
		}
	}
}

// Retries carry the same Message-ID; messages about one object share a thread,
// those about another do not.
func TestIdentityAndThreads(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address)
	a, b, other := message(), message(), message()
	b.ID, other.ID, other.Thread, other.ListID, other.Unsubscribe = "dlv_b", "dlv_c", "default/course/42", "", ""
	for _, m := range []*belfry.Message{a, a, b, other} {
		mustSend(t, s, ada, m)
	}
	var ids, threads []string
	for _, g := range r.got() {
		h, _ := parts(t, g.data)
		ids = append(ids, h.Get("Message-Id"))
		threads = append(threads, h.Get("References"))
	}
	if ids[0] != ids[1] || ids[1] == ids[2] || ids[2] != "<dlv_b@school.example>" {
		t.Errorf("ids %q", ids)
	}
	if threads[0] != threads[2] || threads[2] == threads[3] {
		t.Errorf("threads %q", threads)
	}
	last, _ := parts(t, r.got()[3].data)
	if last.Get("List-Id") != "" || last.Get("List-Unsubscribe") != "" || last.Get("List-Unsubscribe-Post") != "" || last.Get("Precedence") != "bulk" {
		t.Errorf("headers of a list on what is none: %v", header(r.got()[3].data))
	}
}

func TestLettersOfTheWorld(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address, "from", "Ecole Élémentaire «Été» <avis@école.example>")
	m := message()
	m.Subject = "Курс «Сердечно-лёгочная реанимация» был изменён пользователем Ада Лавлейс сегодня утром 🎓 " + strings.Repeat("日本語", 20)
	m.Text = "Grüße, Ελλάδα, 日本語\nعربى\n" + strings.Repeat("ü", 2000) + "\n"
	m.HTML = "<p>Grüße, Ελλάδα, 日本語</p>"
	m.Locale = "ru"
	mustSend(t, s, channel.Target{Address: "ada@müller.example", Name: "Ada „the first“ Löve, <lace>"}, m)
	got := r.got()[0]
	if got.to != "ada@xn--mller-kva.example" || got.from != "avis@xn--cole-9oa.example" || got.utf8 {
		t.Errorf("envelope %q %q utf8=%v", got.from, got.to, got.utf8)
	}
	for i := range len(got.data) {
		if got.data[i] >= 0x80 {
			t.Fatalf("byte %#x on the wire", got.data[i])
		}
	}
	h, body := parts(t, got.data)
	if subject, err := h.Text("Subject"); err != nil || subject != m.Subject {
		t.Errorf("subject %q %v", subject, err)
	}
	if body["text/plain"] != m.Text || body["text/html"] != m.HTML {
		t.Errorf("bodies %q", body)
	}
	parsed, err := netmail.ReadMessage(strings.NewReader(string(got.data)))
	if err != nil {
		t.Fatal(err)
	}
	to, err := parsed.Header.AddressList("To")
	if err != nil || len(to) != 1 || to[0].Name != "Ada „the first“ Löve, <lace>" || to[0].Address != "ada@xn--mller-kva.example" {
		t.Errorf("to %v %v", to, err)
	}
	from, err := parsed.Header.AddressList("From")
	if err != nil || len(from) != 1 || from[0].Name != "Ecole Élémentaire «Été»" {
		t.Errorf("from %v %v", from, err)
	}
}

// An address with letters beyond ASCII before the @ needs a relay that can.
func TestAddressesBeyondASCII(t *testing.T) {
	able, unable := startRelay(t, plain, func(r *relay) { r.utf8 = true }), startRelay(t, plain, nil)
	to := channel.Target{Address: "adä@example.org"}
	mustSend(t, open(t, "smtp://"+able.address), to, message())
	if got := able.got(); len(got) != 1 || got[0].to != "adä@example.org" || !got[0].utf8 {
		t.Errorf("%+v", got)
	}
	mustSend(t, open(t, "smtp://"+able.address), ada, message())
	if got := able.got(); got[1].utf8 {
		t.Error("SMTPUTF8 is asked for without need")
	}
	if out := send(t, open(t, "smtp://"+unable.address), to, message()); out.Kind != belfry.OutcomeRefused || !strings.Contains(out.Detail, "beyond ASCII") {
		t.Errorf("%+v", out)
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address)
	for _, bad := range []string{
		"", "ada", "@example.org", "ada@", "ada@[127.0.0.1]", "ada@exa mple.org", "a@b@c", "ada@example.org, eve@example.org", "ada@example.org> SIZE=1",
		"ada@example.org\r\nRCPT TO:<eve@example.org>", "ada@example.org\x00", "Ada <ada@example.org>", "ada@-x.org", "ada@example.org.", "ada@" + strings.Repeat("x", 64) + ".org", strings.Repeat("a", 65) + "@example.org",
	} {
		if out := send(t, s, channel.Target{Address: bad}, message()); out.Kind != belfry.OutcomeRefused || out.Detail == "" {
			t.Errorf("%q: %v %q", bad, out.Kind, out.Detail)
		}
	}
	if n := len(r.got()); n != 0 {
		t.Errorf("%d mails went out", n)
	}
	for _, good := range []string{"a+b@example.org", `"a b"@example.org`, "ADA@EXAMPLE.ORG", "o'hara@sub.example.co.uk"} {
		if out := send(t, s, channel.Target{Address: good}, message()); out.Kind != belfry.OutcomeAccepted {
			t.Errorf("%q: %v %q", good, out.Kind, out.Detail)
		}
	}
}

// Whatever a message holds, it adds neither a header nor a recipient.
func TestNothingCanBeInjected(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address)
	names := []string{}
	for _, evil := range []string{
		"x\r\nBcc: eve@example.org\r\n\r\n<b>spam</b>", "x\nBcc: eve@example.org", "x\rBcc: eve@example.org", "x\r\n.\r\nMAIL FROM:<eve@example.org>\r\n",
		"=?utf-8?q?x=0D=0ABcc:_eve@example.org?=", "x\u2028Bcc: eve@example.org", "x\u0085Bcc: eve@example.org", "<x>, <mailto:eve@example.org>", "x\x00y", "\xff\xfe\r\nBcc: eve@example.org",
	} {
		m := message()
		m.ID = "dlv_" + evil
		m.Subject, m.Text, m.HTML, m.Unsubscribe, m.ListID, m.Thread, m.Locale = evil, evil, evil, evil, evil, evil, evil
		mustSend(t, s, channel.Target{Address: "ada@example.org", Name: evil}, m)
		m.Unsubscribe = "https://belfry.example/u/" + evil
		mustSend(t, s, channel.Target{Address: "ada@example.org", Name: evil}, m)
	}
	known := []string{
		"From", "To", "Subject", "Message-Id", "Date", "Auto-Submitted", "X-Auto-Response-Suppress", "References", "In-Reply-To", "List-Id", "Precedence",
		"List-Unsubscribe", "List-Unsubscribe-Post", "Content-Language", "Mime-Version", "Content-Type", "Content-Transfer-Encoding",
	}
	for _, g := range r.got() {
		if g.to != "ada@example.org" {
			t.Errorf("went to %q", g.to)
		}
		h, _ := parts(t, g.data)
		for f := h.Fields(); f.Next(); {
			if !slices.Contains(known, f.Key()) {
				names = append(names, f.Key()+": "+f.Value())
			}
		}
		if to, err := netmail.ParseAddressList(h.Get("To")); err != nil || len(to) != 1 || to[0].Address != "ada@example.org" {
			t.Errorf("To: %q %v", h.Get("To"), err)
		}
		if l := h.Get("List-Unsubscribe"); strings.Count(l, "<") > 1 || strings.Contains(l, "mailto") {
			t.Errorf("List-Unsubscribe: %q", l)
		}
	}
	if len(names) > 0 {
		t.Errorf("injected: %q", names)
	}
	if n := len(r.got()); n != 20 {
		t.Errorf("%d mails, want 20", n)
	}
}

func TestDKIM(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	rsaDER, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, plain, nil)
	for name, tc := range map[string]struct {
		key         crypto.PublicKey
		pem, record string
	}{
		"rsa":     {rsaKey.Public(), pkcs8(rsaKey), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaDER)},
		"pkcs1":   {rsaKey.Public(), string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaDER)},
		"ed25519": {edPub, pkcs8(edKey), "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edPub)},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "smtp://"+r.address, "dkim_key", tc.pem, "dkim_selector", "belfry")
			before := len(r.got())
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					m := message()
					m.ID = fmt.Sprintf("dlv_%d", i)
					m.Subject = "Grüße  mit   Lücken und einem sehr langen Betreff, der in mehrere Zeilen umbrochen werden muß"
					m.Text += "trailing spaces   \n\n\n\n"
					mustSend(t, s, channel.Target{Address: "ada@example.org", Name: "Löve"}, m)
				})
			}
			wg.Wait()
			for _, g := range r.got()[before:] {
				vs, err := dkim.VerifyWithOptions(strings.NewReader(string(g.data)), &dkim.VerifyOptions{LookupTXT: func(q string) ([]string, error) {
					if q != "belfry._domainkey.school.example" {
						return nil, fmt.Errorf("asked for %s", q)
					}
					return []string{tc.record}, nil
				}})
				if err != nil || len(vs) != 1 || vs[0].Err != nil {
					t.Fatalf("%v %+v\n%s", err, vs[0], g.data)
				}
				verifyByHand(t, g.data, tc.key)
				if vs[0].Domain != "school.example" {
					t.Errorf("domain %q", vs[0].Domain)
				}
				for _, h := range []string{"From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"} {
					if !slices.ContainsFunc(vs[0].HeaderKeys, func(k string) bool { return strings.EqualFold(k, h) }) {
						t.Errorf("%s is not signed: %q", h, vs[0].HeaderKeys)
					}
				}
			}
		})
	}
}

// verifyByHand checks a relaxed/relaxed signature by the text of RFC 6376,
// independently of the library that signs.
func verifyByHand(t *testing.T, data []byte, key crypto.PublicKey) {
	t.Helper()
	head, body, _ := strings.Cut(string(data), "\r\n\r\n")
	relax := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' }), " ")
	}
	var names, values []string
	for _, l := range strings.Split(strings.NewReplacer("\r\n ", " ", "\r\n\t", "\t").Replace(head), "\r\n") {
		n, v, _ := strings.Cut(l, ":")
		names, values = append(names, strings.ToLower(n)), append(values, v)
	}
	if names[0] != "dkim-signature" {
		t.Fatalf("first header is %s", names[0])
	}
	tags := map[string]string{}
	for _, tag := range strings.Split(values[0], ";") {
		k, v, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(k)] = strings.Join(strings.Fields(v), "")
	}
	lines := strings.Split(body, "\r\n")
	for i, l := range lines {
		trimmed := strings.TrimRight(l, " \t")
		if lead := strings.TrimLeft(trimmed, " \t"); lead != trimmed {
			lines[i] = " " + relax(trimmed)
		} else {
			lines[i] = relax(trimmed)
		}
	}
	hash := sha256.Sum256([]byte(strings.TrimRight(strings.Join(lines, "\r\n"), "\r\n") + "\r\n"))
	if got := base64.StdEncoding.EncodeToString(hash[:]); got != tags["bh"] {
		t.Errorf("body hash %s, want %s", got, tags["bh"])
	}
	var text strings.Builder
	left := map[string][]string{}
	for i := 1; i < len(names); i++ {
		left[names[i]] = append(left[names[i]], values[i])
	}
	for _, n := range strings.Split(strings.ToLower(tags["h"]), ":") {
		if vs := left[n]; len(vs) > 0 {
			text.WriteString(n + ":" + relax(vs[len(vs)-1]) + "\r\n")
			left[n] = vs[:len(vs)-1]
		}
	}
	own := values[0]
	at := strings.LastIndex(own, "b=")
	text.WriteString("dkim-signature:" + relax(own[:at+2]))
	sig, err := base64.StdEncoding.DecodeString(tags["b"])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text.String()))
	switch key := key.(type) {
	case *rsa.PublicKey:
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig)
	case ed25519.PublicKey:
		if !ed25519.Verify(key, sum[:], sig) {
			err = errors.New("ed25519: wrong")
		}
	}
	if err != nil {
		t.Errorf("the signature is wrong by hand: %v\n%s", err, text.String())
	}
}

func TestTLSAndLogIn(t *testing.T) {
	const user, password = "school", "pass word/9+ü"
	auth := "school:pass%20word%2F9+%C3%BC@"
	withUser := func(r *relay) { r.user, r.password = user, password }
	loginOnly := func(r *relay) { withUser(r); r.mechanisms = []string{"LOGIN"} }
	for name, tc := range map[string]struct {
		mode   string
		set    func(*relay)
		url    string
		ca     bool
		sent   bool
		tls    bool
		detail string
	}{
		"plain":                        {plain, nil, "smtp://%s", false, true, false, ""},
		"opportunistic, self-made":     {starttls, nil, "smtp://%s", false, true, true, ""},
		"opportunistic, known":         {starttls, nil, "smtp://%s", true, true, true, ""},
		"none":                         {starttls, nil, "smtp://%s?tls=none", false, true, false, ""},
		"required":                     {starttls, nil, "smtp://%s?tls=required", true, true, true, ""},
		"required, self-made":          {starttls, nil, "smtp://%s?tls=required", false, false, false, "certificate is not accepted"},
		"required, not offered":        {plain, nil, "smtp://%s?tls=required", true, false, false, "offers no STARTTLS"},
		"smtps":                        {implicit, nil, "smtps://%s", true, true, true, ""},
		"smtps, self-made":             {implicit, nil, "smtps://%s", false, false, false, "certificate is not accepted"},
		"smtps to a plain port":        {plain, nil, "smtps://%s", true, false, false, "TLS with the relay fails"},
		"log-in over TLS":              {starttls, withUser, "smtp://" + auth + "%s", true, true, true, ""},
		"log-in over smtps":            {implicit, withUser, "smtps://" + auth + "%s", true, true, true, ""},
		"log-in by LOGIN":              {implicit, loginOnly, "smtps://" + auth + "%s", true, true, true, ""},
		"log-in at an unproven relay":  {starttls, withUser, "smtp://" + auth + "%s", false, false, false, "certificate is not accepted"},
		"log-in on this machine":       {plain, withUser, "smtp://" + auth + "%s", false, true, false, ""},
		"log-in, told to go unguarded": {plain, withUser, "smtp://" + auth + "%s?tls=none", false, true, false, ""},
		"wrong password":               {plain, withUser, "smtp://school:wrong-pass@%s", false, false, false, "refuses user or password: 535"},
		"log-in not offered":           {plain, nil, "smtp://" + auth + "%s", false, false, false, "offers no log-in"},
		"log-in needed":                {plain, withUser, "smtp://%s", false, false, false, "authenticate"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t, tc.mode, tc.set)
			ca := ""
			if tc.ca {
				ca = r.pem
			}
			out := send(t, open(t, strings.Replace(tc.url, "%s", r.address, 1), "ca", ca), ada, message())
			if !tc.sent {
				if name != "log-in needed" && out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, tc.detail) {
					t.Errorf("%v %q, want %q", out.Kind, out.Detail, tc.detail)
				}
				if strings.Contains(out.Detail, "pass") && strings.Contains(out.Detail, "wrong-pass") {
					t.Errorf("the password shows: %q", out.Detail)
				}
				return
			}
			if out.Kind != belfry.OutcomeAccepted {
				t.Fatalf("%v %q", out.Kind, out.Detail)
			}
			got := r.got()[0]
			if got.tls != tc.tls || got.user != r.user {
				t.Errorf("tls %v user %q", got.tls, got.user)
			}
		})
	}
}

// far is a connection that does not come from this machine.
type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 25} }

type farDialer struct{ net.Dialer }

func (d *farDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return far{c}, nil
}

func TestPasswordsAreNotSentInTheClear(t *testing.T) {
	r := startRelay(t, plain, func(r *relay) { r.user, r.password = "u", "secret-word" })
	for query, kind := range map[string]belfry.OutcomeKind{"": belfry.OutcomeRetry, "?tls=none": belfry.OutcomeAccepted} {
		d := deps()
		d.Dialer = &farDialer{}
		s, err := email.Kind().New(d, map[string]string{"url": "smtp://u:secret-word@" + r.address + query, "from": "a@school.example"})
		if err != nil {
			t.Fatal(err)
		}
		out := send(t, s, ada, message())
		if out.Kind != kind || kind == belfry.OutcomeRetry && !strings.Contains(out.Detail, "not sent in the clear") {
			t.Errorf("%q: %v %q", query, out.Kind, out.Detail)
		}
		_ = s.Close()
	}
}

func TestReplies(t *testing.T) {
	type want struct {
		kind      belfry.OutcomeKind
		throttled bool
	}
	retry, throttled := want{belfry.OutcomeRetry, false}, want{belfry.OutcomeRetry, true}
	refused, gone := want{belfry.OutcomeRefused, false}, want{belfry.OutcomeGone, false}
	for _, tc := range []struct {
		at, reply string
		want      want
	}{
		{"CONNECT", "554 no service for you", retry},
		{"CONNECT", "421 too many connections", throttled},
		{"EHLO", "550 go away", retry},
		{"MAIL", "421 4.3.2 shutting down", throttled},
		{"MAIL", "450 4.7.1 slow down", throttled},
		{"MAIL", "451 4.7.0 try later", throttled},
		{"MAIL", "452 4.3.1 no space", retry},
		{"MAIL", "550 5.7.1 sender not allowed", refused},
		{"MAIL", "550 5.1.1 sender unknown", refused}, // the sender, not the recipient
		{"MAIL", "530 5.7.0 authentication required", retry},
		{"MAIL", "503 5.5.1 out of order", retry},
		{"RCPT", "450 4.2.0 greylisted", throttled},
		{"RCPT", "452 4.2.2 mailbox full", retry},
		{"RCPT", "550 5.1.1 <ada@example.org>: no such user here", gone},
		{"RCPT", "550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist", gone},
		{"RCPT", "550 5.1.6 moved away", gone},
		{"RCPT", "556 5.1.10 domain takes no mail", gone},
		{"RCPT", "550 user unknown", gone},
		{"RCPT", "550 <ada@example.org>: Recipient address rejected: User unknown in local recipient table", gone},
		{"RCPT", "551 Unknown mailbox", gone},
		{"RCPT", "550 5.7.1 user unknown to our policy", refused}, // the code decides
		{"RCPT", "550 5.2.1 too much mail for this account", refused},
		{"RCPT", "550 5.1.2 bad domain", refused},
		{"RCPT", "550 5.1.12 whatever", refused},
		{"RCPT", "550 mailbox unavailable", refused},
		{"RCPT", "554 5.7.1 relay access denied", refused},
		{"RCPT", "501 5.1.3 bad syntax", refused},
		{"DATA", "554 5.5.1 no valid recipients", refused},
		{"DATA", "451 4.3.0 try later", throttled},
		{".", "250 2.0.0 queued as 4711", want{belfry.OutcomeAccepted, false}},
		{".", "552 5.3.4 message too big", refused},
		{".", "554 5.7.1 looks like spam", refused},
		{".", "550 5.1.1 no such user", gone},
		{".", "452 4.3.1 no space", retry},
		{".", "421 4.3.0 going down", throttled},
		{"RCPT", "999 what", retry},
		{"RCPT", "garbage", retry},
	} {
		t.Run(tc.at+" "+tc.reply, func(t *testing.T) {
			address := dialogue(t, func(_ int, line string) string {
				verb, _, _ := strings.Cut(line, " ")
				verb, _, _ = strings.Cut(verb, ":")
				if verb == tc.at || tc.at == "EHLO" && verb == "HELO" {
					return tc.reply
				}
				return polite(line)
			})
			out := send(t, open(t, "smtp://"+address), ada, message())
			if got := (want{out.Kind, out.Throttled}); got != tc.want {
				t.Errorf("%+v (%q), want %+v", got, out.Detail, tc.want)
			}
			if tc.reply[0] >= '2' && tc.reply[0] <= '5' && fmt.Sprint(out.Status) != tc.reply[:3] {
				t.Errorf("status %d", out.Status)
			}
			if tc.reply[0] <= '5' && !strings.Contains(out.Detail, "\n") && out.Detail == "" {
				t.Error("no detail")
			}
		})
	}
}

// A relay that hangs up while the message is on its way is tried again.
func TestDroppedInData(t *testing.T) {
	var sessions atomic.Int32
	address := dialogue(t, func(_ int, line string) string {
		if line == "CONNECT" {
			sessions.Add(1)
		}
		if line == "." {
			return ""
		}
		return polite(line)
	})
	s := open(t, "smtp://"+address)
	out := send(t, s, ada, message())
	if out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "closed the connection") {
		t.Errorf("%v %q", out.Kind, out.Detail)
	}
	if n := sessions.Load(); n != 1 {
		t.Errorf("%d connections: what may have arrived was sent again at once", n)
	}
}

// A relay that answers every step just in time still ends with the context.
func TestSlowRelay(t *testing.T) {
	release := make(chan struct{})
	address := dialogue(t, func(_ int, line string) string {
		if strings.HasPrefix(line, "RCPT") {
			<-release
		}
		return polite(line)
	})
	defer close(release)
	s := open(t, "smtp://"+address)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	out := s.Send(ctx, ada, message())
	if out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "did not answer in time") || time.Since(start) > 3*time.Second {
		t.Errorf("%v %q after %v", out.Kind, out.Detail, time.Since(start))
	}
}

// A relay that never stops talking is let go.
func TestFloodingRelay(t *testing.T) {
	address := dialogue(t, func(_ int, line string) string {
		if strings.HasPrefix(line, "RCPT") {
			return strings.Repeat("550-no and no and no and no and no and no\n", 20_000) + "550 no"
		}
		return polite(line)
	})
	out := send(t, open(t, "smtp://"+address), ada, message())
	if out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "says too much") {
		t.Errorf("%v %q", out.Kind, out.Detail)
	}
}

func TestConnectionsAreReusedAndBounded(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address, "connections", "3", "messages_per_connection", "10")
	for range 10 {
		mustSend(t, s, ada, message())
	}
	if n := r.connections(); n != 1 {
		t.Errorf("%d connections for 10 messages one after the other, want 1", n)
	}
	mustSend(t, s, ada, message())
	if n := r.connections(); n != 2 {
		t.Errorf("%d connections after the first was used up, want 2", n)
	}
	// One refused recipient does not cost the connection.
	fussy := startRelay(t, plain, func(r *relay) {
		r.onRcpt = func(to string) error {
			if to == "eve@example.org" {
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
			}
			return nil
		}
	})
	f := open(t, "smtp://"+fussy.address)
	for i := range 6 {
		to, want := ada, belfry.OutcomeAccepted
		if i%2 == 1 {
			to, want = channel.Target{Address: "eve@example.org"}, belfry.OutcomeGone
		}
		if out := send(t, f, to, message()); out.Kind != want {
			t.Errorf("%d: %v %q", i, out.Kind, out.Detail)
		}
	}
	if n := fussy.connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	var now, most atomic.Int32
	crowded := startRelay(t, plain, func(r *relay) {
		r.onData = func([]byte) error {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return nil
		}
	})
	b := open(t, "smtp://"+crowded.address, "connections", "3")
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() { mustSend(t, b, ada, message()) })
	}
	wg.Wait()
	if n := crowded.connections(); n > 3 || most.Load() > 3 {
		t.Errorf("%d connections, %d at once; 3 are allowed", n, most.Load())
	}
	if n := len(crowded.got()); n != 60 {
		t.Errorf("%d mails", n)
	}
}

func TestBusyPoolEndsWithTheContext(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{})
	r := startRelay(t, plain, func(r *relay) {
		r.onData = func([]byte) error { close(inside); <-release; return nil }
	})
	s := open(t, "smtp://"+r.address, "connections", "1")
	done := make(chan belfry.Outcome)
	go func() { done <- s.Send(context.Background(), ada, message()) }()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if out := s.Send(ctx, ada, message()); out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "busy") {
		t.Errorf("%v %q", out.Kind, out.Detail)
	}
	close(release)
	if out := <-done; out.Kind != belfry.OutcomeAccepted {
		t.Errorf("%v %q", out.Kind, out.Detail)
	}
}

// A kept connection that the relay has meanwhile closed, with or without a
// word, is no failed try.
func TestStaleConnections(t *testing.T) {
	for name, words := range map[string]string{"silent": "", "421": "421 4.4.2 idle for too long"} {
		t.Run(name, func(t *testing.T) {
			var mails atomic.Int32
			address := dialogue(t, func(conn int, line string) string {
				if conn == 1 && mails.Load() == 1 && (strings.HasPrefix(line, "MAIL") || line == "RSET") {
					return words
				}
				if line == "." {
					mails.Add(1)
				}
				return polite(line)
			})
			s := open(t, "smtp://"+address)
			mustSend(t, s, ada, message())
			mustSend(t, s, ada, message())
			if n := mails.Load(); n != 2 {
				t.Errorf("%d mails", n)
			}
		})
	}
}

// An idle connection is closed with a goodbye.
func TestIdleConnectionsAreClosed(t *testing.T) {
	quit := make(chan struct{})
	address := dialogue(t, func(_ int, line string) string {
		if line == "QUIT" {
			close(quit)
		}
		return polite(line)
	})
	s := open(t, "smtp://"+address, "idle", "20ms")
	mustSend(t, s, ada, message())
	select {
	case <-quit:
	case <-time.After(5 * time.Second):
		t.Error("it is still open")
	}
}

func TestConformance(t *testing.T) {
	const password = "s3cr3t-Passw0rd"
	channeltest.Run(t, channeltest.Subject{
		Open: func(t *testing.T, address string) (channel.Sender, channel.Target) {
			s, err := email.Kind().New(deps(), map[string]string{"url": "smtp://school:" + password + "@" + address, "from": "notices@school.example"})
			if err != nil {
				t.Fatal(err)
			}
			return s, ada
		},
		Accepting: func(t *testing.T) (string, func() int) {
			r := startRelay(t, plain, func(r *relay) { r.user, r.password = "school", password })
			return r.address, func() int { return len(r.got()) }
		},
		Echoing: func(t *testing.T) string {
			return dialogue(t, func(_ int, line string) string {
				if b64, ok := strings.CutPrefix(line, "AUTH PLAIN "); ok {
					clear, _ := base64.StdEncoding.DecodeString(b64)
					return "535 5.7.8 you said " + b64 + " which is " + strings.ReplaceAll(string(clear), "\x00", " ")
				}
				if strings.HasPrefix(line, "EHLO") {
					return "250-echo\n250 AUTH PLAIN"
				}
				return polite(line)
			})
		},
		Secrets: []string{password, base64.StdEncoding.EncodeToString([]byte("\x00school\x00" + password)), base64.StdEncoding.EncodeToString([]byte(password))},
		Message: *message(),
	})
}

func TestSettings(t *testing.T) {
	good := map[string]string{"url": "smtp://relay.example", "from": "School <a@school.example>"}
	for name, tc := range map[string]struct {
		change map[string]string
		faults []string
	}{
		"good":             {nil, nil},
		"nothing":          {map[string]string{"url": "", "from": ""}, []string{"/settings/url", "/settings/from"}},
		"unknown":          {map[string]string{"form": "x"}, []string{"/settings/form"}},
		"scheme":           {map[string]string{"url": "http://relay.example"}, []string{"/settings/url"}},
		"no host":          {map[string]string{"url": "smtp:///x"}, []string{"/settings/url"}},
		"path":             {map[string]string{"url": "smtp://u:p/w@relay.example"}, []string{"/settings/url"}},
		"user alone":       {map[string]string{"url": "smtp://u@relay.example"}, []string{"/settings/url"}},
		"tls":              {map[string]string{"url": "smtp://relay.example?tls=maybe"}, []string{"/settings/url"}},
		"parameter":        {map[string]string{"url": "smtp://relay.example?ssl=1"}, []string{"/settings/url"}},
		"smtps and tls":    {map[string]string{"url": "smtps://relay.example?tls=none"}, []string{"/settings/url"}},
		"port":             {map[string]string{"url": "smtp://relay.example:99999"}, []string{"/settings/url"}},
		"from":             {map[string]string{"from": "school"}, []string{"/settings/from"}},
		"several":          {map[string]string{"connections": "0", "idle": "x", "ca": "x", "reply_to": "x"}, []string{"/settings/reply_to", "/settings/idle"}},
		"numbers":          {map[string]string{"connections": "0", "messages_per_connection": "0", "ca": "x", "hello": "a b"}, []string{"/settings/ca", "/settings/connections", "/settings/messages_per_connection", "/settings/hello"}},
		"dkim key":         {map[string]string{"dkim_key": "x", "dkim_selector": "s"}, []string{"/settings/dkim_key"}},
		"dkim alone":       {map[string]string{"dkim_selector": "s"}, []string{"/settings/dkim_selector"}},
		"line break":       {map[string]string{"hello": "a\r\nb"}, []string{"/settings/hello"}},
		"odd return path":  {map[string]string{"return_path": "a@[10.0.0.1]"}, []string{"/settings/return_path"}},
		"idn sender works": {map[string]string{"from": "a@schülë.example"}, nil},
	} {
		values := map[string]string{}
		for k, v := range good {
			values[k] = v
		}
		for k, v := range tc.change {
			values[k] = v
		}
		s, err := email.Kind().New(deps(), values)
		if err == nil {
			_ = s.Close()
		}
		var fault *belfry.Error
		var got []string
		if errors.As(err, &fault) {
			for _, f := range fault.Fields {
				got = append(got, f.Pointer)
			}
		}
		if !slices.Equal(got, tc.faults) {
			t.Errorf("%s: %q, want %q (%v)", name, got, tc.faults, err)
		}
	}
	_, err := email.Kind().New(deps(), map[string]string{"url": "smtp://u:hunter-2-hunter/@relay", "from": "a@b.example"})
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("the error repeats the password: %v", err)
	}
}

func BenchmarkEmailSend(b *testing.B) {
	r := startRelay(b, plain, func(r *relay) { r.onData = func([]byte) error { return nil } })
	s := open(b, "smtp://"+r.address)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if out := s.Send(b.Context(), ada, message()); out.Kind != belfry.OutcomeAccepted {
				b.Errorf("%+v", out)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}
