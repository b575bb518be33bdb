package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/web/api"
)

// roles says who holds a role, by what is in force here.
type roles struct {
	dir *directory.Directory
	now func() time.Time
}

// Lacks is why a user may not join at an object.
func (r roles) Lacks(ctx context.Context, tenant, object, user string, names []string) (*belfry.Reason, error) {
	view, err := r.dir.At(ctx, tenant, 0)
	if err != nil {
		return nil, err
	}
	return resolve.Sees(view, object, belfry.EventType{SeeRoles: names}, user, r.now())
}

// answer is what a link that answers an ask carries.
type answer struct {
	Tenant string `json:"t"`
	manage.AskRef
}

// Answer is the page that answers what an event asks of its recipient.
func (l *links) Answer(tenant string, e *belfry.Event) string {
	ref, asks := manage.AskOf(e)
	if !asks {
		return ""
	}
	return l.link(answerLink, answer{tenant, ref}, ref.Until)
}

// asking serves those who follow such a link.
type asking struct {
	*links
	manage *manage.Manager
}

// Asked says what a link would do.
func (a *asking) Asked(ctx context.Context, token string) (api.JoinOffer, error) {
	var q answer
	if err := a.read(answerLink, token, &q); err != nil {
		return api.JoinOffer{}, err
	}
	return a.manage.Offer(ctx, q.Tenant, q.AskRef)
}

// Answer does it.
func (a *asking) Answer(ctx context.Context, token string) (api.JoinOffer, error) {
	var q answer
	if err := a.read(answerLink, token, &q); err != nil {
		return api.JoinOffer{}, err
	}
	return a.manage.Answer(ctx, q.Tenant, q.AskRef)
}

// postman sends the messages about joining that are due. Each recipient's are
// sent by the process that plans its shard, so one after the other.
type postman struct {
	db     *store.DB
	manage *manage.Manager
	ingest *ingest.Ingester
	shards pipeline.Shards
	now    func() time.Time
	log    *slog.Logger
	wake   chan struct{}
}

const (
	postEvery = time.Second
	postPage  = 200
)

// poke has the postman look now.
func (p *postman) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends.
func (p *postman) Run(ctx context.Context) error {
	tick := time.NewTicker(postEvery)
	defer tick.Stop()
	for {
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("sending messages about joining", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-tick.C:
		}
	}
}

// round sends what is due, page by page. What is another process's, and what
// fails and is tried again in the next round, is passed over: it holds up
// nothing behind it.
func (p *postman) round(ctx context.Context) (err error) {
	for left := 0; ctx.Err() == nil; {
		asks, fault := p.db.DueAsks(ctx, p.now(), left, postPage)
		if fault != nil {
			return errors.Join(err, fault)
		}
		for i := range asks {
			if ctx.Err() != nil {
				break
			}
			if !p.shards.Has(belfry.LeasePlan, belfry.Shard(asks[i].Tenant, asks[i].Who)) {
				left++
				continue
			}
			if fault := p.send(ctx, asks[i]); fault != nil {
				left++
				if err == nil {
					err = fault // one of many that are alike
				}
			}
		}
		if len(asks) < postPage {
			break
		}
	}
	return err
}

func (p *postman) send(ctx context.Context, a belfry.Ask) error {
	c, err := p.manage.Consider(ctx, a)
	if err != nil {
		return err
	}
	if c.Event != nil { // a repeat of one that was accepted before a crash changes nothing
		if _, err := p.ingest.Admit(ctx, ingest.Origin{Tenant: a.Tenant, Key: "belfry", Own: true}, []belfry.Event{*c.Event}); err != nil {
			return err
		}
	}
	return c.Settle(ctx)
}
