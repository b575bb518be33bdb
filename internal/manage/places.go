package manage

import (
	"context"
	"strconv"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ObjectSettings say how subscriptions are looked up at an object, the root
// among them, and who is told there.
func (m *Manager) ObjectSettings(ctx context.Context, tenant, object string) (belfry.ObjectSettings, error) {
	if err := m.objectKnown(ctx, tenant, object); err != nil {
		return belfry.ObjectSettings{}, err
	}
	objects, err := m.store.Objects(ctx, tenant, []string{object})
	if err != nil {
		return belfry.ObjectSettings{}, err
	}
	if s := objects[object].Settings; s != nil {
		return *s, nil
	}
	return belfry.ObjectSettings{}, nil
}

// PutObjectSettings replaces them. They stay when the object is put again.
func (m *Manager) PutObjectSettings(ctx context.Context, by By, object string, s belfry.ObjectSettings) (belfry.ObjectSettings, error) {
	if err := m.objectKnown(ctx, by.Tenant, object); err != nil {
		return s, err
	}
	f := &faults{}
	if s.Lookup != "" {
		f.choice("/lookup", s.Lookup, belfry.LookupMerge, belfry.LookupNearest)
	}
	if len(s.Flags) > 3 {
		f.add("/flags", "has %d entries: there are three flags", len(s.Flags))
	} else {
		for i, flag := range s.Flags {
			f.choice("/flags/"+strconv.Itoa(i), flag, belfry.FlagLocalOnly, belfry.FlagNoLocal, belfry.FlagSilent)
		}
	}
	f.sender("/sender", s.Sender)
	if err := f.err(); err != nil {
		return s, err
	}
	s.Flags = distinct(s.Flags)
	ch := m.change(by, "object.settings", object)
	ch.Places = []belfry.Place{{Object: object, Settings: s}}
	_, err := m.store.Apply(ctx, ch)
	return s, err
}
