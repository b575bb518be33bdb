package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is stored about a person, found and erased table by table. A table says
// what each of its columns is; a test holds that no column of the schema that
// could name a person is forgotten.

// use is what a column means for this.
type use byte

const (
	colKey    use = 'k' // of the primary key
	colKeyNum use = 'n'
	colKeyWho use = 'K' // of the primary key, and names a person
	colKeySay use = 'X' // of the primary key, and people's words; of rows that go
	colWho    use = 'w' // a principal or an address
	colWords  use = 'x' // people's words
	colJSON   use = 'j' // JSON kept as text
	colBytes  use = 'b' // JSON kept as bytes
	colEvent  use = 'e' // the body of an event
	colShow   use = 's' // shown in an export
	colNum    use = '#'
	colTime   use = 't'
	colState  use = 'd' // belfry.State
	colSent   use = '1' // see firstAttempt
)

type personColumn struct {
	name string
	use  use
}

// personTable is a part of what is stored about people.
type personTable struct {
	part, table string
	columns     []personColumn
	// where, when set, is a condition by which an index finds the rows of the
	// principal $2; else the table is walked.
	where string
	// whole rows go; else they stay, without her.
	drop bool
	// edits: rows change by edits, which tell caches and other nodes; they are
	// only found here.
	edits bool
	only  func(row map[string]string, s *belfry.Subject) bool // nil = all rows that name her
}

func personColumns(spec string) (out []personColumn) {
	for c := range strings.FieldsSeq(spec) {
		name, u, _ := strings.Cut(c, ":")
		out = append(out, personColumn{name, use(u[0])})
	}
	return out
}

const deliveryPerson = `id:k event_id:s run:# subscription:s channel:s principal:w address:w destination:w state:d due:t attempts:# locale:s
	because:j ended:j sent:1`

const digestPerson = `id:k principal:w channel:s address:w destination:w bundle_key:s frequency:s locale:s due:t state:# opened:t sealed:t ended:t
	oldest:s message:s because:j`

// personTables are in the order in which an erasure goes through them: first
// what plans and sends still look at.
var personTables = []personTable{
	{part: "groups", table: "group_members", columns: personColumns("group_id:k principal:K origin:k"), where: "principal = $2", edits: true},
	{part: "grants", table: "grants", columns: personColumns("object:k origin:k principal:K role:k seq:n from_at:t until_at:t inactive:s"), where: "principal = $2", edits: true},
	{part: "subscriptions", table: "subscriptions", columns: personColumns("id:k body:b"), edits: true},
	{part: "documents", table: "documents", columns: personColumns("kind:k id:k body:b"), edits: true,
		only: func(row map[string]string, _ *belfry.Subject) bool { return personDocument(row["kind"]) }},
	{part: "asks", table: "asks", columns: personColumns("who:K subscription:k object:k kind:n id:s by_whom:w asked:t due:t until_at:t"), drop: true},
	{part: "deliveries", table: "deliveries", columns: personColumns(deliveryPerson), where: "principal <> '' AND principal = $2"},
	{part: "mails", table: "deliveries", columns: personColumns(deliveryPerson),
		only: func(row map[string]string, s *belfry.Subject) bool {
			return row["principal"] == "" && row["channel"] != belfry.ChannelWebhook && s.Is(row["address"])
		}},
	{part: "digested", table: "bundle_items", columns: personColumns("bundle:k id:k event_id:s run:# subscription:s template:s state:d because:j ended:j"),
		where: "bundle IN (SELECT b.id FROM bundles b WHERE b.tenant = $1 AND b.destination <> '' AND b.destination = $2)"},
	{part: "digests", table: "bundles", columns: personColumns(digestPerson), where: "destination <> '' AND destination = $2"},
	{part: "digest_mails", table: "bundles", columns: personColumns(digestPerson),
		only: func(row map[string]string, s *belfry.Subject) bool {
			return row["principal"] == "" && s.Is(row["address"])
		}},
	{part: "inbox", table: "inbox", columns: personColumns("id:k event_id:s principal:w subscription:s locale:s because:j read_at:t archived_at:t snoozed_until:t"),
		where: "principal = $2", drop: true},
	{part: "acknowledgements", table: "acknowledgements", columns: personColumns("event_id:k who:K at:t how:s"), drop: true},
	{part: "timers", table: "timers", columns: personColumns("kind:k id:K due:t"), where: "kind = 'mute_ends' AND id = $2", drop: true},
	{part: "quotas", table: "quotas", columns: personColumns("principal:K name:k until_at:t grants:j"), where: "principal = $2", drop: true},
	{part: "looks", table: "bundle_looks", columns: personColumns("what:k item:K version:#"), where: "item = $2", drop: true},
	{part: "follows", table: "follows", columns: personColumns("who:K event_id:k muted:# told:# at:t"), where: "who = $2", drop: true},
	{part: "observations", table: "observations", columns: personColumns("subscription:k grp:X at:n event_id:k value:x"), drop: true},
	{part: "conditions", table: "condition_groups", columns: personColumns("subscription:k grp:X born:t due:t state:b"), drop: true, only: watched},
	{part: "suppressions", table: "suppressions", columns: personColumns("event_id:k run:n principal:K address:K channel:k because:j")},
	{part: "reasons", table: "reasons", columns: personColumns("event_id:k id:k because:j")},
	{part: "history", table: "history", columns: personColumns("object:k at:n id:k transition:s actor:w comment:x variables:b")},
	{part: "events", table: "events", columns: personColumns("id:k at:t type:s object:s body:e")},
	{part: "audit", table: "audit", columns: personColumns("id:k at:t who:w action:s target:x detail:x")},
	{part: "jobs", table: "jobs", columns: personColumns("id:k kind:s state:# params:b result:b error:x who:w created:t"),
		only: func(row map[string]string, _ *belfry.Subject) bool { return row["state"] >= "2" }},
}

