package manage

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Notices carries out what notifications by hand need of the pipeline.
type Notices interface {
	// Reach says whom a subscription would tell of an event.
	Reach(ctx context.Context, tenant string, s *belfry.Subscription, e *belfry.Event) (belfry.Reach, error)
	// Publish hands an event in and gives its id; a repeat gives the first one's.
	Publish(ctx context.Context, tenant string, e belfry.Event) (string, error)
	// Progress counts what became of an event's messages.
	Progress(ctx context.Context, tenant, event string) (belfry.Progress, error)
}

// noNotices is a server that sends none.
type noNotices struct{}

var errNoNotices = belfry.Errorf(belfry.Unavailable, "this server sends nothing")

func (noNotices) Reach(context.Context, string, *belfry.Subscription, *belfry.Event) (belfry.Reach, error) {
	return belfry.Reach{}, errNoNotices
}
func (noNotices) Publish(context.Context, string, belfry.Event) (string, error) {
	return "", errNoNotices
}
func (noNotices) Progress(context.Context, string, string) (belfry.Progress, error) {
	return belfry.Progress{}, errNoNotices
}

// draft checks a notification and makes what it is carried out by.
func (m *Manager) draft(ctx context.Context, by By, n *belfry.Notification) (belfry.Subscription, belfry.Event, *facts, error) {
	now := m.now()
	n.ID, n.Who, n.Created = belfry.NewID(belfry.NotificationPrefix, now), by.Who, now
	n.Event, n.State, n.Progress = "", "", nil
	if n.Object == belfry.RootObject {
		n.Object = ""
	}
	s := belfry.Subscription{
		ID: belfry.NewID(belfry.SubscriptionPrefix, now), Title: reasonOr(n.Subject, "Notification"),
		Scope: belfry.Scope{Object: n.Object, Applies: belfry.AppliesSelf}, Types: []string{belfry.NotificationType},
		Filter: `event.data.notification == "` + n.ID + `"`, Recipients: n.Recipients,
		Notify:       []belfry.Notify{{Channels: n.Channels, Template: n.Template, Subject: n.Subject, Body: n.Body}},
		ExcludeActor: new(bool), Origin: belfry.FromBelfry, State: belfry.SubscriptionActive, Created: now,
	}
	if len(s.Title) > maxName {
		s.Title = "Notification"
	}
	n.Subscription = s.ID
	f := &faults{}
	if len(n.Recipients) == 0 {
		f.add("/recipients", "names nobody: give rules as subscriptions have them")
	}
	if n.Template == "" && n.Body == "" {
		f.add("/body", "is required: the message, or name a template")
	}
	if n.From != "" && f.line("/from", n.From, maxID) {
		people, err := m.store.Persons(ctx, by.Tenant, []string{n.From})
		if err != nil {
			return s, belfry.Event{}, nil, err
		}
		if people[n.From] == nil {
			f.add("/from", "there is no user %q", n.From)
		}
		s.Sender = &belfry.Sender{Actor: true}
	}
	if err := f.err(); err != nil {
		return s, belfry.Event{}, nil, err
	}
	known, err := m.checkSubscription(ctx, by.Tenant, &s)
	if err != nil {
		return s, belfry.Event{}, nil, here(err)
	}
	data, err := json.Marshal(map[string]string{"notification": n.ID, "subject": n.Subject})
	if err != nil {
		return s, belfry.Event{}, nil, err
	}
	return s, belfry.Event{ID: n.ID, Source: belfry.OwnSource, Type: belfry.NotificationType, Time: now, Object: n.Object, Actor: n.From, Data: data}, known, nil
}

// here moves faults of the subscription to where a notification has the fields.
func here(err error) error {
	var e *belfry.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	fields := make([]belfry.Field, len(e.Fields))
	for i, f := range e.Fields {
		f.Pointer = strings.TrimPrefix(f.Pointer, "/notify/0")
		if rest, ok := strings.CutPrefix(f.Pointer, "/scope"); ok {
			f.Pointer = rest
		}
		fields[i] = f
	}
	return belfry.Faults(fields)
}

// NotificationReach says whom a notification would tell and who is left out, and
// why. Nothing is stored or sent.
func (m *Manager) NotificationReach(ctx context.Context, by By, n belfry.Notification) (belfry.Reach, error) {
	s, e, _, err := m.draft(ctx, by, &n)
	if err != nil {
		return belfry.Reach{}, err
	}
	return m.notices.Reach(ctx, by.Tenant, &s, &e)
}

