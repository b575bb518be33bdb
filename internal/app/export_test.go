package app

import (
	"context"
	"time"
)

// EndGone does the hourly chore as if it were a later time.
func (a *App) EndGone(ctx context.Context, tenant string, now time.Time) (int, error) {
	return a.endGone().Do(ctx, tenant, now)
}