// sharing are the tables whose rows may say where their reasons are.
var sharing = []string{"deliveries", "bundle_items", "inbox", "suppressions"}

// watched reports whether a group of a condition may go. That without a name
// stays: it says that the condition is watched; unless it keeps the value of a
// change, which is then one that nobody knows of.
func watched(row map[string]string, _ *belfry.Subject) bool {
	return row["grp"] != "" || strings.Contains(row["state"], `"is":{`)
}

// PersonDocument is personDocument for the test of all kinds.
func PersonDocument(kind string) bool { return personDocument(kind) }

// personDocument reports whether documents of a kind may name people in what
// can be read of them.
func personDocument(kind string) bool {
	switch kind {
	case belfry.KindEndpoint, belfry.KindFilter, belfry.KindTemplate, belfry.KindSetting, belfry.KindPreset, belfry.KindNotification:
		return true
	}
	return false
}

// PersonParts are the parts of what is stored about people, in the order in
// which they are erased.
func PersonParts() []string {
	out := make([]string, len(personTables))
	for i := range personTables {
		out[i] = personTables[i].part
	}
	return out
}

func personPart(part string) (*personTable, error) {
	for i := range personTables {
		if personTables[i].part == part {
			return &personTables[i], nil
		}
	}
	return nil, belfry.Errorf(belfry.Internal, "there is no part %q of what is stored about people", part)
}

// EditedParts are those that change by edits (belfry.Changes).
func EditedParts() map[string]bool {
	out := map[string]bool{}
	for i := range personTables {
		if personTables[i].edits {
			out[personTables[i].part] = true
		}
	}
	return out
}

// Holdings reads a part of what is stored about a person: what a page of about
// limit rows after a place holds, and where the next one begins, empty at the
// end.
func (db *DB) Holdings(ctx context.Context, tenant, part string, s *belfry.Subject, after string, limit int) (list []belfry.Holding, next string, err error) {
	t, err := personPart(part)
	if err != nil {
		return nil, "", err
	}
	if err := clean(append([]string{s.ID, after}, s.Addresses...)...); err != nil {
		return nil, "", err
	}
	text, args, err := t.query(tenant, s, after, limit)
	if err != nil {
		return nil, "", err
	}
	n := 0
	var last []string
	err = db.query(ctx, func(rows *sql.Rows) error {
		n++
		row, err := t.scan(rows)
		if err != nil {
			return err
		}
		last = row
		if !t.names(row, s) {
			return nil
		}
		value, err := t.value(row)
		list = append(list, belfry.Holding{Part: part, Value: value, Row: row})
		return err
	}, text, args...)
	if err != nil || n < limit {
		return list, "", err
	}
	return list, t.place(last), nil
}

func (t *personTable) keys() (out []int) {
	for i, c := range t.columns {
		if c.use == colKey || c.use == colKeyNum || c.use == colKeyWho || c.use == colKeySay {
			out = append(out, i)
		}
	}
	return out
}

// place is where a page goes on after a row.
func (t *personTable) place(row []string) string {
	var parts []string
	for _, i := range t.keys() {
		parts = append(parts, row[i])
	}
	text, _ := json.Marshal(parts) // texts always marshal
	return string(text)
}

