package pipeline

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/render"
)

// Facts gathers what a message speaks of: names, titles, the way to the thing.
type Facts struct {
	Directory *directory.Directory
	Acks      Acks
	// Answer makes the address of the page that answers what an event asks of
	// its recipient; empty when it asks nothing. nil = none does.
	Answer func(tenant string, e *belfry.Event) string
}

// Person is what is known of a user now; nil when there is none.
func (f *Facts) Person(ctx context.Context, tenant, principal string) (*belfry.Person, error) {
	if principal == "" {
		return nil, nil
	}
	view, err := f.Directory.At(ctx, tenant, 0)
	if err != nil {
		return nil, err
	}
	return view.Person(principal)
}

// optOutPage is how many opt-outs are looked at once on the way to one.
const optOutPage = 64

// OptedOut reports whether whoever a delivery is for has opted out of its
// subscription since it was planned.
func (f *Facts) OptedOut(ctx context.Context, d *belfry.Delivery) (bool, error) {
	who := d.Principal
	if who == "" {
		who = d.Address
	}
	view, err := f.Directory.At(ctx, d.Tenant, 0)
	if err != nil {
		return false, err
	}
	_, last := utf8.DecodeLastRuneInString(who)
	after := who[:len(who)-last] // shorter, so before it
	for {
		list, err := view.OptOuts(d.Subscription, after, optOutPage)
		if err != nil || len(list) == 0 {
			return false, err
		}
		at, found := slices.BinarySearchFunc(list, who, func(o belfry.OptOut, who string) int { return strings.Compare(o.Who, who) })
		if found || at < len(list) || len(list) < optOutPage {
			return found, nil
		}
		after = list[len(list)-1].Who
	}
}

// Item gathers an event's facts for one reader (nil for a bare address).
func (f *Facts) Item(ctx context.Context, tenant string, acc *belfry.Accepted, sub *belfry.Subscription, because []belfry.Reason, reader *belfry.Person) (render.Item, error) {
	view, err := f.Directory.At(ctx, tenant, 0)
	if err != nil {
		return render.Item{}, err
	}
	e := acc.Event
	item := render.Item{Event: e, EventID: acc.EventID, Subscription: sub, Because: because}
	if reader != nil {
		item.RecipientName, item.Locale = reader.User.Name, reader.User.Locale
		item.Zone = reader.User.Zone()
	}
	settings, err := f.Directory.TenantSettings(ctx, tenant)
	if err != nil {
		return item, err
	}
	if settings != nil {
		item.Fallback, item.Site = settings.Locale, render.Site{Name: settings.Name, URL: settings.URL}
	}
	if f.Answer != nil {
		item.Link = f.Answer(tenant, e)
	}
	path, err := view.Ancestors(e.ObjectOrRoot())
	if err != nil {
		return item, err
	}
	item.Path = path
	if len(path) > 0 && path[0].ID != belfry.RootObject {
		item.Object = path[0]
	}
	if err := name(view, e, &item); err != nil {
		return item, err
	}
	typ, _, err := f.Directory.EventType(ctx, tenant, e.Type)
	if err != nil {
		return item, err
	}
	item.TypeTitle, item.Details, item.Content = typ.Title, typ.Details, typ.Content
	if t := titleIn(typ.Titles, item.Locale, item.Fallback); t != "" {
		item.TypeTitle = t
	}
	if e.FromConditions() && sub != nil && sub.Title != "" {
		item.TypeTitle = sub.Title // it says what was watched for
	}
	return item, nil
}

// titleIn is the title in the first of the languages, or what one falls back to
// (pt-BR, pt), that there is.
func titleIn(titles map[string]string, locales ...string) string {
	for _, tag := range locales {
		for ; tag != ""; tag = tag[:max(0, strings.LastIndexByte(tag, '-'))] {
			if t := titles[tag]; t != "" {
				return t
			}
		}
	}
	return ""
}

// named bounds the people an event is about whose names are looked up.
const named = 100

// name finds the names of who did it and of those it is about.
func name(view *directory.View, e *belfry.Event, item *render.Item) error {
	if e.Actor != "" {
		actor, err := view.Person(e.Actor)
		if err != nil {
			return err
		}
		if actor != nil {
			item.ActorName = actor.User.Name
		}
	}
	ids := e.Related[:min(len(e.Related), named)]
	if len(ids) == 0 {
		return nil
	}
	people, err := view.Persons(ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if p := people[id]; id != e.Actor && p != nil && p.User.Name != "" {
			item.About = append(item.About, p.User.Name)
		}
	}
	return nil
}
