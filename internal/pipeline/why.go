package pipeline

import (
	"context"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Unsubscriber makes the address where a subscription is ended for somebody.
type Unsubscriber interface {
	Unsubscribe(tenant, subscription, principal, address string) string
}

// deciding reports whether a reason says what decided, not what named.
func deciding(code string) bool {
	return strings.HasPrefix(code, "by_") || !strings.HasPrefix(code, "named_")
}

// Why says all there is to say about one delivery or inbox entry.
func (x *Explainer) Why(ctx context.Context, tenant, id string) (belfry.Why, error) {
	d, found, err := x.Store.Message(ctx, tenant, id)
	if err != nil {
		return belfry.Why{}, err
	}
	if !found {
		return belfry.Why{}, belfry.Errorf(belfry.NotFound, "there is no delivery or inbox entry %q", id[:min(len(id), 64)])
	}
	w := belfry.Why{
		Delivery: d.ID, Outcome: belfry.Told, State: d.State.String(), Principal: d.Principal, Locale: d.Locale,
		Contact: belfry.WhyContact{Channel: d.Channel, Address: d.Address}, Attempts: []belfry.WhyAttempt{}, Change: []belfry.WhyChange{},
	}
	if d.State == belfry.Suppressed || d.State == belfry.Cancelled || d.State == belfry.Failed {
		w.Outcome = belfry.NotTold
	}
	if d.State.Open() {
		w.Due = &d.Due
	}
	if d.State == belfry.Held {
		w.Outcome, d.Because = belfry.NotTold, append(slices.Clone(d.Because), belfry.Reason{Code: belfry.AwaitsAuthoriser})
	}
	if d.Channel == belfry.ChannelInbox {
		w.Contact.Address = ""
	} else if d.Channel == belfry.ChannelWebhook {
		w.Endpoint = d.Address
	}
	var named, decided []belfry.Reason
	for _, r := range d.Because {
		if deciding(r.Code) {
			decided = append(decided, r)
			continue
		}
		named = append(named, r)
		if w.Rule == 0 && r.Subscription == d.Subscription {
			w.Rule = r.Rule
		}
	}
	w.Named, w.Decided = belfry.ViewReasons(named), belfry.ViewReasons(decided)
	attempts, err := x.Store.Attempts(ctx, tenant, id)
	if err != nil {
		return w, err
	}
	for i := range attempts {
		a := &attempts[i]
		w.Attempts = append(w.Attempts, belfry.WhyAttempt{At: a.At, Outcome: a.Outcome.Kind.String(), Status: a.Outcome.Status, Detail: a.Outcome.Detail})
	}
	if err := x.whyEvent(ctx, tenant, &d, &w); err != nil {
		return w, err
	}
	mandatory, err := x.whySubscription(ctx, tenant, &d, &w)
	if err != nil {
		return w, err
	}
	if d.Principal != "" && d.Channel != belfry.ChannelInbox {
		if err := x.whyLabel(ctx, tenant, &d, &w); err != nil {
			return w, err
		}
	}
	w.Change = x.changes(&d, &w, named, decided, mandatory)
	return w, nil
}

func (x *Explainer) whyEvent(ctx context.Context, tenant string, d *belfry.Delivery, w *belfry.Why) error {
	w.Event.ID = d.EventID
	events, err := x.Store.Events(ctx, tenant, []string{d.EventID})
	if err != nil {
		return err
	}
	acc := events[d.EventID]
	if acc == nil { // too old: the delivery is kept longer
		w.Planned, err = belfry.IDTime(d.EventID)
		return err
	}
	w.Planned = acc.At
	w.Event.Type, w.Event.Object, w.Event.Time = acc.Event.Type, acc.Event.Object, acc.Event.Time
	typ, _, err := x.Stages.Directory.EventType(ctx, tenant, acc.Event.Type)
	if err != nil {
		return err
	}
	w.Event.Title = typ.Title
	if t, ok := typ.Titles[d.Locale]; ok {
		w.Event.Title = t
	}
	if acc.Event.Object == "" {
		return nil
	}
	view, err := x.Stages.Directory.At(ctx, tenant, 0)
	if err != nil {
		return err
	}
	objects, err := view.Objects([]string{acc.Event.Object})
	if o, ok := objects[acc.Event.Object]; ok {
		w.Event.ObjectTitle, w.Event.URL = o.Title, o.URL
	}
	return err
}

func (x *Explainer) whySubscription(ctx context.Context, tenant string, d *belfry.Delivery, w *belfry.Why) (mandatory bool, err error) {
	if d.Subscription == "" {
		return false, nil
	}
	w.Subscription.ID = d.Subscription
	sub, reason, err := x.Stages.Subscriptions.Standing(ctx, tenant, d.Subscription)
	if err != nil {
		return false, err
	}
	if sub == nil {
		w.Subscription.Gone = &belfry.ViewReasons([]belfry.Reason{*reason})[0]
		return false, nil
	}
	w.Subscription.Title = sub.Title
	return sub.Mandatory, nil
}

func (x *Explainer) whyLabel(ctx context.Context, tenant string, d *belfry.Delivery, w *belfry.Why) error {
	view, err := x.Stages.Directory.At(ctx, tenant, 0)
	if err != nil {
		return err
	}
	person, err := view.Person(d.Principal)
	if err != nil || person == nil {
		return err
	}
	for _, c := range person.User.Contacts {
		if c.Address == d.Address || belfry.NormaliseEmail(c.Address) == d.Address {
			w.Contact.Label = c.Label
		}
	}
	return nil
}

// changes are what she can do about it: by what named her and what decided.
func (x *Explainer) changes(d *belfry.Delivery, w *belfry.Why, named, decided []belfry.Reason, mandatory bool) (out []belfry.WhyChange) {
	out = []belfry.WhyChange{}
	if d.Channel == belfry.ChannelWebhook {
		return out // whoever set the endpoint up decides
	}
	for _, r := range decided {
		switch r.Code {
		case belfry.ByMandatory:
			mandatory = true
		case belfry.ByForced:
			out = append(out, belfry.WhyChange{Code: belfry.ChangeForced, Type: w.Event.Type})
		}
	}
	if mandatory {
		out = append(out, belfry.WhyChange{Code: belfry.ChangeMandatory})
	}
	if w.Subscription.ID != "" && w.Subscription.Gone == nil && x.Links != nil {
		code := belfry.ChangeUnsubscribe
		if slices.ContainsFunc(named, func(r belfry.Reason) bool { return r.Code == belfry.NamedMember && r.Subscription == d.Subscription }) {
			code = belfry.ChangeLeave
		}
		if url := x.Links.Unsubscribe(d.Tenant, d.Subscription, d.Principal, d.Address); url != "" {
			out = append(out, belfry.WhyChange{Code: code, URL: url})
		}
	}
	if d.Principal == "" || mandatory {
		return out
	}
	for _, r := range decided {
		switch r.Code {
		case belfry.ByPreference, belfry.Muted, belfry.LevelIsNone, belfry.NotAboutThem:
			typ, _, _ := strings.Cut(strings.TrimPrefix(r.Detail, "for "), ",")
			if !strings.HasPrefix(r.Detail, "for ") {
				typ = ""
			}
			return append(out, belfry.WhyChange{Code: belfry.ChangePreference, Type: typ, Object: r.Object})
		}
	}
	return append(out, belfry.WhyChange{Code: belfry.ChangePrefer, Type: w.Event.Type, Object: w.Event.Object})
}