func (t *personTable) query(tenant string, s *belfry.Subject, after string, limit int) (string, []any, error) {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		if names[i] = c.name; c.name == "because" && slices.Contains(sharing, t.table) {
			names[i] = becauseOf(t.table)
		}
	}
	args := []any{tenant}
	bind := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := ""
	if t.where != "" {
		args = append(args, s.ID)
		where = " AND " + t.where
	}
	keys := t.keys()
	order := make([]string, len(keys))
	for i, at := range keys {
		order[i] = t.columns[at].name
	}
	if after != "" {
		var parts []string
		if err := json.Unmarshal([]byte(after), &parts); err != nil || len(parts) != len(keys) {
			return "", nil, belfry.Errorf(belfry.Invalid, "not a place in the %s of a person: %q", t.part, short(after))
		}
		marks := make([]string, len(keys))
		for i, at := range keys {
			var v any = parts[i]
			if t.columns[at].use == colKeyNum {
				n, err := strconv.ParseInt(parts[i], 10, 64)
				if err != nil {
					return "", nil, belfry.Errorf(belfry.Invalid, "not a place in the %s of a person: %q", t.part, short(after))
				}
				v = n
			}
			marks[i] = bind(v)
		}
		where += " AND (" + strings.Join(order, ", ") + ") > (" + strings.Join(marks, ", ") + ")"
	}
	text := "SELECT " + strings.Join(names, ", ") + " FROM " + t.table + " WHERE tenant = $1" + where +
		" ORDER BY " + strings.Join(order, ", ") + " LIMIT " + bind(limit)
	return text, args, nil
}

func (t *personTable) scan(rows *sql.Rows) ([]string, error) {
	row, into := make([]string, len(t.columns)), make([]any, len(t.columns))
	nums, blobs := make([]int64, len(t.columns)), make([][]byte, len(t.columns))
	for i, c := range t.columns {
		switch c.use {
		case colKeyNum, colNum, colTime, colState:
			into[i] = &nums[i]
		case colBytes, colEvent:
			into[i] = &blobs[i]
		default:
			into[i] = &row[i]
		}
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	for i, c := range t.columns {
		switch c.use {
		case colKeyNum, colNum, colTime, colState:
			row[i] = strconv.FormatInt(nums[i], 10)
		case colBytes, colEvent:
			row[i] = string(blobs[i])
		case colJSON:
			var err error
			if row[i], err = unpack(row[i]); err != nil {
				return nil, err
			}
		}
	}
	return row, nil
}

func (t *personTable) byName(row []string) map[string]string {
	out := make(map[string]string, len(row))
	for i, c := range t.columns {
		out[c.name] = row[i]
	}
	return out
}

// names reports whether a row speaks of a person.
func (t *personTable) names(row []string, s *belfry.Subject) bool {
	if t.only != nil && !t.only(t.byName(row), s) {
		return false
	}
	for i, c := range t.columns {
		if personless(c.use, row[i], s) != row[i] {
			return true
		}
	}
	return false
}

// personless is the value of a column without a person.
func personless(u use, v string, s *belfry.Subject) string {
	switch u {
	case colWho, colKeyWho:
		if s.Is(v) {
			return s.For(v)
		}
	case colWords, colKeySay:
		return s.Text(v)
	case colJSON, colBytes:
		return string(s.JSON([]byte(v)))
	case colEvent:
		return string(s.Event([]byte(v)))
	case colSent:
		return s.Text(v)
	}
	return v
}

// value is a row as an export shows it.
func (t *personTable) value(row []string) (json.RawMessage, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, c := range t.columns {
		v := row[i]
		var shown any = v
		switch c.use {
		case colKeyNum, colNum:
			shown = json.Number(v)
		case colTime:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, err
			}
			if n == 0 {
				continue
			}
			shown = fromMicros(n).Format(time.RFC3339Nano)
		case colState:
			n, err := strconv.Atoi(v)
			if err != nil {
				return nil, err
			}
			shown = belfry.State(n).String()
		case colJSON, colBytes, colEvent:
			if v == "" {
				continue
			}
			shown = json.RawMessage(v)
		case colSent:
			continue // an attempt: see Attempts
		}
		if shown == "" {
			continue
		}
		text, err := json.Marshal(shown)
		if err != nil {
			return nil, err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", c.name, text)
	}
	b.WriteByte('}')
	return json.RawMessage(b.String()), nil
}

// EraseHoldings takes a person out of rows that Holdings read, and records the
// step of the job that asked with it, as RetryDeliveries does. Open deliveries
// of hers are cancelled; step is given their ids.
func (db *DB) EraseHoldings(ctx context.Context, j *belfry.Job, part string, s *belfry.Subject, list []belfry.Holding, step func(cancelled []string) belfry.JobStep) (ok bool, err error) {
	t, err := personPart(part)
	if err != nil {
		return false, err
	}
	if t.edits {
		return false, belfry.Errorf(belfry.Internal, "%s change by edits", part)
	}
	sends := t.table == "deliveries" && len(list) > 0
	return db.lifeStep(ctx, j, len(list), sends, func(ss *session, version int64) (belfry.JobStep, error) {
		var cancelled []string
		if sends {
			ids := make([]string, len(list))
			for i := range list {
				ids[i] = list[i].Row[0]
			}
			if cancelled, err = ss.eraseSends(j.Tenant, version, ids); err != nil {
				return belfry.JobStep{}, err
			}
		}
		for i := range list {
			if err := ss.eraseRow(t, j.Tenant, list[i].Row, s); err != nil {
				return belfry.JobStep{}, err
			}
		}
		return step(cancelled), nil
	})
}

// EraseJob takes a person out of the job that erased her.
func (db *DB) EraseJob(ctx context.Context, j *belfry.Job, s *belfry.Subject, params []byte, step belfry.JobStep) (ok bool, err error) {
	return db.lifeStep(ctx, j, 1, false, func(ss *session, _ int64) (belfry.JobStep, error) {
		_, err := ss.exec("UPDATE jobs SET params = $3, who = $4 WHERE tenant = $1 AND id = $2", j.Tenant, j.ID, params, personless(colWho, j.Who, s))
		return step, err
	})
}

// eraseSends ends what is open of deliveries and forgets what receivers
// answered, which may repeat an address.
func (s *session) eraseSends(tenant string, version int64, ids []string) (cancelled []string, err error) {
	ended := s.scribe.reason(&belfry.Reason{Code: belfry.Erased})
	err = queryIn(s, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		cancelled = append(cancelled, id)
		return err
	}, "UPDATE deliveries SET state = 6, ended = $2 WHERE tenant = $1 AND state + 0 < 3 AND id IN_LIST RETURNING id", ids, tenant, ended)
	if err != nil {
		return nil, err
	}
	s.count(tenant, 0, -int64(len(cancelled)))
	for _, id := range cancelled { // other nodes follow the log of changes
		s.change(tenant, version, belfry.KindDelivery, id)
	}
	_, err = execIn(s, "UPDATE attempts SET detail = '', because = '' WHERE tenant = $1 AND delivery_id IN_LIST", ids, tenant)
	return cancelled, err
}

