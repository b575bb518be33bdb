package manage

import (
	"errors"
	"net/mail"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/render"
)

// maxMailbox bounds a mailbox with its name.
const maxMailbox = 400

// sender checks in whose name messages are sent.
func (f *faults) sender(p string, s *belfry.Sender) {
	if s == nil {
		return
	}
	f.mailbox(p+"/from", s.From)
	f.mailbox(p+"/reply_to", s.ReplyTo)
}

// mailbox checks an address that may have a name.
func (f *faults) mailbox(p, text string) {
	if text == "" || !f.line(p, text, maxMailbox) {
		return
	}
	if a, err := mail.ParseAddress(text); err != nil {
		f.add(p, "is no mailbox such as ada@example.org or \"Ada\" <ada@example.org>")
	} else {
		f.email(p, a.Address)
	}
}

// wording checks what a notification says.
func (f *faults) wording(p string, n *belfry.Notify) {
	if n.Subject != "" || n.Body != "" {
		if n.Template != "" {
			f.add(p+"/template", "goes without subject and body: name a template, or bring the words here")
		}
		f.words(p, belfry.Words{Subject: n.Subject, Body: n.Body})
	}
	if n.Message != "" {
		_, err := expr.CompileMessage(n.Message)
		f.source(p+"/message", err)
	}
	if n.Attach != "" {
		f.choice(p+"/attach", n.Attach, belfry.AttachCSV)
	}
}

// words checks a subject and a body that are a template.
func (f *faults) words(p string, w belfry.Words) {
	_, err := render.Compile(w.Subject, w.Body)
	var faulty *belfry.Error
	if errors.As(err, &faulty) {
		for _, field := range faulty.Fields {
			f.add(p+field.Pointer, "%s", field.Message)
		}
	} else if err != nil {
		f.add(p, "%s", err)
	}
}

// checkScript checks that a notification that runs a script does that alone, and
// that the operator allows the script.
func (m *Manager) checkScript(f *faults, p string, n *belfry.Notify) {
	if n.Script == "" {
		if n.Per != "" {
			f.add(p+"/per", "goes with script only")
		}
		return
	}
	if len(n.Channels) > 0 || n.Endpoint+n.Template+n.Subject+n.Body+n.Message+n.Attach != "" {
		f.add(p, "either runs a script or does something else: make two entries")
	}
	if n.Per != "" {
		f.choice(p+"/per", n.Per, belfry.PerEvent, belfry.PerRecipient)
	}
	if m.channels.Builtin()[n.Script] != belfry.KindScript {
		f.add(p+"/script", "there is no script %q: the operator allows scripts in the server's configuration, as channels of kind script", n.Script)
	}
}
