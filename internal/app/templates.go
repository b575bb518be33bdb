package app

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/web/api"
)

// templates finds and compiles tenants' templates. Which there are is kept for
// each tenant, so that looking for one at every object above an event costs no
// read; the compiled forms are kept as far as there is room.
type templates struct {
	store templateStore

	mu     sync.Mutex
	edits  int                                     // what was read before an edit is not kept
	books  *lru.Cache[string, map[string][]string] // tenant -> name -> objects it holds at; "" = everywhere
	parsed *lru.Cache[templateKey, *render.Set]
	own    *lru.Cache[belfry.Words, *render.Template]
}

type templateKey struct{ tenant, key string }

type templateStore interface {
	Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
}

func newTemplates(store templateStore) *templates {
	books, _ := lru.New[string, map[string][]string](1024) // the sizes are positive, which is all New checks
	parsed, _ := lru.New[templateKey, *render.Set](1024)
	own, _ := lru.New[belfry.Words, *render.Template](256)
	return &templates{store: store, books: books, parsed: parsed, own: own}
}

// Template is the closest template of the first of the names that there is, for
// an event whose object and those above it are objects. Where there is none, or
// it was deleted since, the built-in one holds: a message is never lost for its
// words.
func (t *templates) Template(ctx context.Context, tenant string, names []string, objects []belfry.Object) (*render.Set, error) {
	book, err := t.book(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		key, found := nearest(name, book[name], objects)
		if !found {
			continue
		}
		set, err := t.set(ctx, tenant, key)
		if err != nil || set != nil {
			return set, err
		}
	}
	return &render.Set{}, nil
}

// nearest is the key of the closest template of a name.
func nearest(name string, at []string, objects []belfry.Object) (key string, found bool) {
	if len(at) == 0 {
		return "", false
	}
	here := make(map[string]bool, len(at))
	for _, object := range at {
		here[object] = true
	}
	for i := range objects {
		if id := objects[i].ID; here[id] {
			return belfry.TemplateKey(name, id), true
		}
	}
	return name, here[""]
}

// bookPage is how many templates one read takes.
const bookPage = 500

// book says which templates a tenant has.
func (t *templates) book(ctx context.Context, tenant string) (map[string][]string, error) {
	t.mu.Lock()
	book, ok := t.books.Get(tenant)
	edits := t.edits
	t.mu.Unlock()
	if ok {
		return book, nil
	}
	book = map[string][]string{}
	for after, more := "", true; more; {
		docs, err := t.store.Documents(ctx, tenant, belfry.KindTemplate, after, bookPage)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			name, object := belfry.SplitTemplateKey(d.ID)
			book[name] = append(book[name], object)
			after = d.ID
		}
		more = len(docs) == bookPage
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.edits == edits {
		t.books.Add(tenant, book)
	}
	return book, nil
}

// Own is the template of words that a notification brings itself.
func (t *templates) Own(words belfry.Words) (*render.Template, error) {
	if own, ok := t.own.Get(words); ok {
		return own, nil
	}
	own, err := render.Compile(words.Subject, words.Body)
	if err == nil {
		t.own.Add(words, own)
	}
	return own, err
}

// set is a compiled template; nil when it is not there any more.
func (t *templates) set(ctx context.Context, tenant, key string) (*render.Set, error) {
	k := templateKey{tenant, key}
	if set, ok := t.parsed.Get(k); ok {
		return set, nil
	}
	t.mu.Lock()
	edits := t.edits
	t.mu.Unlock()
	doc, found, err := t.store.Document(ctx, tenant, belfry.KindTemplate, key)
	if err != nil || !found {
		return nil, err
	}
	var stored belfry.Template
	if err := json.Unmarshal(doc.Body, &stored); err != nil {
		return nil, fmt.Errorf("template %s is stored in a form this version does not read: %w", key, err)
	}
	set, err := render.CompileSet(&stored)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.edits == edits {
		t.parsed.Add(k, set)
	}
	return set, nil
}

// forget drops what is known of a template that was edited; of all of a tenant
// with an empty key.
func (t *templates) forget(tenant, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.edits++
	t.books.Remove(tenant)
	if key != "" {
		t.parsed.Remove(templateKey{tenant, key})
		return
	}
	for _, k := range t.parsed.Keys() {
		if k.tenant == tenant {
			t.parsed.Remove(k)
		}
	}
}

// previews renders drafts of templates, and those that are stored.
type previews struct {
	facts     *pipeline.Facts
	templates *templates
}

// Preview renders a draft, or a stored template, for an event and a reader.
func (p previews) Preview(ctx context.Context, tenant string, d *api.PreviewDraft, acc *belfry.Accepted) (api.Preview, error) {
	reader, err := p.facts.Person(ctx, tenant, d.Recipient)
	if err != nil {
		return api.Preview{}, err
	}
	if d.Recipient != "" && reader == nil {
		return api.Preview{}, belfry.Faults([]belfry.Field{{Pointer: "/recipient", Message: "there is no such user"}})
	}
	item, err := p.facts.Item(ctx, tenant, acc, nil, nil, reader)
	if err != nil {
		return api.Preview{}, err
	}
	if d.Locale != "" {
		item.Locale = d.Locale
	}
	var t *render.Template
	if d.Template != "" {
		if t, _, _, err = p.facts.Wording(ctx, p.templates, tenant, &pipeline.Wanted{Template: d.Template, Channel: d.Channel}, &item); err != nil {
			return api.Preview{}, err
		}
	} else {
		set, err := render.CompileSet(&belfry.Template{Words: belfry.Words{Subject: d.Subject, Body: d.Body}, Locales: d.Locales, Channels: d.Channels})
		if err != nil {
			return api.Preview{}, err
		}
		t = set.For(d.Channel, item.Locale, item.Fallback)
	}
	e := t.Inbox(item)
	out := api.Preview{Title: e.Title, Text: e.Text, HTML: e.HTML}
	if d.Channel != "" && d.Channel != belfry.ChannelInbox {
		m := t.Mail(item, render.Links{})
		out.Mail = &api.PreviewMail{Subject: m.Subject, Text: m.Text, HTML: m.HTML}
	}
	return out, nil
}
