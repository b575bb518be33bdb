package manage

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// LifeStore reads what edits of deliveries and jobs are checked against.
type LifeStore interface {
	Delivery(ctx context.Context, tenant, id string) (belfry.Delivery, bool, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	Bundles(ctx context.Context, tenant string, ids []string) (map[string]belfry.Bundle, error)
	Job(ctx context.Context, tenant, id string) (belfry.Job, bool, error)
}

// Senders are those who hold deliveries in memory.
type Senders interface {
	// Revoke takes cancelled deliveries out of memory and says of each whether
	// it is being sent at this moment.
	Revoke(tenant string, ids []string) (inFlight []bool)
	// Cancelled is Revoke after an edit that told nobody yet.
	Cancelled(tenant string, ids []string)
	// Retried says that a delivery to a destination is due from a time on.
	Retried(tenant, destination string, due time.Time)
	// Ordered says that there is a job to be done.
	Ordered()
	// Gathered says that a digest is due from a time on.
	Gathered(tenant string, due time.Time)
}

// noSenders is a server that sends nothing.
type noSenders struct{}

func (noSenders) Revoke(_ string, ids []string) []bool { return make([]bool, len(ids)) }
func (noSenders) Cancelled(string, []string)           {}
func (noSenders) Retried(_, _ string, _ time.Time)     {}
func (noSenders) Ordered()                             {}
func (noSenders) Gathered(string, time.Time)           {}

// What became of a cancel.
const (
	// Cancelled: nothing is sent any more.
	Cancelled = "cancelled"
	// InFlight: a send is under way and may still arrive; no other follows.
	InFlight = "in_flight"
)

func (m *Manager) delivery(ctx context.Context, tenant, id string) (belfry.Delivery, error) {
	d, ok, err := m.store.Delivery(ctx, tenant, id)
	if err == nil && !ok {
		err = notFound("delivery", clipID(id))
	}
	return d, err
}

func clipID(id string) string {
	if len(id) > 64 {
		return strings.ToValidUTF8(id[:64], "") + "…"
	}
	return id
}

// RetryDelivery makes a delivery due now; its schedule of retries starts over.
// One that was delivered goes again only with resend, under its own id.
func (m *Manager) RetryDelivery(ctx context.Context, by By, id string, resend bool) (belfry.Delivery, error) {
	d, err := m.delivery(ctx, by.Tenant, id)
	switch {
	case err != nil:
		return d, err
	case d.Channel == belfry.ChannelInbox:
		return d, belfry.Errorf(belfry.Conflict, "an inbox entry is there already: there is nothing to send")
	case d.State == belfry.Held:
		return d, belfry.Errorf(belfry.Conflict, "the delivery waits for a decision: it is sent when that is made")
	case d.State == belfry.Delivered && !resend:
		return d, belfry.Errorf(belfry.Conflict, "the delivery succeeded: say resend to send it again, under the same id")
	}
	due := m.now()
	ch := m.change(by, "delivery.retry", id)
	ch.Audit[0].Detail = "was " + d.State.String()
	ch.Retries = []belfry.DeliveryRetry{{ID: id, Due: due, Resend: resend}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return d, err
	}
	m.senders.Retried(by.Tenant, d.Destination, due)
	return m.delivery(ctx, by.Tenant, id)
}

// SendDigest makes a digest that gathers go out now, with what it has, past
// throttles and daily limits, of which it takes its part. Quiet hours hold it.
func (m *Manager) SendDigest(ctx context.Context, by By, id string) error {
	list, err := m.store.Bundles(ctx, by.Tenant, []string{id})
	if err != nil {
		return err
	}
	b, known := list[id]
	switch {
	case !known:
		return notFound("digest", clipID(id))
	case b.State != belfry.BundleOpen:
		return belfry.Errorf(belfry.Conflict, "the digest is %s: it is a delivery, which can be retried", b.State)
	}
	due := m.now()
	ch := m.change(by, "digest.send", id)
	ch.SendDigests = []belfry.DigestSend{{ID: id, Due: due, Because: belfry.Reason{Code: belfry.SentNow, Detail: byWhom(by, "")}}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return err
	}
	m.senders.Gathered(by.Tenant, due)
	return nil
}

// CancelDelivery ends an open delivery for good, and says whether it is being
// sent at this moment. Cancelling again changes nothing.
func (m *Manager) CancelDelivery(ctx context.Context, by By, id, because string) (string, error) {
	f := &faults{}
	f.line("/because", because, maxName)
	if err := f.err(); err != nil {
		return "", err
	}
	d, err := m.delivery(ctx, by.Tenant, id)
	switch {
	case err != nil:
		return "", err
	case d.State == belfry.Cancelled:
		return m.revoked(by.Tenant, id), nil
	case !d.State.Open():
		return "", belfry.Errorf(belfry.Conflict, "the delivery is %s: there is nothing left to cancel", d.State)
	}
	ch := m.change(by, "delivery.cancel", id)
	ch.Audit[0].Detail = because
	ch.Cancels = []belfry.DeliveryCancel{{ID: id, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: byWhom(by, because)}}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		if belfry.KindOf(err) == belfry.Conflict { // it ended meanwhile, perhaps by another cancel
			if d, readErr := m.delivery(ctx, by.Tenant, id); readErr == nil && d.State == belfry.Cancelled {
				return m.revoked(by.Tenant, id), nil
			}
		}
		return "", err
	}
	return m.revoked(by.Tenant, id), nil
}

