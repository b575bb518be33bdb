package email

import (
	"bytes"
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Whatever comes in, what goes out is one mail to one recipient with our
// headers only.
func FuzzCompose(f *testing.F) {
	f.Add("ada@example.org", "Ada", "Subject", "text", "<p>html</p>", "https://x.example/u/1", "sub_1", "course/41", "en")
	f.Add(`"a b"@exämple.org`, "A\r\nBcc: x", "é\nX: y", ".\r\n.", "\x00", "https://x/>,<mailto:a@b>", "a..b", "\xff", "pt-BR")
	cfg, err := parse(map[string]string{"url": "smtp://relay.example", "from": "School <a@school.example>"})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, address, name, subject, text, html, unsubscribe, list, thread, locale string) {
		m := &belfry.Message{ID: "dlv_1", Subject: subject, Text: text, HTML: html, Unsubscribe: unsubscribe, ListID: list, Thread: thread, Locale: locale}
		l, err := cfg.compose(channel.Target{Address: address, Name: name}, m, now)
		if err != nil {
			return
		}
		if strings.ContainsAny(l.to, "\r\n\x00") || !strings.HasPrefix(l.to, "<") || !strings.HasSuffix(l.to, ">") {
			t.Fatalf("envelope %q", l.to)
		}
		for line := range bytes.SplitSeq(l.raw, []byte("\r\n")) {
			if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("line %q", line)
			}
		}
		got, err := netmail.ReadMessage(bytes.NewReader(l.raw))
		if err != nil {
			t.Fatal(err)
		}
		for key := range got.Header {
			if !slices.Contains([]string{
				"From", "To", "Subject", "Message-Id", "Date", "Auto-Submitted", "X-Auto-Response-Suppress", "References", "In-Reply-To", "List-Id", "Precedence",
				"List-Unsubscribe", "List-Unsubscribe-Post", "Content-Language", "Mime-Version", "Content-Type", "Content-Transfer-Encoding",
			}, key) || len(got.Header[key]) != 1 {
				t.Fatalf("header %s: %q", key, got.Header[key])
			}
		}
		to, err := got.Header.AddressList("To")
		if err != nil || len(to) != 1 || (&netmail.Address{Address: to[0].Address}).String() != l.to {
			t.Fatalf("To %q, envelope %q: %v", got.Header.Get("To"), l.to, err)
		}
	})
}
