package app

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/web/api"
)

// acknowledgeFor is how long a link in a message works.
const acknowledgeFor = 30 * 24 * time.Hour

// notice is what an acknowledging link carries.
type notice struct {
	Tenant string `json:"t"`
	Event  string `json:"e"`
	holder
}

// Acknowledge is the page by which a recipient says that she has taken notice of
// an event.
func (l *links) Acknowledge(tenant, eventID, principal, address string) string {
	return l.link(acknowledgeLink, notice{tenant, eventID, holderOf(principal, address)}, l.now().Add(acknowledgeFor))
}

// notices serves those who follow such an address.
type notices struct {
	*links
	db     *store.DB
	facts  *pipeline.Facts
	manage *manage.Manager
}

func (s *notices) event(ctx context.Context, token string) (notice, *belfry.Accepted, error) {
	var n notice
	if err := s.read(acknowledgeLink, token, &n); err != nil {
		return n, nil, err
	}
	events, err := s.db.Events(ctx, n.Tenant, []string{n.Event})
	if err != nil {
		return n, nil, err
	}
	if events[n.Event] == nil {
		return n, nil, notValid
	}
	return n, events[n.Event], nil
}

// Noticed says what a link is about, and whether it was used.
func (s *notices) Noticed(ctx context.Context, token string) (api.Notice, error) {
	n, acc, err := s.event(ctx, token)
	if err != nil {
		return api.Notice{}, err
	}
	done, err := s.db.Acknowledged(ctx, n.Tenant, n.Event, n.who())
	if err != nil {
		return api.Notice{}, err
	}
	out := api.Notice{Who: n.Address, Done: done}
	reader, err := s.facts.Person(ctx, n.Tenant, n.Principal)
	if err != nil {
		return out, err
	}
	if reader != nil {
		out.Who, out.Locale = reader.User.Name, reader.User.Locale
	}
	item, err := s.facts.Item(ctx, n.Tenant, acc, nil, nil, reader)
	if err != nil {
		return out, err
	}
	out.Title = render.Default().Title(item)
	return out, nil
}

// Acknowledge notes that whoever the link was made for has taken notice.
func (s *notices) Acknowledge(ctx context.Context, token string) error {
	n, _, err := s.event(ctx, token)
	if err != nil {
		return err
	}
	return s.manage.Acknowledge(ctx, manage.By{Tenant: n.Tenant, Who: n.who()}, n.Event, n.who(), belfry.ByLink)
}
