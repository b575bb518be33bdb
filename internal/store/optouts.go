package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

var (
	putOptOut = insert("opt_outs", "tenant:t subscription:t who:t since:n",
		"ON CONFLICT (tenant, subscription, who) DO NOTHING")
	dropOptOut = with("tenant:t subscription:t who:t",
		"DELETE FROM opt_outs WHERE (tenant, subscription, who) IN (SELECT tenant, subscription, who FROM a)")
	dropMemberships = with("tenant:t subscription:t principal:t",
		"DELETE FROM members WHERE (tenant, subscription, principal) IN (SELECT tenant, subscription, principal FROM a)")
)

// optOuts stores opt-outs; whoever opts out is no member any more.
func (e *edit) optOuts() error {
	if len(e.ch.OptOuts) == 0 {
		return nil
	}
	put, leave := e.rows(putOptOut), e.rows(dropMemberships)
	if err := e.lookAtLeaving(); err != nil {
		return err
	}
	for _, o := range last(e.ch.OptOuts, func(o *belfry.OptOut) string { return o.Subscription + "\x00" + o.Who }) {
		put.text(e.tenant).text(o.Subscription).text(o.Who).num(micros(o.Since))
		leave.text(e.tenant).text(o.Subscription).text(o.Who)
		e.note(belfry.KindMembers, o.Subscription)
	}
	if _, err := put.flush(); err != nil {
		return err
	}
	_, err := leave.flush()
	return err
}

// withoutOptedOut leaves out of members those that are not to be stored once she
// has opted out, and has.
func (e *edit) withoutOptedOut(members []*belfry.Member) ([]*belfry.Member, error) {
	asked := map[string][]string{} // by subscription
	for _, m := range members {
		if m.UnlessOut && !slices.Contains(asked[m.Subscription], m.Principal) {
			asked[m.Subscription] = append(asked[m.Subscription], m.Principal)
		}
	}
	out := map[[2]string]bool{}
	for subscription, who := range asked {
		err := queryIn(e.session, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			out[[2]string{subscription, id}] = true
			return err
		}, "SELECT who FROM opt_outs WHERE tenant = $1 AND subscription = $2 AND who IN_LIST", who, e.tenant, subscription)
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return members, nil
	}
	return slices.DeleteFunc(members, func(m *belfry.Member) bool { return m.UnlessOut && out[[2]string{m.Subscription, m.Principal}] }), nil
}

func (e *edit) dropOptOuts() error {
	if len(e.ch.DropOptOuts) == 0 {
		return nil
	}
	rows := e.rows(dropOptOut)
	for _, o := range last(e.ch.DropOptOuts, func(o *belfry.OptOut) string { return o.Subscription + "\x00" + o.Who }) {
		rows.text(e.tenant).text(o.Subscription).text(o.Who)
		e.note(belfry.KindMembers, o.Subscription)
	}
	_, err := rows.flush()
	return err
}

// deadContacts puts tombstones on addresses. An address that is not there any
// more needs none.
func (e *edit) deadContacts() error {
	for i := range e.ch.DeadContacts {
		dead := &e.ch.DeadContacts[i]
		have, err := e.profiles([]string{dead.User})
		if err != nil {
			return err
		}
		u := have[dead.User]
		if u == nil {
			continue
		}
		at := slices.IndexFunc(u.Contacts, func(c belfry.Contact) bool {
			return c.Kind == dead.Kind && sameAddress(c.Address, dead.Address)
		})
		if at < 0 || u.Contacts[at].Dead != "" {
			continue
		}
		u.Contacts[at].Dead, u.Contacts[at].DeadAt = dead.Reason, &dead.At
		if dead.Reason == "" {
			u.Contacts[at].Dead = "the provider says it is gone"
		}
		if err := e.setUser("profile", u.ID, u); err != nil {
			return err
		}
	}
	return nil
}

// outsInto reads rows of who and since, of a subscription.
func outsInto(list *[]belfry.OptOut, subscription string) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		o := belfry.OptOut{Subscription: subscription}
		var since int64
		err := rows.Scan(&o.Who, &since)
		o.Since = fromMicros(since)
		*list = append(*list, o)
		return err
	}
}

