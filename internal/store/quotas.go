package store

import (
	"context"
	"database/sql"
	"encoding/json"
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
// takes once.
func (db *DB) TakeQuotas(ctx context.Context, tenant string, now time.Time, uses []belfry.QuotaUse) ([]bool, error) {
	for i := range uses {
		if err := clean(tenant, uses[i].Principal, uses[i].Name, uses[i].Grant); err != nil {
			return nil, err
		}
	}
	granted := make([]bool, len(uses))
	err := db.doors.life.do(ctx, &job{weight: 1 + len(uses), data: func(s *session) error { return s.takeQuotas(tenant, now, uses, granted) }})
	if err != nil {
		return nil, err
	}
	return granted, nil
}

func (s *session) takeQuotas(tenant string, now time.Time, uses []belfry.QuotaUse, granted []bool) error {
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
	for i := range uses {
		u := &uses[i]
		grants := held[quotaKey{u.Principal, u.Name}]
		for grant, until := range grants {
			if until <= micros(now) && grant != u.Grant {
				delete(grants, grant)
			}
		}
		_, before := grants[u.Grant]
		granted[i] = before || len(grants) < u.Limit
		if granted[i] && !before {
			grants[u.Grant] = micros(u.Until)
		}
	}
	put := s.rows(putQuota)
	for _, u := range distinct {
		grants := held[quotaKey{u.Principal, u.Name}]
		until := int64(0)
		for _, at := range grants {
			until = max(until, at)
		}
		body, err := json.Marshal(grants)
		if err != nil {
			return err
		}
		put.text(tenant).text(u.Principal).text(u.Name).num(until).text(string(body))
	}
	_, err = put.flush()
	return err
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
