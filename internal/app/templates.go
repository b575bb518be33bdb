package app

import (
	"context"
	"encoding/json"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// templates compiles tenants' templates, once a version.
type templates struct {
	store interface {
		Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
	}
	cache *lru.Cache[templateKey, *render.Template]
}

type templateKey struct{ tenant, name string }

func newTemplates(store interface {
	Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
}) *templates {
	cache, _ := lru.New[templateKey, *render.Template](512) // the size is positive, which is all New checks
	return &templates{store: store, cache: cache}
}

// Template finds a template. One that was deleted since is replaced by the
// built-in one: a message is never lost for its words.
func (t *templates) Template(ctx context.Context, tenant, name string) (*render.Template, error) {
	if name == "" {
		return render.Default(), nil
	}
	key := templateKey{tenant, name}
	if c, ok := t.cache.Get(key); ok {
		return c, nil
	}
	doc, found, err := t.store.Document(ctx, tenant, belfry.KindTemplate, name)
	if err != nil {
		return nil, err
	}
	if !found {
		return render.Default(), nil
	}
	var stored belfry.Template
	if err := json.Unmarshal(doc.Body, &stored); err != nil {
		return nil, fmt.Errorf("template %s is stored in a form this version does not read: %w", name, err)
	}
	c, err := render.Compile(stored.Subject, stored.Body)
	if err != nil {
		return nil, err
	}
	t.cache.Add(key, c)
	return c, nil
}

func (t *templates) forget(tenant, name string) { t.cache.Remove(templateKey{tenant, name}) }
