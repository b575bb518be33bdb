package pipeline

import (
	"context"
	"encoding/json"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// scriptInput is what a script reads on its standard input.
type scriptInput struct {
	ID           string          `json:"id"` // of the delivery: the same in every try
	Tenant       string          `json:"tenant"`
	Event        json.RawMessage `json:"event"` // as webhooks carry it
	Subscription *scriptOrigin   `json:"subscription,omitempty"`
	Recipient    *scriptReader   `json:"recipient,omitempty"` // when it runs for each
}

type scriptOrigin struct {
	ID    string `json:"id"`
	Title string `json:"title,omitempty"`
}

type scriptReader struct {
	ID         string          `json:"id,omitempty"` // empty for a bare address
	Name       string          `json:"name,omitempty"`
	Email      string          `json:"email,omitempty"`
	Locale     string          `json:"locale,omitempty"`
	TimeZone   string          `json:"time_zone,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
}

// script composes a run of a script. For a recipient it checks what it checks
// for a message: nothing runs for somebody who may not be told any more.
func (m *Messages) script(ctx context.Context, d *belfry.Delivery, p *Payload, sub *belfry.Subscription) (Composed, error) {
	in := scriptInput{ID: d.ID, Tenant: d.Tenant}
	who := belfry.ScriptAddress(d.Channel, "")
	switch {
	case d.Principal != "":
		person, err := m.facts.Person(ctx, d.Tenant, d.Principal)
		if err != nil {
			return Composed{}, err
		}
		reason := resolve.Away(person)
		if reason == nil {
			reason, err = m.facts.stopped(ctx, d, p.Event, sub, person)
		}
		if err != nil || reason != nil {
			return Composed{Drop: reason}, err
		}
		u := &person.User
		in.Recipient = &scriptReader{ID: u.ID, Name: u.Name, Email: u.Email, Locale: u.Locale, TimeZone: u.TimeZone, Attributes: u.Attributes}
	case len(d.Address) > len(who):
		in.Recipient = &scriptReader{Email: d.Address[len(who)+1:]}
	}
	if in.Recipient != nil && sub != nil {
		reader := *d
		reader.Address = in.Recipient.Email
		out, err := m.facts.OptedOut(ctx, &reader)
		if err != nil {
			return Composed{}, err
		}
		if out {
			return Composed{Drop: &belfry.Reason{Code: belfry.OptedOut, Subscription: d.Subscription}}, nil
		}
	}
	if sub != nil {
		in.Subscription = &scriptOrigin{ID: sub.ID, Title: sub.Title}
	}
	var err error
	if in.Event, err = p.Wire(render.EncodeEvent); err != nil {
		return Composed{}, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return Composed{}, err
	}
	return Composed{
		Target:  channel.Target{Address: d.Address},
		Message: &belfry.Message{ID: d.ID, Time: p.Event.Time, ContentType: "application/json", Body: body},
	}, nil
}

// stopped is why somebody who has stopped all messages is not told of an event
// by a delivery's channel; nil where it is not hers to say.
func (f *Facts) stopped(ctx context.Context, d *belfry.Delivery, e *belfry.Event, sub *belfry.Subscription, who *belfry.Person) (*belfry.Reason, error) {
	if who == nil || !who.Settings.Stop {
		return nil, nil
	}
	typ, _, err := f.Directory.EventType(ctx, d.Tenant, e.Type)
	if err != nil || route.Insists(d.Channel, typ, sub) {
		return nil, err
	}
	return &belfry.Reason{Code: belfry.GlobalStop}, nil
}
