package email_test

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel/email"
)

// A message is never sent in the name of a domain that the relay may not send
// for, whatever it asks for.
// feature: CPS-28
func TestSenders(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address, "from_domains", "library.example, BÜCHER.example", "reply_to", "help@school.example")
	for i, c := range []struct{ from, replyTo, wantFrom, wantReply string }{
		{"", "", `"Belfry School" <notices@school.example>`, "<help@school.example>"},
		{"Ada <ada@school.example>", "", `"Ada" <ada@school.example>`, "<help@school.example>"},
		{"desk@library.example", "office@else.example", "<desk@library.example>", "<office@else.example>"},
		{"x@bücher.example", "", "<x@xn--bcher-kva.example>", "<help@school.example>"},
		{"CEO <ceo@bank.example>", "", `"CEO" <notices@school.example>`, `"CEO" <ceo@bank.example>`},
		{"ceo@bank.example", "", `"Belfry School" <notices@school.example>`, "<ceo@bank.example>"},
		{"CEO <ceo@bank.example>", "Desk <d@bank.example>", `"CEO" <notices@school.example>`, `"Desk" <d@bank.example>`},
		{"x@sub.school.example", "", `"Belfry School" <notices@school.example>`, "<x@sub.school.example>"},
		{"x@school.example.evil.example", "", `"Belfry School" <notices@school.example>`, "<x@school.example.evil.example>"},
		{"a@school.example, b@bank.example", "", `"Belfry School" <notices@school.example>`, "<help@school.example>"},
		{"not a mailbox", "nor this", `"Belfry School" <notices@school.example>`, "<help@school.example>"},
		{"A\r\nBcc: x@bank.example <a@school.example>", "b@school.example\r\nX: y", `"Belfry School" <notices@school.example>`, "<help@school.example>"},
	} {
		m := message()
		m.From, m.ReplyTo = c.from, c.replyTo
		mustSend(t, s, ada, m)
		got := r.got()[i]
		h, _ := parts(t, got.data)
		if from, reply := h.Get("From"), h.Get("Reply-To"); from != c.wantFrom || reply != c.wantReply || h.Get("Bcc") != "" || h.Get("X") != "" {
			t.Errorf("%q, %q: From %q, Reply-To %q; want %q, %q", c.from, c.replyTo, from, reply, c.wantFrom, c.wantReply)
		}
		if got.from != "notices@school.example" {
			t.Errorf("%q: bounces go to %q", c.from, got.from)
		}
	}
	if _, err := email.Kind().New(deps(), map[string]string{"url": "smtp://x", "from": "a@x.example", "from_domains": "good.example b@d"}); err == nil || !strings.Contains(err.Error(), `"b@d"`) {
		t.Errorf("an odd domain: %v", err)
	}
}

// feature: S3-16
func TestAttachments(t *testing.T) {
	r := startRelay(t, plain, nil)
	s := open(t, "smtp://"+r.address)
	m := message()
	m.Attachments = []belfry.Attachment{{Name: "re\"c\r\nords.csv", ContentType: "text/csv; charset=utf-8", Body: []byte("a,ü\r\n1,2\r\n")}}
	mustSend(t, s, ada, m)
	raw := string(r.got()[0].data)
	for _, want := range []string{"multipart/mixed", "multipart/alternative", "Content-Disposition: attachment", "text/csv; charset=utf-8"} {
		if !strings.Contains(raw, want) {
			t.Errorf("no %q in\n%s", want, raw)
		}
	}
	for l := range strings.SplitSeq(raw, "\r\n") {
		if strings.HasPrefix(l, "ords.csv") || len(l) > 998 {
			t.Errorf("the line %q", l)
		}
	}
}
