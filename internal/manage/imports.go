package manage

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of imports.
const (
	maxImported = 100_000 // rows
	importChunk = 500     // rows of one edit
)

// ImportOptions say what is done with a table.
type ImportOptions struct {
	Subscription string // that all rows are about; empty = each row says it itself
	DryRun       bool   // only say what would happen
	Ask          bool   // invite whom the rows name, instead of adding them
}

// What becomes of a row.
const (
	RowJoined    = "joined"
	RowChanged   = "changed"
	RowUnchanged = "unchanged"
	RowAsked     = "asked"
	RowRefused   = "refused"
)

// ImportedRow is what became of a row, or would.
type ImportedRow struct {
	Row     int    `json:"row" doc:"Its line in the file; the head is on line 1"`
	Outcome string `json:"outcome" enum:"joined,changed,unchanged,asked,refused"`
	Text    string `json:"text" doc:"In a sentence"`
}

// ImportTotals count the rows.
type ImportTotals struct {
	Rows      int `json:"rows"`
	Joined    int `json:"joined"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
	Asked     int `json:"asked"`
	Refused   int `json:"refused"`
	Created   int `json:"created" doc:"Subscriptions that were made, or would be: one for each set of criteria"`
}

func (t *ImportTotals) count(outcome string) {
	t.Rows++
	switch outcome {
	case RowJoined:
		t.Joined++
	case RowChanged:
		t.Changed++
	case RowUnchanged:
		t.Unchanged++
	case RowAsked:
		t.Asked++
	case RowRefused:
		t.Refused++
	}
}

// Import is a table on its way in.
type Import struct {
	m      *Manager
	by     By
	o      ImportOptions
	rows   *table
	seen   map[string]seenRow   // by who joins what where
	known  map[string]*joinable // by id or criteria
	made   map[string]bool      // subscriptions that a dry run would have made
	totals ImportTotals
}

// seenRow is a row that named the same before.
type seenRow struct {
	line int
	how  string
}

// joinable is what rows subscribe to, or why they cannot.
type joinable struct {
	sub   belfry.Subscription
	fresh bool // there is none yet
	fault string
	at    map[string]string // objects -> why nobody joins there
}

// importRow is a row of a chunk.
type importRow struct {
	line   int
	who    string
	named  bool // by its id, so that it must be there
	to     *joinable
	mb     belfry.Member
	out    ImportedRow
	put    bool // join or change
	invite bool
}

// ImportMembers begins an import of members of subscriptions out of a CSV
// table; faults of the whole are found before anything is done.
//
// Each row is carried out or refused by itself, since an import that is repeated
// changes nothing: whoever mends the rows that were refused sends the file
// again. An administrator adds people as with PutMembers, with two exceptions,
// as a list knows less than a person does: who left or opted out is not joined
// again, and what somebody chose who joined by herself stays.
func (m *Manager) ImportMembers(ctx context.Context, by By, in io.Reader, o ImportOptions) (*Import, error) {
	columns := subscriptionColumns
	im := &Import{m: m, by: by, o: o, seen: map[string]seenRow{}, known: map[string]*joinable{}, made: map[string]bool{}}
	if o.Subscription != "" {
		columns = memberColumns
		if _, err := m.living(ctx, by.Tenant, o.Subscription, nil); err != nil {
			return nil, err
		}
	}
	var err error
	if im.rows, err = openTable(in, columns); err != nil {
		return nil, err
	}
	has := func(name string) bool { return slices.Contains(im.rows.columns, name) }
	if o.Subscription == "" && !has(columnSubscription) && !has(columnTypes) {
		return nil, belfry.Faults([]belfry.Field{{Pointer: "/columns", Message: "there is neither a column types nor a column subscription, so nothing is subscribed to"}})
	}
	return im, nil
}

// Run does it, and says of each row, in their order, what became of it. Rows are
// stored in chunks: whoever is told of a row can rely on it.
func (im *Import) Run(ctx context.Context, report func(ImportedRow) error) (ImportTotals, error) {
	var chunk []*importRow
	flush := func() error {
		if err := im.store(ctx, chunk); err != nil {
			return err
		}
		for _, r := range chunk {
			im.totals.count(r.out.Outcome)
			if err := report(r.out); err != nil {
				return err
			}
		}
		chunk = chunk[:0]
		return nil
	}
	for n := 0; ; n++ {
		cells, line, fault, err := im.rows.next()
		if errors.Is(err, io.EOF) {
			return im.totals, flush()
		}
		if err != nil {
			return im.totals, err
		}
		if n == maxImported {
			if err := flush(); err != nil {
				return im.totals, err
			}
			return im.totals, belfry.Errorf(belfry.TooLarge, "there are more than %d rows: those before line %d are done; send the rest in another file", maxImported, line)
		}
		r := &importRow{line: line, out: ImportedRow{Row: line}}
		chunk = append(chunk, r)
		if fault != "" {
			r.refuse("%s", fault)
		} else if err := im.read(ctx, r, cells); err != nil {
			return im.totals, err
		}
		if len(chunk) == importChunk {
			if err := flush(); err != nil {
				return im.totals, err
			}
		}
	}
}

func (r *importRow) refuse(format string, args ...any) { r.say(RowRefused, format, args...) }

func (r *importRow) say(outcome, format string, args ...any) {
	r.out.Outcome, r.out.Text = outcome, fmt.Sprintf(format, args...)
}

// words are faults in a sentence, places as columns.
func rowFault(list []belfry.Field) string {
	parts := make([]string, 0, len(list))
	for _, f := range list {
		column := strings.TrimPrefix(f.Pointer, "/")
		if c, _, nested := strings.Cut(column, "/"); nested {
			column = c
		}
		if column == "scope" {
			column = columnScope
		}
		parts = append(parts, strings.TrimSpace(column+" "+f.Message))
	}
	return strings.Join(parts, "; ")
}

// read checks what a row says by itself and what it subscribes to.
func (im *Import) read(ctx context.Context, r *importRow, cells map[string]string) error {
	m := im.m
	f := &faults{}
	user, email := cells[columnUser], cells[columnEmail]
	switch {
	case user == "" && email == "":
		r.refuse("names nobody: give a user or an email")
		return nil
	case user != "" && email != "":
		r.refuse("names a user and an email: give the one or the other; a user has her own addresses")
		return nil
	case user != "":
		r.who, r.named = user, true
		f.key("/user", user, maxID)
	default:
		f.email("/email", email)
		r.who = belfry.NormaliseEmail(email)
	}
	r.mb.Channels = entries(cells[columnChannels])
	if often := cells[columnFrequency]; often != "" {
		r.mb.Frequency = &belfry.Frequency{Every: often}
		if strings.HasPrefix(often, "{") {
			*r.mb.Frequency = belfry.Frequency{}
			if err := json.Unmarshal([]byte(often), r.mb.Frequency); err != nil {
				f.add("/frequency", "is neither a word such as daily nor a frequency in JSON")
			}
		}
	}
	if im.o.Ask && (len(r.mb.Channels) > 0 || r.mb.Frequency != nil) {
		f.add("/channels", "and frequency are chosen by whoever is asked: leave them empty")
	}
	m.checkChannels(f, im.by.Tenant, "/channels", r.mb.Channels)
	f.frequency("/frequency", r.mb.Frequency)
	f.line("/joined_at", cells[columnJoinedAt], maxID)
	if f.err() != nil {
		r.refuse("%s", rowFault(f.list))
		return nil
	}
	var err error
	if r.to, err = im.subscription(ctx, cells); err != nil {
		return err
	}
	if r.to.fault != "" {
		r.refuse("%s", r.to.fault)
		return nil
	}
	r.mb.Subscription, r.mb.Principal = r.to.sub.ID, r.who
	if r.mb.Object = joinedAt(&r.to.sub, cells[columnJoinedAt]); r.mb.Object != "" {
		fault, looked := r.to.at[r.mb.Object]
		if !looked {
			within, err := m.within(ctx, im.by.Tenant, &r.to.sub, []string{r.mb.Object})
			if err != nil {
				return err
			}
			fault = within[r.mb.Object]
			r.to.at[r.mb.Object] = fault
		}
		if fault != "" {
			r.refuse("joined_at %s", fault)
			return nil
		}
	}
	// Rows that say the same are one; those that contradict are not guessed.
	key := r.mb.Subscription + "\x00" + r.mb.Principal + "\x00" + r.mb.Object
	how := string(mustJSON([]any{r.mb.Channels, r.mb.Frequency}))
	if before, ok := im.seen[key]; ok {
		if before.how == how {
			r.say(RowUnchanged, "says the same as line %d", before.line)
		} else {
			r.refuse("says of the same person and subscription something else than line %d", before.line)
		}
		return nil
	}
	im.seen[key] = seenRow{r.line, how}
	return nil
}

// subscription is what a row subscribes to.
func (im *Import) subscription(ctx context.Context, cells map[string]string) (*joinable, error) {
	id := im.o.Subscription
	if id == "" {
		id = cells[columnSubscription]
	}
	says := slices.ContainsFunc(criteria, func(c string) bool { return cells[c] != "" })
	switch {
	case id != "" && says:
		return &joinable{fault: "names a subscription and what to subscribe to: give the one or the other"}, nil
	case id == "" && !says:
		return &joinable{fault: "names nothing to subscribe to: give types and an object, or a subscription"}, nil
	}
	key := "id\x00" + id
	if id == "" {
		parts := make([]string, len(criteria))
		for i, c := range criteria {
			parts[i] = cells[c]
		}
		key = strings.Join(parts, "\x00")
	}
	if j, ok := im.known[key]; ok {
		return j, nil
	}
	if len(im.known) >= maxNamed { // what was looked up can be looked up again
		clear(im.known)
	}
	j := &joinable{at: map[string]string{}}
	var err error
	if id != "" {
		if j.sub, err = im.m.living(ctx, im.by.Tenant, id, nil); err != nil {
			j.fault, err = ownFault(err)
		}
	} else {
		j.sub, err = im.m.wishedFor(ctx, im.by.Tenant, &faults{}, &Wish{Types: entries(cells[columnTypes]), Object: cells[columnScope],
			Applies: cells[columnApplies], ObjectTypes: entries(cells[columnObjectTypes]), Filter: cells[columnFilter]})
		if err != nil {
			j.fault, err = ownFault(err)
		} else if have, found, e := im.m.store.Subscription(ctx, im.by.Tenant, j.sub.ID); e != nil {
			err = e
		} else if found && have.State == belfry.SubscriptionEnded {
			j.fault = "the subscription for this, " + have.ID + ", was ended: " + have.Because
		} else if j.fresh = !found; found {
			j.sub = have
		}
	}
	if err != nil {
		return nil, err
	}
	im.known[key] = j
	return j, nil
}

// ownFault is what is wrong with what was asked for, in words; the server's own
// troubles stay errors.
func ownFault(err error) (string, error) {
	var e *belfry.Error
	if !errors.As(err, &e) || e.Kind != belfry.Invalid && e.Kind != belfry.NotFound && e.Kind != belfry.Conflict {
		return "", err
	}
	if len(e.Fields) > 0 {
		return rowFault(e.Fields), nil
	}
	return e.Msg, nil
}

// store decides about the rows of a chunk by what is stored, and stores what
// they change in one edit.
func (im *Import) store(ctx context.Context, chunk []*importRow) error {
	_, err := retry(nil, func() (struct{}, error) { return struct{}{}, im.apply(ctx, chunk) })
	return err
}

func (im *Import) apply(ctx context.Context, chunk []*importRow) error {
	m := im.m
	var names []string
	var keys []belfry.JoinKey
	for _, r := range chunk {
		if r.named {
			names = append(names, r.who)
		}
		if r.to != nil && r.to.fault == "" {
			keys = append(keys, belfry.JoinKey{Subscription: r.mb.Subscription, Principal: r.who})
		}
	}
	who, err := m.principals(ctx, im.by.Tenant, names)
	if err != nil {
		return err
	}
	stand, err := m.store.Joins(ctx, im.by.Tenant, keys, im.o.Ask)
	if err != nil {
		return err
	}
	now := m.now()
	action := "members.import"
	ch := m.change(im.by, action, reasonOr(im.o.Subscription, "subscriptions"))
	fresh := map[string]*joinable{}
	for _, r := range chunk {
		if r.to == nil || r.to.fault != "" || r.out.Outcome != "" && !r.put && !r.invite {
			continue
		}
		r.put, r.invite = false, false
		if r.named && !who[r.who] && !pseudo(r.who) {
			r.refuse("there is no user or group %q", r.who)
			continue
		}
		j := stand[belfry.JoinKey{Subscription: r.mb.Subscription, Principal: r.who}]
		if j == nil {
			j = &belfry.Joins{}
		}
		im.decide(r, j)
		if !r.put && !r.invite {
			continue
		}
		if r.to.fresh {
			fresh[r.to.sub.ID] = r.to
		}
		if r.invite {
			ch.Asks = append(ch.Asks, m.newAsk(im.by, r.mb.Subscription, r.who, r.mb.Object, belfry.AskInvite))
			continue
		}
		r.mb.Since, r.mb.By = now, im.by.Who
		ch.Members = append(ch.Members, r.mb)
	}
	for id, j := range fresh {
		if im.made[id] {
			continue
		}
		ch.Subscriptions = append(ch.Subscriptions, j.sub)
		ch.IfMatch = append(ch.IfMatch, belfry.Expectation{Kind: belfry.KindSubscription, Key: id})
	}
	if len(ch.Members)+len(ch.Asks) == 0 {
		return nil
	}
	if !im.o.DryRun {
		ch.Audit[0].Detail = fmt.Sprintf("%d joined, %d asked, to line %d", len(ch.Members), len(ch.Asks), chunk[len(chunk)-1].line)
		if _, err := m.store.Apply(ctx, ch); err != nil {
			if belfry.KindOf(err) == belfry.Stale { // somebody else made one of the subscriptions
				for id, j := range fresh {
					have, found, err := m.store.Subscription(ctx, im.by.Tenant, id)
					if err != nil {
						return err
					}
					if found {
						j.sub, j.fresh = have, false
					}
				}
			}
			return err
		}
	}
	for id := range fresh {
		if !im.made[id] {
			im.made[id] = true
			im.totals.Created++
		}
		fresh[id].fresh = im.o.DryRun // a dry run knows it by made
	}
	return nil
}

// decide says what becomes of a row, by how its principal stands to its
// subscription.
func (im *Import) decide(r *importRow, stand *belfry.Joins) {
	m, have := im.m, stand.Members
	title := r.to.sub.Title
	if title == "" {
		title = r.to.sub.ID
	}
	i := slices.IndexFunc(have, func(h belfry.Member) bool { return h.Object == r.mb.Object })
	switch {
	case stand.OptedOut:
		r.refuse("%s left %q by herself: a list does not bring her back; add her by name if she asks for it", r.who, title)
	case i >= 0 && im.o.Ask:
		r.say(RowUnchanged, "%s has joined %q already", r.who, title)
	case i >= 0 && slices.Equal(have[i].Channels, r.mb.Channels) && string(mustJSON(have[i].Frequency)) == string(mustJSON(r.mb.Frequency)):
		r.say(RowUnchanged, "%s has joined %q already", r.who, title)
	case i >= 0 && have[i].By == "":
		r.say(RowUnchanged, "%s joined %q by herself: what she chose stays", r.who, title)
	case i >= 0:
		r.put = true
		r.say(RowChanged, "%s hears of %q by other channels, or at other times", r.who, title)
	case im.o.Ask:
		if !r.named && !m.channels.Known(im.by.Tenant, "email") {
			r.refuse("%s cannot be asked: there is no channel email", r.who)
			return
		}
		if slices.ContainsFunc(stand.Invited, func(a belfry.Ask) bool { return a.Object == r.mb.Object && m.now().Before(a.Until) }) {
			r.say(RowUnchanged, "%s was asked already and has not answered", r.who)
			return
		}
		r.invite = true
		r.say(RowAsked, "%s is asked whether to join %q", r.who, title)
	default:
		r.put = true
		r.say(RowJoined, "%s joins %q", r.who, title)
	}
}

// ExportMembers writes who joined a subscription as a table that ImportMembers
// takes; or, of no subscription, who joined which of all that have not ended.
func (m *Manager) ExportMembers(ctx context.Context, tenant, subscription string, out io.Writer) error {
	w := csv.NewWriter(out)
	w.UseCRLF = true
	if subscription != "" {
		if _, ok, err := m.store.Subscription(ctx, tenant, subscription); err != nil || !ok {
			if err == nil {
				err = notFound("subscription", subscription)
			}
			return err
		}
		if err := w.Write(memberColumns); err != nil {
			return err
		}
		if err := m.exportMembers(ctx, w, tenant, subscription, nil); err != nil {
			return err
		}
		w.Flush()
		return w.Error()
	}
	if err := w.Write(subscriptionColumns); err != nil {
		return err
	}
	const page = 1000
	for after := ""; ; {
		subs, err := m.store.Subscriptions(ctx, tenant, after, page)
		if err != nil {
			return err
		}
		for i := range subs {
			s := &subs[i]
			if s.State == belfry.SubscriptionEnded {
				continue
			}
			lead := []string{s.ID, s.Title, "", "", "", "", ""}
			if s.Origin == belfry.FromPerson && len(s.Filters) == 0 && sharedID(s) == s.ID { // its criteria say all, also elsewhere
				lead = []string{"", s.Title, strings.Join(s.Types, ";"), s.Scope.Object, s.Scope.Applies, strings.Join(s.ObjectTypes, ";"), s.Filter}
			}
			if err := m.exportMembers(ctx, w, tenant, s.ID, lead); err != nil {
				return err
			}
		}
		if len(subs) < page {
			w.Flush()
			return w.Error()
		}
		after = subs[len(subs)-1].ID
	}
}

func (m *Manager) exportMembers(ctx context.Context, w *csv.Writer, tenant, subscription string, lead []string) error {
	const page = 1000
	for after := ""; ; {
		ms, err := m.store.Members(ctx, tenant, subscription, after, page)
		if err != nil {
			return err
		}
		ids := make([]string, len(ms))
		for i := range ms {
			ids[i] = ms[i].Principal
		}
		who, err := m.principals(ctx, tenant, ids)
		if err != nil {
			return err
		}
		for i := range ms {
			mb := &ms[i]
			user, email := mb.Principal, ""
			if !who[user] && belfry.IsAddress(user) {
				user, email = "", user
			}
			often := ""
			if mb.Frequency != nil {
				if often = mb.Frequency.Every; *mb.Frequency != (belfry.Frequency{Every: often}) {
					often = string(mustJSON(mb.Frequency))
				}
			}
			row := slices.Concat(lead, []string{user, email, mb.Object, strings.Join(mb.Channels, ";"), often, mb.By, mb.Since.UTC().Format(time.RFC3339)})
			for k := range row {
				row[k] = cellOf(row[k])
			}
			if err := w.Write(row); err != nil {
				return err
			}
		}
		if len(ms) < page {
			return nil
		}
		after = ms[len(ms)-1].Principal
	}
}