// OptOuts lists who opted out of a subscription, after somebody, in order.
func (db *DB) OptOuts(ctx context.Context, tenant, subscription, after string, limit int) (list []belfry.OptOut, err error) {
	err = db.query(ctx, outsInto(&list, subscription), "SELECT who, since FROM opt_outs WHERE tenant = $1 AND subscription = $2 AND who > $3 ORDER BY who LIMIT $4",
		tenant, subscription, after, orDefault(limit, 1000))
	return list, err
}

// OptOutsAmong lists who of those asked for opted out of a subscription, in order.
func (db *DB) OptOutsAmong(ctx context.Context, tenant, subscription string, who []string) (list []belfry.OptOut, err error) {
	err = db.queryEach(ctx, outsInto(&list, subscription), "SELECT who, since FROM opt_outs WHERE tenant = $1 AND subscription = $2 AND who IN_LIST", distinct(who), tenant, subscription)
	slices.SortFunc(list, func(a, b belfry.OptOut) int { return strings.Compare(a.Who, b.Who) })
	return list, err
}

// OptedOut lists what somebody opted out of, in the order of subscriptions.
func (db *DB) OptedOut(ctx context.Context, tenant, who string, limit int) (list []belfry.OptOut, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		o := belfry.OptOut{Who: who}
		var since int64
		err := rows.Scan(&o.Subscription, &since)
		o.Since = fromMicros(since)
		list = append(list, o)
		return err
	}, "SELECT subscription, since FROM opt_outs WHERE tenant = $1 AND who = $2 ORDER BY subscription LIMIT $3", tenant, who, orDefault(limit, 1000))
	return list, err
}

// Joined lists what a principal joined itself, in the order of subscriptions.
func (db *DB) Joined(ctx context.Context, tenant, principal string, limit int) (list []belfry.Member, err error) {
	err = db.query(ctx, membersInto(&list), "SELECT "+memberCols+" FROM members WHERE tenant = $1 AND principal = $2 ORDER BY subscription, object LIMIT $3",
		tenant, principal, orDefault(limit, 1000))
	return list, err
}

// JoinedGroups lists the members of a subscription that are groups, or among
// also, which are groups that nobody has to declare; by principal and object.
func (db *DB) JoinedGroups(ctx context.Context, tenant, subscription string, also []string) (list []belfry.Member, err error) {
	scan := membersInto(&list)
	const cols = "SELECT m.subscription, m.principal, m.object, m.channels, m.since FROM "
	from := "groups g JOIN members m"
	if !db.pg { // it has no figures to choose by, and took the members however many they are
		from = "members m CROSS JOIN groups g"
		fewer := false
		err := db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&fewer) }, `SELECT (SELECT count(*) FROM groups WHERE tenant = $1) <
			(SELECT count(*) FROM (SELECT 1 FROM members WHERE tenant = $1 AND subscription = $2 LIMIT (SELECT count(*) + 1 FROM groups WHERE tenant = $1)))`, tenant, subscription)
		if err != nil {
			return nil, err
		}
		if fewer {
			from = "groups g CROSS JOIN members m"
		}
	}
	err = db.query(ctx, scan, cols+from+` ON m.tenant = g.tenant AND m.principal = g.id WHERE g.tenant = $1 AND m.tenant = $1 AND m.subscription = $2
		ORDER BY m.principal, m.object`, tenant, subscription)
	if err != nil || len(also) == 0 {
		return list, err
	}
	declared := len(list)
	if err = queryRead(ctx, db, scan, cols+"members m WHERE m.tenant = $1 AND m.subscription = $2 AND m.principal IN_LIST", also, tenant, subscription); err != nil || len(list) == declared {
		return list, err
	}
	slices.SortFunc(list, func(a, b belfry.Member) int {
		return cmp.Or(strings.Compare(a.Principal, b.Principal), strings.Compare(a.Object, b.Object))
	})
	return slices.CompactFunc(list, func(a, b belfry.Member) bool { return a.Principal == b.Principal && a.Object == b.Object }), nil
}
