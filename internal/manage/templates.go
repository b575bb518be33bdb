package manage

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// Templates lists templates by name and then object, all of them, or those at
// one object. after is belfry.TemplateKey of the last one seen.
func (m *Manager) Templates(ctx context.Context, tenant, object, after string, limit int) ([]belfry.Template, string, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	out := []belfry.Template{}
	for range maxListPages {
		docs, next, err := m.page(ctx, tenant, belfry.KindTemplate, after, limit)
		if err != nil {
			return nil, "", err
		}
		for _, d := range docs {
			if _, at := belfry.SplitTemplateKey(d.ID); object != "" && at != object {
				continue
			}
			if len(out) == limit {
				last := out[limit-1]
				return out, belfry.TemplateKey(last.Name, last.Object), nil
			}
			var t belfry.Template
			if err := decodeDocument(d, "template", &t); err != nil {
				return nil, "", err
			}
			out = append(out, t)
		}
		if next == "" || object == "" {
			return out, next, nil
		}
		after = next
	}
	return out, after, nil // a long way without a hit: the caller goes on from here
}

// Template is one of them; object is empty for one that holds everywhere.
func (m *Manager) Template(ctx context.Context, tenant, name, object string) (belfry.Template, int64, error) {
	var t belfry.Template
	version, err := m.readDocument(ctx, tenant, belfry.KindTemplate, belfry.TemplateKey(name, atObject(object)), "template", &t)
	return t, version, err
}

// atObject is the object of a template's key: what is at the root is everywhere.
func atObject(object string) string {
	if object == belfry.RootObject {
		return ""
	}
	return object
}

// PutTemplate stores a template all of whose wordings compile.
func (m *Manager) PutTemplate(ctx context.Context, by By, t belfry.Template, match Expect) (stored belfry.Template, version int64, created bool, err error) {
	f := &faults{}
	f.name("/name", t.Name)
	f.line("/title", t.Title, maxName)
	t.Object = atObject(t.Object)
	f.line("/object", t.Object, maxID)
	wordings(f, "/locales", t.Locales)
	for name, c := range t.Channels {
		p := "/channels/" + escape(name)
		if !m.channels.Known(by.Tenant, name) {
			f.add(p, "there is no channel %q", name)
		}
		wordings(f, p+"/locales", c.Locales)
	}
	if err := f.err(); err != nil {
		return t, 0, false, err
	}
	if t.Object != "" {
		objects, err := m.store.Objects(ctx, by.Tenant, []string{t.Object})
		if err != nil {
			return t, 0, false, err
		}
		if o, ok := objects[t.Object]; !ok || o.Deleted != nil {
			return t, 0, false, notFound("object", t.Object)
		}
	}
	if _, err := render.CompileSet(&t); err != nil {
		return t, 0, false, err
	}
	version, created, err = m.putDocument(ctx, by, "template.put", belfry.KindTemplate, belfry.TemplateKey(t.Name, t.Object), t, match)
	return t, version, created, err
}

func wordings(f *faults, p string, of map[string]belfry.Words) {
	for locale := range of {
		if locale == "" {
			f.add(p, "has an empty language: words without one are subject and body themselves")
		}
		f.locale(p+"/"+escape(locale), locale)
	}
}

// DeleteTemplate drops a template; what names it uses the next farther one, at
// last the built-in.
func (m *Manager) DeleteTemplate(ctx context.Context, by By, name, object string, match Expect) error {
	return m.dropDocument(ctx, by, "template.delete", belfry.KindTemplate, belfry.TemplateKey(name, atObject(object)), "template", match)
}
