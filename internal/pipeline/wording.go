package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"net/mail"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/render"
)

// Templates finds the closest template of the first of the names that there is,
// at the objects (an event's own first, the root last); without any, an empty
// set, which says what is built in.
type Templates interface {
	Template(ctx context.Context, tenant string, names []string, objects []belfry.Object) (*render.Set, error)
	// Own is the template of words that a notification brings itself.
	Own(words belfry.Words) (*render.Template, error)
}

// Wanted says whose words are looked for: those of a delivery, or an inbox entry.
type Wanted struct {
	Subscription *belfry.Subscription // nil = none, or it is gone
	Template     string               // that it was planned with
	Channel      string
	Reader       *belfry.User // of a bare address, with the address alone
	Now          time.Time
}

// Wording finds the words for one reader of an item on a channel, and the
// notification that they come from (nil = the subscription has none that fits).
// What the notification's expression computes is put into item. The reason says
// why there is no message: the expression says so.
func (f *Facts) Wording(ctx context.Context, templates Templates, tenant string, w *Wanted, item *render.Item) (t *render.Template, from *belfry.Notify, drop *belfry.Reason, err error) {
	if w.Subscription != nil {
		if from, drop, err = f.notified(ctx, tenant, w, item); err != nil || drop != nil {
			return nil, nil, drop, err
		}
	}
	switch {
	case from != nil && (from.Subject != "" || from.Body != ""):
		t, err = templates.Own(belfry.Words{Subject: from.Subject, Body: from.Body})
	case w.Template == "" && (item.Said.Subject != "" || item.Said.Body != ""):
		t = render.Said(item.Locale, item.Fallback)
	default:
		t, err = f.template(ctx, templates, tenant, w, item)
	}
	return t, from, nil, err
}

// template is the one that is named, else the one of the event's type, else the
// tenant's default, else what is built in; in the reader's language, or what
// comes closest to it.
func (f *Facts) template(ctx context.Context, templates Templates, tenant string, w *Wanted, item *render.Item) (*render.Template, error) {
	typ, _, err := f.Directory.EventType(ctx, tenant, item.Event.Type)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, 3)
	last := belfry.DefaultTemplate
	if render.Own(item.Event.Type) {
		last = item.Event.Type // its words say what the tenant's default cannot
	}
	for _, name := range []string{w.Template, typ.Template, last} {
		if name != "" {
			names = append(names, name)
		}
	}
	set, err := templates.Template(ctx, tenant, names, item.Path)
	if err != nil {
		return nil, fmt.Errorf("template %q: %w", names[0], err)
	}
	return set.Over(render.OwnOrDefault(item.Event.Type, item.Locale, item.Fallback), w.Channel, item.Locale, item.Fallback), nil
}

// notified is the notification that is carried out: as route chose it, the first
// that fits and has a message for this reader.
func (f *Facts) notified(ctx context.Context, tenant string, w *Wanted, item *render.Item) (*belfry.Notify, *belfry.Reason, error) {
	var drop *belfry.Reason
	var vars *expr.Vars
	for _, n := range w.Subscription.Candidates(w.Channel, w.Template) {
		if n.Message == "" {
			return n, nil, nil
		}
		if vars == nil {
			facts := expr.Facts{Ancestors: item.Path, Now: w.Now}
			actor, err := f.Person(ctx, tenant, item.Event.Actor)
			if err != nil {
				return nil, nil, err
			}
			if actor != nil {
				facts.Actor = &actor.User
			}
			vars = expr.NewVars(item.Event, facts)
		}
		m, err := expr.CompileMessage(n.Message)
		if err != nil { // it was valid when it was saved: a later version may see it otherwise
			return n, nil, nil
		}
		said := m.Say(vars, w.Reader)
		if !said.None {
			item.Said = render.Words{Subject: said.Subject, Body: said.Body}
			return n, nil, nil
		}
		drop = &belfry.Reason{Code: belfry.MessageNone, Subscription: w.Subscription.ID}
	}
	return nil, drop, nil
}

// address puts into a message in whose name it is sent and where answers go:
// each of the two as the first says that speaks of it, the subscription, the
// closest object, the tenant. Whether the sender's domain may be used is the
// channel's to decide.
func (f *Facts) address(ctx context.Context, tenant string, sub *belfry.Subscription, item *render.Item, m *belfry.Message) error {
	var all [16]*belfry.Sender
	senders := all[:0]
	if sub != nil && sub.Sender != nil {
		senders = append(senders, sub.Sender)
	}
	for i := range item.Path {
		if s := item.Path[i].Settings; s != nil && s.Sender != nil {
			senders = append(senders, s.Sender)
		}
	}
	settings, err := f.Directory.TenantSettings(ctx, tenant)
	if err != nil {
		return err
	}
	if settings != nil && settings.Sender != nil {
		senders = append(senders, settings.Sender)
	}
	for _, s := range senders {
		if s.Actor && m.From == "" && m.ReplyTo == "" && item.Event.Actor != "" && !item.Event.Has(belfry.FlagAnonymous) {
			actor, err := f.Person(ctx, tenant, item.Event.Actor)
			if err != nil {
				return err
			}
			if actor != nil && actor.User.State == belfry.UserActive && actor.User.Email != "" {
				m.From = (&mail.Address{Name: actor.User.Name, Address: actor.User.Email}).String()
				m.ReplyTo = m.From
			}
		}
		m.From, m.ReplyTo = cmp.Or(m.From, s.From), cmp.Or(m.ReplyTo, s.ReplyTo)
	}
	return nil
}