// eraseRow takes a person out of a row, or the row away.
func (s *session) eraseRow(t *personTable, tenant string, row []string, who *belfry.Subject) error {
	args := []any{tenant}
	bind := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := " WHERE tenant = $1"
	var set []string
	for i, c := range t.columns {
		switch c.use {
		case colKey, colKeyWho, colKeySay:
			where += " AND " + c.name + " = " + bind(row[i])
		case colKeyNum:
			n, err := strconv.ParseInt(row[i], 10, 64)
			if err != nil {
				return err
			}
			where += " AND " + c.name + " = " + bind(n)
		}
	}
	if t.drop {
		_, err := s.exec("DELETE FROM "+t.table+where, args...)
		return err
	}
	hers := t.byName(row)["principal"] == who.ID // then so is the address, though she has it no more
	for i, c := range t.columns {
		now := personless(c.use, row[i], who)
		if hers && row[i] != "" && (c.use == colWho || c.use == colKeyWho) {
			now = who.For(row[i])
		}
		if c.use == colSent && row[i] != "" {
			now = answerless(row[i])
		}
		if now == row[i] {
			continue
		}
		if c.use == colBytes || c.use == colEvent {
			set = append(set, c.name+" = "+bind([]byte(now)))
		} else {
			set = append(set, c.name+" = "+bind(now))
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := s.exec("UPDATE "+t.table+" SET "+strings.Join(set, ", ")+where, args...)
	return err
}

// answerless is a first attempt without what the receiver answered.
func answerless(sent string) string {
	words := strings.SplitN(sent, " ", 5)
	if len(words) < 5 {
		return sent
	}
	return strings.Join(words[:4], " ") + " "
}

// eraseUsers forgets users altogether; what names them elsewhere is erased by a
// job.
func (e *edit) eraseUsers() error {
	if len(e.ch.EraseUsers) == 0 {
		return nil
	}
	have, err := e.profiles(e.ch.EraseUsers)
	if err != nil {
		return err
	}
	lost := map[string][]string{}
	for id, u := range have {
		lost[id] = emailsOf(u)
		if _, err := e.exec("DELETE FROM users WHERE tenant = $1 AND id = $2", e.tenant, id); err != nil {
			return err
		}
		e.note(belfry.KindUser, id)
	}
	return e.moveEmails(nil, lost)
}

func (e *edit) dropGroupMembers() error {
	for _, m := range e.ch.DropGroupMembers {
		if _, err := e.exec("DELETE FROM group_members WHERE tenant = $1 AND group_id = $2 AND principal = $3", e.tenant, m.Group, m.Principal); err != nil {
			return err
		}
		e.note(belfry.KindGroup, m.Group)
	}
	return nil
}

// PersonColumns are the columns that are looked at, as table.column.
func PersonColumns() (out []string) {
	for i := range personTables {
		for _, c := range personTables[i].columns {
			out = append(out, personTables[i].table+"."+c.name)
		}
	}
	return out
}
