package api

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
)

// call is a request on its way: who asks, and what its log line will say.
type call struct {
	id      string
	r       *http.Request
	who     auth.Identity
	details []slog.Attr // what the operation adds to the log line
	err     error       // why it was refused or failed, for the log
}

type callKey struct{}

// callOf is the call of a request's context; the edge always puts one there.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

func (c *call) tenant() string { return c.who.Tenant }

// note adds to the log line.
func (c *call) note(attrs ...slog.Attr) { c.details = append(c.details, attrs...) }

// problem makes err an answer and remembers it for the log.
func (c *call) problem(err error) *Problem {
	c.err = err
	p := problemOf(err)
	answered := p.bounded()
	answered.Request = c.id
	return answered
}

// fail answers with err.
func (c *call) fail(w http.ResponseWriter, err error) { c.problem(err).write(w) }

// allowed is nil when the caller has the permission a route needs.
func (c *call) allowed(sp spec) *Problem {
	switch {
	case sp.root && !c.who.Root:
		return newProblem(http.StatusForbidden, "only a root key may do this")
	case sp.may != "" && !c.who.May(sp.may):
		return newProblem(http.StatusForbidden, "this key lacks the permission "+string(sp.may)+": ask an administrator for a key that has it")
	}
	return nil
}