func (m *Manager) revoked(tenant, id string) string {
	if m.senders.Revoke(tenant, []string{id})[0] {
		return InFlight
	}
	return Cancelled
}

func byWhom(by By, because string) string {
	if because = strings.TrimSpace(because); because != "" {
		return "by " + by.Who + ": " + because
	}
	return "by " + by.Who
}

// order stores a job and says that it is there.
func (m *Manager) order(ctx context.Context, by By, kind, target string, params any) (belfry.Job, error) {
	text, err := json.Marshal(params)
	if err != nil {
		return belfry.Job{}, err
	}
	now := m.now()
	j := belfry.Job{Tenant: by.Tenant, ID: belfry.NewID(belfry.JobPrefix, now), Kind: kind, Params: text, Who: by.Who, Created: now, Updated: now}
	ch := m.change(by, kind, target)
	ch.Audit[0].Detail = j.ID
	ch.Jobs = []belfry.Job{j}
	if j.Run, err = m.store.Apply(ctx, ch); err != nil {
		return j, err
	}
	m.senders.Ordered()
	return j, nil
}

// selection checks what bulk work on deliveries is for, and names it for the
// audit.
func (m *Manager) selection(f *faults, s *belfry.DeliverySelect) (target string) {
	var words []string
	for _, part := range []struct {
		name, value string
	}{{"recipient", s.Recipient}, {"event", s.Event}, {"channel", s.Channel}, {"endpoint", s.Endpoint}, {"subscription", s.Subscription}} {
		if f.line("/"+part.name, part.value, maxID) && part.value != "" {
			words = append(words, part.name+" "+part.value)
		}
	}
	return m.span(f, words, s.Since, s.Until)
}

func (m *Manager) span(f *faults, words []string, since, until time.Time) string {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		f.add("/until", "must be after since")
	}
	for _, part := range []struct {
		name string
		at   time.Time
	}{{"since", since}, {"until", until}} {
		if part.at.IsZero() {
			continue
		}
		if y := part.at.Year(); y < 1970 || y > 9999 {
			f.add("/"+part.name, "must be from 1970 to 9999")
		}
		words = append(words, part.name+" "+part.at.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, ", ")
}

// retryable are the states bulk retries are for.
var retryable = []belfry.State{belfry.Failed, belfry.Suppressed, belfry.Cancelled, belfry.Retrying, belfry.Scheduled, belfry.Delivered}

// RetryDeliveries orders that all deliveries of a state that are chosen (failed
// ones when none is named) are made due again.
func (m *Manager) RetryDeliveries(ctx context.Context, by By, s belfry.DeliverySelect, resend bool) (belfry.Job, error) {
	if s.State == nil {
		failed := belfry.Failed
		s.State = &failed
	}
	f := &faults{}
	target := m.selection(f, &s)
	switch {
	case !slices.Contains(retryable, *s.State):
		f.add("/state", "must not be %s: those wait for a decision", *s.State)
	case *s.State == belfry.Delivered && !resend:
		f.add("/resend", "must be true to send again what was delivered")
	}
	if err := f.err(); err != nil {
		return belfry.Job{}, err
	}
	target = strings.TrimSuffix(s.State.String()+" ones, "+target, ", ")
	return m.order(ctx, by, belfry.RetryJob, target, map[string]any{"select": s})
}

// CancelDeliveries orders that all open deliveries that are chosen end. It must
// choose something: a forgotten filter must not end everything.
func (m *Manager) CancelDeliveries(ctx context.Context, by By, s belfry.DeliverySelect, because string) (belfry.Job, error) {
	f := &faults{}
	f.line("/because", because, maxName)
	target := m.selection(f, &s)
	if target == "" {
		f.add("", "say which: by event, recipient, channel, endpoint, subscription, since or until")
	}
	if s.State != nil && !s.State.Open() {
		f.add("/state", "must not be %s: those are over", *s.State)
	}
	if err := f.err(); err != nil {
		return belfry.Job{}, err
	}
	return m.order(ctx, by, belfry.CancelJob, target, map[string]any{"select": s, "because": byWhom(by, because)})
}

