package manage

import (
	"context"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// AckStore reads what an acknowledgement is about.
type AckStore interface {
	// WasTold reports whether anything of an event went, or was to go, to
	// somebody.
	WasTold(ctx context.Context, tenant, eventID, who string) (bool, error)
	// OpenOf lists open deliveries of an event to a person or an address.
	OpenOf(ctx context.Context, tenant, who, eventID string, limit int) ([]string, error)
	InboxEvents(ctx context.Context, tenant, principal string, ids []string) (map[string]string, error)
}

// Bounds of escalations and acknowledgements.
const (
	maxSteps     = 20
	maxStepNames = 1000
	leastStep    = time.Second
	longestStep  = 90 * 24 * time.Hour
	openAtOnce   = 1000 // deliveries of an event to one person that are taken out of memory
)

// Acknowledge notes that somebody, a user or a bare address, has taken notice of
// an event: her inbox entries are read, what else was to be sent to her of it is
// cancelled, and nobody else is called. Whoever was not told is NotFound;
// repeating it changes nothing.
func (m *Manager) Acknowledge(ctx context.Context, by By, eventID, who, how string) error {
	told, err := m.store.WasTold(ctx, by.Tenant, eventID, who)
	if err != nil {
		return err
	}
	if !told {
		return belfry.Errorf(belfry.NotFound, "%q was not told of an event %q", clipped(who), clipID(eventID))
	}
	return m.acknowledge(ctx, by, who, how, []string{eventID})
}

func (m *Manager) acknowledge(ctx context.Context, by By, who, how string, events []string) error {
	// Those that open meanwhile are stopped before they are sent.
	var open []string
	ch := m.change(by, "event.acknowledge", who)
	_, ch.Audit[0].Detail = batchTarget(events, func(id *string) string { return *id })
	if len(events) == 1 {
		ch.Audit[0].Detail = events[0]
	}
	for _, id := range events {
		ids, err := m.store.OpenOf(ctx, by.Tenant, who, id, openAtOnce)
		if err != nil {
			return err
		}
		open = append(open, ids...)
		ch.Acknowledgements = append(ch.Acknowledgements, belfry.Acknowledgement{EventID: id, Who: who, At: m.now(), How: how})
	}
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return err
	}
	if len(open) > 0 {
		m.senders.Revoke(by.Tenant, open)
	}
	return nil
}

// AcknowledgeInbox is Acknowledge for entries of a user's inbox; those that are
// not there are passed over. It says how many events they were of.
func (m *Manager) AcknowledgeInbox(ctx context.Context, by By, user string, ids []string) (int, error) {
	entries, err := m.store.InboxEvents(ctx, by.Tenant, user, ids)
	if err != nil {
		return 0, err
	}
	var events []string
	for _, id := range ids {
		events = append(events, entries[id])
	}
	if events = distinct(events); len(events) == 0 {
		return 0, nil
	}
	return len(events), m.acknowledge(ctx, by, user, belfry.ByInbox, events)
}

// checkAcknowledge checks the escalation of a subscription.
func (m *Manager) checkAcknowledge(f *faults, tenant string, a *belfry.Acknowledge) {
	if a == nil {
		return
	}
	const at = "/acknowledge/escalate"
	if len(a.Escalate) > maxSteps {
		f.add(at, "has %d steps: at most %d are allowed", len(a.Escalate), maxSteps)
		return
	}
	for i := range a.Escalate {
		s := &a.Escalate[i]
		p := at + "/" + strconv.Itoa(i)
		f.span(p+"/after", s.After, leastStep, longestStep, "15m: so long after the step before")
		if len(s.Users)+len(s.Groups) > maxStepNames {
			f.add(p, "names %d users and groups: at most %d are allowed; name a group", len(s.Users)+len(s.Groups), maxStepNames)
			continue
		}
		for n, id := range s.Users {
			f.key(p+"/users/"+strconv.Itoa(n), id, maxID)
		}
		for n, id := range s.Groups {
			f.key(p+"/groups/"+strconv.Itoa(n), id, maxID)
		}
		m.checkChannels(f, tenant, p+"/channels", s.Channels)
	}
}
