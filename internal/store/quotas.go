package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

var (
	emptyQuota = insert("quotas", "tenant:t principal:t name:t until_at:n grants:t", "ON CONFLICT DO NOTHING")
	putQuota   = insert("quotas", "tenant:t principal:t name:t until_at:n grants:t",
		"ON CONFLICT (tenant, principal, name) DO UPDATE SET until_at = excluded.until_at, grants = excluded.grants")
)

type quotaKey struct{ principal, name string }

// TakeQuotas grants uses of quotas, all in one transaction: those whose quota has
// room at now, and those that were granted before. So a plan that is made twice
// takes once. The answer says from when each may be used: now, or later when it
// may wait; the zero time when it may not.
func (db *DB) TakeQuotas(ctx context.Context, tenant string, now time.Time, uses []belfry.QuotaUse) ([]time.Time, error) {
	for i := range uses {
		if err := clean(tenant, uses[i].Principal, uses[i].Name, uses[i].Grant); err != nil {
			return nil, err
		}
	}
	granted := make([]time.Time, len(uses))
	err := db.doors.life.do(ctx, &job{weight: 1 + len(uses), data: func(s *session) error { return s.takeQuotas(tenant, now, uses, granted) }})
	if err != nil {
		return nil, err
	}
	return granted, nil
}

func (s *session) takeQuotas(tenant string, now time.Time, uses []belfry.QuotaUse, granted []time.Time) error {
	distinct := last(uses, func(u *belfry.QuotaUse) string { return u.Principal + "\x00" + u.Name })
	var principals []string
	rows := s.rows(emptyQuota) // so that there is a row to wait for
	for _, u := range distinct {
		rows.text(tenant).text(u.Principal).text(u.Name).num(0).text("{}")
		principals = append(principals, u.Principal)
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	text := "SELECT principal, name, grants FROM quotas WHERE tenant = $1 AND principal IN_LIST ORDER BY principal, name"
	if s.db.pg {
		text += " FOR UPDATE"
	}
	held := map[quotaKey]map[string]int64{}
	err := queryIn(s, func(rows *sql.Rows) error {
		var k quotaKey
		var text string
		if err := rows.Scan(&k.principal, &k.name, &text); err != nil {
			return err
		}
		grants := map[string]int64{}
		held[k] = grants
		return json.Unmarshal([]byte(text), &grants)
	}, text, principals, tenant)
	if err != nil {
		return err
	}
	back := map[quotaKey]bool{}
	for i := range uses {
		u := &uses[i]
		if u.Force && u.Instead != "" {
			for k, grants := range held {
				if _, kept := grants[u.Grant]; kept && k.principal == u.Principal && k.name != u.Name && strings.HasPrefix(k.name, u.Instead) {
					delete(grants, u.Grant)
					back[k] = true
				}
			}
		}
		grants := held[quotaKey{u.Principal, u.Name}]
		for grant, until := range grants {
			if until <= micros(now) && (grant != u.Grant || u.Span > 0) {
				delete(grants, grant)
			}
		}
		granted[i] = take(grants, u, now)
	}
	put := s.rows(putQuota)
	for _, u := range distinct {
		back[quotaKey{u.Principal, u.Name}] = true
	}
	for k := range back {
		grants := held[k]
		until := int64(0)
		for _, at := range grants {
			until = max(until, at)
		}
		body, err := json.Marshal(grants)
		if err != nil {
			return err
		}
		put.text(tenant).text(k.principal).text(k.name).num(until).text(string(body))
	}
	_, err = put.flush()
	return err
}

// take grants a use when there is room. All of grants count still.
func take(grants map[string]int64, u *belfry.QuotaUse, now time.Time) (from time.Time) {
	until, before := grants[u.Grant]
	switch {
	case u.Force:
		from = now
	case before && u.Span == 0:
		return now
	case before: // it may be kept for later, and has its turn
		from = fromMicros(until).Add(-u.Span)
		if from.Before(now) {
			from = now
		}
		return from
	case len(grants) < u.Limit:
		from = now
	case !u.Wait:
		return time.Time{}
	default: // when so many have ended that there is room
		ends := slices.Sorted(maps.Values(grants))
		from = fromMicros(ends[len(ends)-u.Limit])
	}
	if until := u.Until; u.Span == 0 {
		grants[u.Grant] = micros(until)
	} else {
		grants[u.Grant] = micros(from.Add(u.Span))
	}
	return from
}

// PruneQuotas forgets what nothing is granted of any more.
func (db *DB) PruneQuotas(ctx context.Context, tenant string, now time.Time) (n int, err error) {
	_, err = db.tidy(ctx, 1, func(s *session) error {
		gone, err := s.exec(`DELETE FROM quotas WHERE tenant = $1 AND (principal, name) IN
			(SELECT principal, name FROM quotas WHERE tenant = $1 AND until_at < $2 LIMIT 500)`, tenant, micros(now))
		n = int(gone)
		return err
	})
	return n, err
}
