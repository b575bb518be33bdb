package store

import (
	"context"
	"database/sql"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Message reads a delivery, or an inbox entry as the delivery it is.
func (db *DB) Message(ctx context.Context, tenant, id string) (d belfry.Delivery, ok bool, err error) {
	if err := clean(id); err != nil {
		return d, false, nil // not an id we made
	}
	if d, ok, err = db.Delivery(ctx, tenant, id); ok || err != nil {
		return d, ok, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		row, err := scanInbox(rows)
		d, ok = inboxDelivery(tenant, &row), err == nil
		return err
	}, "SELECT "+inboxCols+" FROM inbox WHERE tenant = $1 AND id = $2", tenant, id)
	return d, ok, err
}
