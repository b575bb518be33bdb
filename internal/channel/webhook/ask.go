package webhook

import (
	"context"
	"io"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/outbound"
)

// Ask posts m.Body to target.Endpoint as Send does, signed and guarded, and
// gives what a success (2xx) answers. An answer of more than most bytes is none.
func (s *Sender) Ask(ctx context.Context, target channel.Target, m *belfry.Message, most int64) ([]byte, belfry.Outcome) {
	if s.closed.Load() || target.Endpoint == nil || !idIsSafe(m.ID) {
		return nil, retry("the question cannot be sent")
	}
	p, err := s.prepare(target.Endpoint, target.Secrets)
	if err != nil {
		return nil, retry(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	resp, err := outbound.Within(s.transport, p.request(ctx, m, s.now()), p.timeout)
	if err != nil {
		return nil, retry(p.explain(ctx, err))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, p.judge(resp, s.now)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, retry(p.explain(ctx, err))
	case int64(len(answer)) > most:
		return nil, retry("the answer is too long")
	}
	return answer, belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: resp.StatusCode}
}
