package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

var insertCommit = insert("commits", "tenant:t act:b type:t object:t event_id:t", "ON CONFLICT DO NOTHING")

// Events of one act are told apart from later ones for so long; then what is
// known of the act is forgotten, some rows whenever others come.
const (
	actsKept   = 7 * 24 * time.Hour
	actsForgot = 1000
)

// noteCommits notes which acts of the platform events belong to. Acts are told
// apart by their source, as ids of events are.
func (s *session) noteCommits(list []*acceptance) error {
	var tenants []string
	rows := s.rows(insertCommit)
	for _, a := range list {
		for i := range a.drafts {
			d, r := &a.drafts[i], &a.receipts[i]
			if r.Duplicate || d.Event.Commit == "" {
				continue
			}
			act := keyOf(d.Event.Source, d.Event.Commit)
			rows.text(d.Tenant).blob(act[:]).text(d.Event.Type).text(d.Event.ObjectOrRoot()).text(r.EventID)
			if n := len(tenants); n == 0 || tenants[n-1] != d.Tenant {
				tenants = append(tenants, d.Tenant)
			}
		}
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	for _, tenant := range tenants {
		_, err := s.exec(`DELETE FROM commits WHERE tenant = $1 AND event_id IN (SELECT event_id FROM commits WHERE tenant = $1 AND event_id < $2 ORDER BY event_id LIMIT $3)`,
			tenant, belfry.EventID(s.db.now().Add(-actsKept), 0, 0), actsForgot)
		if err != nil {
			return err
		}
	}
	return nil
}

// Siblings gives, of the events that belong to the same act as e and have its
// type, the first one accepted on each of the objects.
func (db *DB) Siblings(ctx context.Context, tenant string, e *belfry.Event, objects []string) (map[string]string, error) {
	first := make(map[string]string, len(objects))
	act := keyOf(e.Source, e.Commit)
	return first, queryRead(ctx, db, func(rows *sql.Rows) error {
		var object, id string
		err := rows.Scan(&object, &id)
		first[object] = id
		return err
	}, "SELECT object, MIN(event_id) FROM commits WHERE tenant = $1 AND act = $2 AND type = $3 AND object IN_LIST GROUP BY object", objects, tenant, act[:], e.Type)
}
