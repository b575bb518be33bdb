package pipeline

import (
	"context"
	"fmt"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// Templates finds the closest template of the first of the names that there is,
// at the objects (an event's own first, the root last); without any, an empty
// set, which says what is built in.
type Templates interface {
	Template(ctx context.Context, tenant string, names []string, objects []belfry.Object) (*render.Set, error)
}

// Wording is the template for one reader of an item on a channel: the one that
// is named, else the one of the event's type, else the tenant's default, else
// what is built in; in the reader's language, or what comes closest to it.
func (f *Facts) Wording(ctx context.Context, templates Templates, tenant, named, channel string, item *render.Item) (*render.Template, error) {
	typ, _, err := f.Directory.EventType(ctx, tenant, item.Event.Type)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, 3)
	for _, name := range []string{named, typ.Template, belfry.DefaultTemplate} {
		if name != "" {
			names = append(names, name)
		}
	}
	set, err := templates.Template(ctx, tenant, names, item.Path)
	if err != nil {
		return nil, fmt.Errorf("template %q: %w", names[0], err)
	}
	return set.For(channel, item.Locale, item.Fallback), nil
}