// ReplayEvents orders that events are planned anew, with today's subscriptions
// and people.
func (m *Manager) ReplayEvents(ctx context.Context, by By, s belfry.EventSelect, terms belfry.Replay) (belfry.Job, error) {
	f := &faults{}
	var words []string
	for _, part := range []struct {
		name, value string
		most        int
	}{{"event", s.Event, 64}, {"type", s.Type, maxType}, {"object", s.Object, maxID}, {"recipient", terms.Recipient, maxID}, {"endpoint", terms.Endpoint, 64}} {
		if f.line("/"+part.name, part.value, part.most) && part.value != "" {
			words = append(words, part.name+" "+part.value)
		}
	}
	if s.Type != "" {
		f.pattern("/type", s.Type)
	}
	if s.Event == "" && s.Since.IsZero() {
		f.add("", "say which events: one by event, or those accepted since a time")
	}
	if terms.Recipient != "" && terms.Endpoint != "" {
		f.add("/endpoint", "goes without recipient: replay to one of them at a time")
	}
	target := m.span(f, words, s.Since, s.Until)
	if err := f.err(); err != nil {
		return belfry.Job{}, err
	}
	if s.Event != "" {
		events, err := m.store.Events(ctx, by.Tenant, []string{s.Event})
		if err != nil {
			return belfry.Job{}, err
		}
		if events[s.Event] == nil {
			f.add("/event", "there is no event %q", s.Event)
		}
	}
	if terms.Endpoint != "" {
		if _, err := m.Endpoint(ctx, by.Tenant, terms.Endpoint); belfry.KindOf(err) == belfry.NotFound {
			f.add("/endpoint", "there is no endpoint %q", terms.Endpoint)
		} else if err != nil {
			return belfry.Job{}, err
		}
	}
	if err := f.err(); err != nil {
		return belfry.Job{}, err
	}
	if terms.Recipient != "" && strings.Contains(terms.Recipient, "@") {
		// The way bare addresses are kept; a user's id with a @ stays as it is.
		people, err := m.store.Persons(ctx, by.Tenant, []string{terms.Recipient})
		if err != nil {
			return belfry.Job{}, err
		}
		if people[terms.Recipient] == nil {
			terms.Recipient = belfry.NormaliseEmail(terms.Recipient)
		}
	}
	return m.order(ctx, by, belfry.ReplayJob, target, map[string]any{"select": s, "terms": terms})
}

// Job is one job.
func (m *Manager) Job(ctx context.Context, tenant, id string) (belfry.Job, error) {
	j, ok, err := m.store.Job(ctx, tenant, id)
	if err == nil && !ok {
		err = notFound("job", clipID(id))
	}
	return j, err
}

// CancelJob ends a job; what it did stays done. Cancelling again changes nothing.
func (m *Manager) CancelJob(ctx context.Context, by By, id string) (belfry.Job, error) {
	j, err := m.Job(ctx, by.Tenant, id)
	if err != nil || j.State == belfry.JobCancelled {
		return j, err
	}
	if !j.State.Open() {
		return j, belfry.Errorf(belfry.Conflict, "the job is %s: there is nothing left to cancel", j.State)
	}
	ch := m.change(by, "job.cancel", id)
	ch.CancelJobs = []belfry.JobCancel{{ID: id, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: "cancelled by " + by.Who}}}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return j, err
	}
	return m.Job(ctx, by.Tenant, id)
}

// TenantSettings are what is set for the whole tenant, with their version; 0
// while nothing was ever set.
func (m *Manager) TenantSettings(ctx context.Context, tenant string) (belfry.TenantSettings, int64, error) {
	doc, ok, err := m.store.Document(ctx, tenant, belfry.KindSetting, belfry.TenantSettingsID)
	if err != nil || !ok {
		return belfry.TenantSettings{Webhooks: belfry.On}, 0, err
	}
	s, err := belfry.DecodeTenantSettings(doc)
	if err != nil {
		return belfry.TenantSettings{}, 0, err
	}
	return *s, doc.Version, nil
}

// PutTenantSettings sets them; what is not given is reset.
func (m *Manager) PutTenantSettings(ctx context.Context, by By, s belfry.TenantSettings, match Expect) (belfry.TenantSettings, int64, error) {
	f := &faults{}
	if s.Webhooks == "" {
		s.Webhooks = belfry.On
	}
	f.choice("/webhooks", s.Webhooks, belfry.On, belfry.Off)
	f.line("/because", s.Because, maxName)
	m.checkChannels(f, by.Tenant, "/channels", s.Channels)
	m.checkChannels(f, by.Tenant, "/fallback", s.Fallback)
	m.perDay(f, by.Tenant, s.MaxPerDay)
	f.frequency("/frequency", s.Frequency)
	f.sender("/sender", s.Sender)
	f.line("/name", s.Name, maxName)
	f.url("/url", s.URL)
	f.locale("/locale", s.Locale)
	if err := m.checkAuthoriser(ctx, f, by.Tenant, s.Authoriser); err != nil {
		return s, 0, err
	}
	if err := f.err(); err != nil {
		return s, 0, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return s, 0, err
	}
	ch := m.change(by, "settings.put", belfry.TenantSettingsID)
	ch.Audit[0].Detail = strings.TrimSuffix("webhooks "+s.Webhooks+", "+s.Because, ", ")
	ch.Documents = []belfry.Document{{Kind: belfry.KindSetting, ID: belfry.TenantSettingsID, Body: body}}
	version, err := m.apply(ctx, ch, belfry.KindSetting, belfry.TenantSettingsID, match)
	return s, version, err
}
