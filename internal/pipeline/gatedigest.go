package pipeline

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
)

// recheckAll is recheck for what a digest tells: why each of the events may not
// be told, nil where it may. The platform is asked at once for what no answer
// is remembered of; when it gives none the digest waits, until the patience
// with it ends.
func (g *Gate) recheckAll(ctx context.Context, d *belfry.Delivery, events []*belfry.Event) ([]*belfry.Reason, error) {
	a, err := g.authoriser(ctx, d.Tenant)
	if err != nil || a == nil {
		return make([]*belfry.Reason, len(events)), err
	}
	asked := map[question]bool{}
	var list []question
	for _, e := range events {
		q := questionOf(a, d, e)
		if _, known := g.known(q); !known && !asked[q] {
			asked[q] = true
			list = append(list, q)
		}
	}
	for len(list) > 0 {
		n := min(len(list), gateBatch)
		if err := g.askNow(ctx, d.Tenant, a, list[:n]); err != nil && g.o.Now().Sub(d.Due) < a.Patience() {
			return nil, err
		}
		list = list[n:]
	}
	out := make([]*belfry.Reason, len(events))
	for i, e := range events {
		switch v, known := g.known(questionOf(a, d, e)); {
		case known && v.allow:
		case known:
			reason := v.reason()
			out[i] = &reason
		case g.o.Now().Sub(d.Due) < a.Patience():
			return nil, errSilence
		default:
			out[i] = &belfry.Reason{Code: belfry.AuthoriserSilent, Detail: "for " + a.Patience().String()}
		}
	}
	return out, nil
}

// askNow asks, unless a platform that did not answer is left alone at present.
func (g *Gate) askNow(ctx context.Context, tenant string, a *belfry.Authoriser, list []question) error {
	g.mu.Lock()
	alone := g.o.Now().Before(g.backoff[tenant].until)
	g.mu.Unlock()
	if alone {
		return errSilence
	}
	err := g.ask(ctx, tenant, a, list)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		b := g.backoff[tenant]
		b.wait = min(max(2*b.wait, g.o.First), gateLongest)
		b.until = g.o.Now().Add(b.wait)
		g.backoff[tenant] = b
	}
	return err
}
