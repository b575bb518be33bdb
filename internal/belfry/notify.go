package belfry

import "slices"

// Notify is one thing done for a match: tell people by channels, call an
// endpoint, or run a script.
type Notify struct {
	Channels []string `json:"channels,omitempty"` // empty = each person's own choice
	Template string   `json:"template,omitempty"`
	Subject  string   `json:"subject,omitempty"`  // words of its own instead of a template: one line, with mustache values
	Body     string   `json:"body,omitempty"`     // the same: Markdown with mustache values
	Message  string   `json:"message,omitempty"`  // CEL, for each recipient: the message, or false for none
	Attach   string   `json:"attach,omitempty"`   // csv: the records, attached to e-mail
	Endpoint string   `json:"endpoint,omitempty"` // ep_...
	Script   string   `json:"script,omitempty"`   // a channel of kind script in the server's configuration
	Per      string   `json:"per,omitempty"`      // of a script: event (once, default) | recipient (once for each)
}

// AttachCSV attaches the records of events as comma separated values.
const AttachCSV = "csv"

// Tells reports whether it tells people.
func (n *Notify) Tells() bool { return n.Script == "" && (n.Endpoint == "" || len(n.Channels) > 0) }

// NamesPeople reports whether it does something for each recipient.
func (n *Notify) NamesPeople() bool { return n.Tells() || n.Script != "" && n.Per == PerRecipient }

// Candidates are the notifications of a subscription that a delivery on a
// channel may carry out, those that name the channel first; template is the one
// that the delivery was planned with.
func (s *Subscription) Candidates(channel, template string) []*Notify {
	var named, others []*Notify
	for i := range s.Notify {
		n := &s.Notify[i]
		switch {
		case n.Template != template || !n.Tells():
		case slices.Contains(n.Channels, channel):
			named = append(named, n)
		default:
			others = append(others, n)
		}
	}
	return append(named, others...)
}

// Sender says in whose name messages are sent and where answers go. What is
// empty is said by the object farther up, the tenant, and at last the channel.
type Sender struct {
	From    string `json:"from,omitempty"`     // a mailbox such as "Library" <library@school.example>; the channel decides whether its domain may be used
	ReplyTo string `json:"reply_to,omitempty"` // a mailbox
	Actor   bool   `json:"actor,omitempty"`    // in the name of who did it, answers to them; not of anonymous events
}
