package pipeline

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/render"
)

// Facts gathers what a message speaks of: names, titles, the way to the thing.
type Facts struct {
	Directory *directory.Directory
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
	people, err := view.Persons([]string{principal})
	if err != nil {
		return nil, err
	}
	return people[principal], nil
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
		if zone, err := time.LoadLocation(reader.User.TimeZone); err == nil && reader.User.TimeZone != "" {
			item.Zone = zone
		}
	}
	path, err := view.Ancestors(e.ObjectOrRoot())
	if err != nil {
		return item, err
	}
	item.Path = path
	if len(path) > 0 && path[0].ID != belfry.RootObject {
		item.Object = path[0]
	}
	if e.Actor != "" {
		people, err := view.Persons([]string{e.Actor})
		if err != nil {
			return item, err
		}
		if actor := people[e.Actor]; actor != nil {
			item.ActorName = actor.User.Name
		}
	}
	typ, _, err := f.Directory.EventType(ctx, tenant, e.Type)
	if err != nil {
		return item, err
	}
	item.TypeTitle = typ.Title
	if t, ok := typ.Titles[item.Locale]; ok {
		item.TypeTitle = t
	}
	return item, nil
}
