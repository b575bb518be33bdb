package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// acknowledgements keeps who has taken notice of an event, and does with it what
// follows of that: entries in the inbox are read, what else was to be sent is
// cancelled, and the escalation ends. Repeating one changes nothing.
func (e *edit) acknowledgements() error {
	for i := range e.ch.Acknowledgements {
		a := &e.ch.Acknowledgements[i]
		from, to, ok := belfry.DeliveryRange(a.EventID)
		if !ok {
			return belfry.Errorf(belfry.NotFound, "there is no event %s", a.EventID)
		}
		if _, err := e.exec("INSERT INTO acknowledgements (tenant, event_id, who, at, how) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
			e.tenant, a.EventID, a.Who, micros(a.At), a.How); err != nil {
			return err
		}
		if _, err := e.exec("UPDATE inbox SET read_at = $6 WHERE tenant = $1 AND principal = $2 AND id >= $3 AND id < $4 AND event_id = $5 AND read_at = 0",
			e.tenant, a.Who, from, to, a.EventID, micros(a.At)); err != nil {
			return err
		}
		because := belfry.Reason{Code: belfry.Acknowledged, Detail: "by " + a.How}
		var cancelled []string
		for _, w := range toWhom(a.EventID, a.Who) {
			err := e.query(func(rows *sql.Rows) error {
				var id string
				err := rows.Scan(&id)
				cancelled = append(cancelled, id)
				return err
			}, "UPDATE deliveries SET state = 6, ended = $6 WHERE tenant = $1 AND "+w.where+" AND state + 0 < 3 RETURNING id",
				e.tenant, a.Who, w.from, w.to, a.EventID, e.scribe.reason(&because))
			if err != nil {
				return err
			}
		}
		e.count(e.tenant, 0, -int64(len(cancelled)))
		for _, id := range cancelled { // other nodes follow the log of changes
			e.note(belfry.KindDelivery, id)
		}
		if _, err := e.exec("DELETE FROM timers WHERE tenant = $1 AND kind = $2 AND id >= $3 AND id < $4",
			e.tenant, belfry.TimerEscalation, belfry.EscalationTimer(a.EventID, ""), belfry.EscalationTimer(a.EventID, "~")); err != nil {
			return err
		}
	}
	return nil
}

// whom chooses an event's deliveries to somebody: $1 to $5 are the tenant, who it
// is, the range of ids and the event.
type whom struct{ where, from, to string }

// toWhom gives what is looked for by the index of persons, and, of bare addresses,
// among the ids near who: an event may have a million deliveries.
func toWhom(eventID, who string) []whom {
	const to = "destination = $2 AND id >= $3 AND id < $4 AND event_id = $5"
	person, address := whom{where: "principal <> '' AND principal = $2 AND " + to}, whom{where: "principal = '' AND " + to}
	var ok bool
	if person.from, person.to, ok = belfry.DeliveryRange(eventID); !ok {
		return nil
	}
	address.from, address.to, _ = belfry.DeliveryRangeTo(eventID, who)
	return []whom{person, address}
}

// Acknowledgements lists who has taken notice of an event, in the order of their
// names.
func (db *DB) Acknowledgements(ctx context.Context, tenant, eventID string, limit int) (list []belfry.Acknowledgement, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		a := belfry.Acknowledgement{EventID: eventID}
		var at int64
		err := rows.Scan(&a.Who, &at, &a.How)
		a.At = fromMicros(at)
		list = append(list, a)
		return err
	}, "SELECT who, at, how FROM acknowledgements WHERE tenant = $1 AND event_id = $2 ORDER BY who LIMIT $3", tenant, eventID, limit)
	return list, err
}

// Acknowledged reports whether somebody has taken notice of an event; without a
// name, whether anybody has.
func (db *DB) Acknowledged(ctx context.Context, tenant, eventID, who string) (yes bool, err error) {
	text, args := "SELECT 1 FROM acknowledgements WHERE tenant = $1 AND event_id = $2", []any{tenant, eventID}
	if who != "" {
		text += " AND who = $3"
		args = append(args, who)
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		yes = true
		var one int
		return rows.Scan(&one)
	}, text+" LIMIT 1", args...)
	return yes, err
}

// InboxEvents are the events of those of ids that are in a person's inbox, by
// the entry's id.
func (db *DB) InboxEvents(ctx context.Context, tenant, principal string, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var id, event string
		err := rows.Scan(&id, &event)
		out[id] = event
		return err
	}, "SELECT id, event_id FROM inbox WHERE tenant = $1 AND principal = $2 AND id IN_LIST", ids, tenant, principal)
	return out, err
}

// OpenOf lists the open deliveries of an event to a person or an address.
func (db *DB) OpenOf(ctx context.Context, tenant, who, eventID string, limit int) (list []string, err error) {
	for _, w := range toWhom(eventID, who) {
		ids, err := db.strings(ctx, "SELECT id FROM deliveries WHERE tenant = $1 AND "+w.where+" AND state + 0 < 3 ORDER BY id LIMIT $6", tenant, who, w.from, w.to, eventID, limit-len(list))
		if list = append(list, ids...); err != nil || len(list) >= limit {
			return list, err
		}
	}
	return list, nil
}

// WasTold reports whether anything of an event went, or was to go, to somebody.
func (db *DB) WasTold(ctx context.Context, tenant, eventID, who string) (yes bool, err error) {
	for _, w := range toWhom(eventID, who) {
		ids, err := db.strings(ctx, `SELECT id FROM deliveries WHERE tenant = $1 AND `+w.where+`
			UNION ALL SELECT id FROM inbox WHERE tenant = $1 AND principal = $2 AND id >= $3 AND id < $4 AND event_id = $5 LIMIT 1`, tenant, who, w.from, w.to, eventID)
		if err != nil || len(ids) > 0 {
			return len(ids) > 0, err
		}
	}
	return false, nil
}

// ToldBy lists the people whom a subscription has told of an event, a bounded
// number.
func (db *DB) ToldBy(ctx context.Context, tenant, eventID, subscription string, limit int) ([]string, error) {
	from, to, ok := belfry.DeliveryRange(eventID)
	if !ok {
		return nil, nil
	}
	return db.strings(ctx, `SELECT principal FROM (
		SELECT principal FROM deliveries WHERE tenant = $1 AND id >= $2 AND id < $3 AND event_id = $4 AND subscription = $5 AND principal <> ''
		UNION SELECT principal FROM inbox WHERE tenant = $1 AND id >= $2 AND id < $3 AND event_id = $4 AND subscription = $5) AS told
		ORDER BY principal LIMIT $6`, tenant, from, to, eventID, subscription, limit)
}

// PruneAcknowledgements forgets those of events accepted before a time, a
// bounded number at once, and says how many.
func (db *DB) PruneAcknowledgements(ctx context.Context, tenant string, before time.Time) (n int, err error) {
	_, err = db.tidy(ctx, 1, func(s *session) error {
		gone, err := s.exec(`DELETE FROM acknowledgements WHERE tenant = $1 AND (event_id, who) IN
			(SELECT event_id, who FROM acknowledgements WHERE tenant = $1 AND event_id < $2 ORDER BY event_id, who LIMIT 500)`,
			tenant, belfry.MinID(belfry.EventPrefix, before))
		n = int(gone)
		return err
	})
	return n, err
}
