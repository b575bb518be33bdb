package app

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/web/api"
	"github.com/belfryhq/belfry/internal/words"
)

// inboxes serves inboxes: rows of the store, rendered at reading.
type inboxes struct {
	watch     *pipeline.Watch
	db        *store.DB
	facts     *pipeline.Facts
	subs      *pipeline.Subscriptions
	templates *templates
}

// Items is a page of an inbox.
func (b *inboxes) Items(ctx context.Context, tenant, principal string, q api.InboxQuery) (api.InboxPage, error) {
	rows, unread, next, err := b.db.Inbox(ctx, tenant, principal, store.InboxFilter{Before: q.Before, Limit: q.Limit, Unread: q.Unread, Archived: q.Archived})
	if err != nil {
		return api.InboxPage{}, err
	}
	out := api.InboxPage{Items: make([]api.InboxItem, 0, len(rows)), Unread: unread, Next: next}
	ids := make([]string, 0, len(rows))
	for i := range rows {
		ids = append(ids, rows[i].EventID)
	}
	events, err := b.db.Events(ctx, tenant, ids)
	if err != nil {
		return out, err
	}
	reader, err := b.facts.Person(ctx, tenant, principal)
	if err != nil {
		return out, err
	}
	for i := range rows {
		acc := events[rows[i].EventID]
		if acc == nil {
			continue // its event was pruned between the two reads
		}
		item, err := b.item(ctx, tenant, &rows[i], acc, reader)
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func (b *inboxes) item(ctx context.Context, tenant string, row *store.InboxRow, acc *belfry.Accepted, reader *belfry.Person) (api.InboxItem, error) {
	sub, _, err := b.subs.Standing(ctx, tenant, row.Subscription)
	if err != nil {
		return api.InboxItem{}, err
	}
	facts, err := b.facts.Item(ctx, tenant, acc, sub, row.Because, reader)
	if err != nil {
		return api.InboxItem{}, err
	}
	wanted := pipeline.Wanted{Subscription: sub, Template: row.Template, Channel: belfry.ChannelInbox, Now: acc.At}
	if reader != nil {
		wanted.Reader = &reader.User
	}
	t, _, drop, err := b.facts.Wording(ctx, b.templates, tenant, &wanted, &facts)
	if err == nil && drop != nil { // it had a message when it came, and is there
		wanted.Subscription = nil
		t, _, _, err = b.facts.Wording(ctx, b.templates, tenant, &wanted, &facts)
	}
	if err != nil {
		return api.InboxItem{}, err
	}
	entry := t.Inbox(facts)
	item := api.InboxItem{
		ID: row.ID, Event: row.EventID, Type: acc.Event.Type, Object: acc.Event.Object, Subscription: row.Subscription,
		Title: entry.Title, Text: entry.Text, HTML: entry.HTML, URL: entry.URL,
		Read: row.Read, Archived: row.Archived, Created: acc.At,
	}
	if sub != nil && sub.Acknowledge != nil {
		item.Acknowledge = true
		if item.Acknowledged, err = b.db.Acknowledged(ctx, tenant, row.EventID, row.Principal); err != nil {
			return item, err
		}
	}
	if len(row.Because) > 0 {
		item.Reason = belfry.ReasonView{Reason: row.Because[0], Text: words.For(facts.Locale, facts.Fallback).Reason(row.Because[0])}
	}
	if !row.SnoozedUntil.IsZero() {
		item.SnoozedUntil = &row.SnoozedUntil
	}
	return item, nil
}

// Mark marks entries and wakes whoever looks at the inbox.
func (b *inboxes) Mark(ctx context.Context, tenant, principal string, ids []string, mark api.InboxMark) (int, error) {
	yes, no := true, false
	set := map[api.InboxMark]store.InboxMark{
		api.MarkRead: {Read: &yes}, api.MarkUnread: {Read: &no},
		api.MarkArchive: {Archived: &yes}, api.MarkUnarchive: {Archived: &no},
	}[mark]
	n, err := b.db.MarkInbox(ctx, tenant, principal, ids, set)
	if err == nil && n > 0 {
		b.watch.Wake(tenant, principal)
	}
	return n, err
}

// Watch wakes whoever looks at an inbox.
func (b *inboxes) Watch(tenant, principal string) (<-chan struct{}, func()) {
	return b.watch.Watch(tenant, principal)
}