// Notify sends a notification: from now on its subscription wants its event, and
// then the event happens. When the second fails, resuming makes it good.
func (m *Manager) Notify(ctx context.Context, by By, n belfry.Notification) (belfry.Notification, error) {
	s, e, _, err := m.draft(ctx, by, &n)
	if err != nil {
		return n, err
	}
	body, err := json.Marshal(n)
	if err != nil {
		return n, err
	}
	ch := m.change(by, "notification.send", n.ID)
	ch.Audit[0].Detail = strings.TrimSpace(n.Object + " " + n.Subject)
	ch.Subscriptions = []belfry.Subscription{s}
	ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindSubscription, Key: s.ID}}
	ch.Documents = []belfry.Document{{Kind: belfry.KindNotification, ID: n.ID, Body: body}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return n, err
	}
	return m.happen(ctx, by, n, e)
}

// happen publishes the event of a notification, once, and keeps its id.
func (m *Manager) happen(ctx context.Context, by By, n belfry.Notification, e belfry.Event) (belfry.Notification, error) {
	var err error
	if n.Event, err = m.notices.Publish(ctx, by.Tenant, e); err != nil {
		return n, err
	}
	n.State, n.Progress = "", nil
	body, err := json.Marshal(n)
	if err != nil {
		return n, err
	}
	ch := m.change(by, "notification.event", n.ID)
	ch.Audit[0].Detail = n.Event
	ch.Documents = []belfry.Document{{Kind: belfry.KindNotification, ID: n.ID, Body: body}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return n, err
	}
	return m.Notification(ctx, by.Tenant, n.ID)
}

// Notification is one, with how far it is.
func (m *Manager) Notification(ctx context.Context, tenant, id string) (belfry.Notification, error) {
	var n belfry.Notification
	if _, err := m.readDocument(ctx, tenant, belfry.KindNotification, id, "notification", &n); err != nil {
		return n, err
	}
	s, ok, err := m.store.Subscription(ctx, tenant, n.Subscription)
	if err != nil {
		return n, err
	}
	p := belfry.Progress{}
	if n.Event != "" {
		if p, err = m.notices.Progress(ctx, tenant, n.Event); err != nil {
			return n, err
		}
		n.Progress = &p
	}
	switch {
	case !ok || s.State == belfry.SubscriptionEnded:
		n.State = belfry.NotificationCancelled
	case s.State == belfry.SubscriptionPaused:
		n.State = belfry.NotificationPaused
	case p.Planned && p.Open == 0:
		n.State = belfry.NotificationSent
	default:
		n.State = belfry.NotificationSending
	}
	return n, nil
}

// Notifications lists them in the order they were ordered, without how far they
// are.
func (m *Manager) Notifications(ctx context.Context, tenant, after string, limit int) ([]belfry.Notification, string, error) {
	return pageOf[belfry.Notification](ctx, m, tenant, belfry.KindNotification, "notification", after, limit)
}

// PauseNotification makes what was not sent yet wait.
func (m *Manager) PauseNotification(ctx context.Context, by By, id, because string) (belfry.Notification, error) {
	n, err := m.Notification(ctx, by.Tenant, id)
	if err != nil {
		return n, err
	}
	if _, err := m.PauseSubscription(ctx, by, n.Subscription, because); err != nil {
		return n, err
	}
	return m.Notification(ctx, by.Tenant, id)
}

// ResumeNotification sends what waits, and plans for those who were not reached
// while it was paused; nobody is told twice.
func (m *Manager) ResumeNotification(ctx context.Context, by By, id string) (belfry.Notification, error) {
	n, err := m.Notification(ctx, by.Tenant, id)
	if err != nil {
		return n, err
	}
	if _, err := m.ResumeSubscription(ctx, by, n.Subscription); err != nil {
		return n, err
	}
	if n.Event != "" {
		if _, err := m.ReplayEvents(ctx, by, belfry.EventSelect{Event: n.Event}, belfry.Replay{}); err != nil {
			return n, err
		}
		return m.Notification(ctx, by.Tenant, id)
	}
	data, err := json.Marshal(map[string]string{"notification": n.ID, "subject": n.Subject})
	if err != nil {
		return n, err
	}
	return m.happen(ctx, by, n, belfry.Event{ID: n.ID, Source: belfry.OwnSource, Type: belfry.NotificationType, Time: n.Created, Object: n.Object, Actor: n.From, Data: data})
}

// CancelNotification ends it: what is being sent at this moment may still
// arrive, nothing else does.
func (m *Manager) CancelNotification(ctx context.Context, by By, id string) (belfry.Notification, error) {
	n, err := m.Notification(ctx, by.Tenant, id)
	if err != nil {
		return n, err
	}
	if err := m.DeleteSubscription(ctx, by, n.Subscription, nil); err != nil {
		return n, err
	}
	return m.Notification(ctx, by.Tenant, id)
}
