package store

import (
	"context"
	"database/sql"

	"github.com/belfryhq/belfry/internal/belfry"
)

// handover is the payload of the door of connectors.
type handover struct {
	tenant, source string
	changes        *belfry.Changes
	events         *acceptance
	cursor         []byte
	version        int64
}

// CommitSource is the connectors' door: one batch of directory changes, events
// and the new cursor of a source, in one transaction, the directory first, so
// the events are bound to it. It returns the events' receipts and the tenant's
// version; when there are no changes the version stays what it was, but for
// objects and types the events imply. A nil cursor leaves the stored one.
func (db *DB) CommitSource(ctx context.Context, tenant, source string, ch belfry.Changes, drafts []belfry.Draft, cursor []byte) ([]belfry.Receipt, int64, error) {
	ch.Tenant = tenant
	if err := checkChanges(&ch); err != nil {
		return nil, 0, err
	}
	if err := clean(tenant, source); err != nil {
		return nil, 0, err
	}
	for i := range drafts {
		if drafts[i].Tenant != tenant {
			return nil, 0, belfry.Errorf(belfry.Internal, "a source of tenant %s hands over an event of %s", tenant, drafts[i].Tenant)
		}
	}
	events, err := newAcceptance(drafts)
	if err != nil {
		return nil, 0, err
	}
	h := &handover{tenant: tenant, source: source, changes: &ch, events: events, cursor: cursor}
	if err := db.doors.source.do(ctx, &job{weight: weightOf(&ch) + len(drafts), data: h}); err != nil {
		return nil, 0, err
	}
	return h.events.receipts, h.version, nil
}

func commitSources(s *session, jobs []*job) error {
	for _, j := range jobs {
		var err error
		switch d := j.data.(type) {
		case *handover:
			err = s.handover(d)
		case func(*session) error:
			err = d(s)
		}
		if err = fault(err); err != nil {
			if transient(err) || unavailable(err) {
				return err
			}
			return &culprit{j, err}
		}
	}
	return nil
}

func (s *session) handover(h *handover) error {
	clear(h.events.receipts)
	if node := s.db.fenceID(); node != "" {
		if _, err := s.exec("SELECT belfry_fence($1)", node); err != nil {
			return err
		}
	}
	if !empty(h.changes) {
		if _, err := s.apply(h.changes); err != nil {
			return err
		}
	}
	if err := s.accept([]*acceptance{h.events}); err != nil {
		return err
	}
	if h.cursor != nil {
		_, err := s.exec(`INSERT INTO source_cursors (tenant, source, cursor, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, source) DO UPDATE SET cursor = excluded.cursor, at = excluded.at`, h.tenant, h.source, h.cursor, micros(s.db.now()))
		if err != nil {
			return err
		}
	}
	if err := s.know(h.tenant); err != nil {
		return err
	}
	return s.query(func(rows *sql.Rows) error { return rows.Scan(&h.version) }, "SELECT version FROM versions WHERE tenant = $1", h.tenant)
}

// SourceCursor is where a source last was, nil for a new one.
func (db *DB) SourceCursor(ctx context.Context, tenant, source string) (cursor []byte, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&cursor) },
		"SELECT cursor FROM source_cursors WHERE tenant = $1 AND source = $2", tenant, source)
	return cursor, err
}
