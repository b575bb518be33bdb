package manage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// HoldingStore finds and erases what is stored about people.
type HoldingStore interface {
	Holdings(ctx context.Context, tenant, part string, s *belfry.Subject, after string, limit int) (list []belfry.Holding, next string, err error)
	EraseHoldings(ctx context.Context, j *belfry.Job, part string, s *belfry.Subject, list []belfry.Holding, step func(cancelled []string) belfry.JobStep) (ok bool, err error)
	EraseJob(ctx context.Context, j *belfry.Job, s *belfry.Subject, params []byte, step belfry.JobStep) (ok bool, err error)
	PersonsByEmail(ctx context.Context, tenant string, emails []string) (map[string]string, error)
	Joined(ctx context.Context, tenant, principal string, limit int) ([]belfry.Member, error)
	OptedOut(ctx context.Context, tenant, who string, limit int) ([]belfry.OptOut, error)
	Attempts(ctx context.Context, tenant, deliveryID string) ([]belfry.Attempt, error)
}

// Parts are what is stored about people, by the store's names, in the order in
// which it is erased, and which of it changes by edits.
type Parts struct {
	All   []string
	Edits map[string]bool
}

// subject is somebody as what is stored names her: a user, or a bare address.
// Addresses that another user has as well are that one's, too, and stay.
func (m *Manager) subject(ctx context.Context, tenant, id string) (*belfry.Subject, *belfry.Person, error) {
	f := &faults{}
	f.key("/id", id, maxID)
	if err := f.err(); err != nil {
		return nil, nil, err
	}
	people, err := m.store.Persons(ctx, tenant, []string{id})
	if err != nil {
		return nil, nil, err
	}
	s := &belfry.Subject{ID: id}
	p := people[id]
	var mails []string
	if p == nil {
		if strings.Contains(id, "@") {
			mails = append(mails, belfry.NormaliseEmail(id))
		}
	} else {
		s.Name = p.User.Name
		if p.User.Email != "" {
			mails = append(mails, belfry.NormaliseEmail(p.User.Email))
		}
		for _, c := range p.User.Contacts {
			switch {
			case c.Kind == "email":
				mails = append(mails, belfry.NormaliseEmail(c.Address))
			case len(c.Address) >= 6: // shorter ones may be anything
				s.Addresses = append(s.Addresses, c.Address)
			}
		}
	}
	owners, err := m.store.PersonsByEmail(ctx, tenant, mails)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range mails {
		if owner, has := owners[a]; !has || owner == id {
			s.Addresses = append(s.Addresses, a)
		}
	}
	s.Addresses = distinct(s.Addresses)
	return s, p, nil
}

// EraseUser orders that a person, or a bare address, is erased everywhere: she
// and what she chose go, what was sent to her stays without her. It may be
// ordered again, and of somebody who is not known (any more).
func (m *Manager) EraseUser(ctx context.Context, by By, id string) (belfry.Job, error) {
	s, _, err := m.subject(ctx, by.Tenant, id)
	if err != nil {
		return belfry.Job{}, err
	}
	s.Tag, s.Salt = belfry.ErasedPrefix+strings.ToLower(rand.Text()[:12]), rand.Text()
	return m.order(ctx, by, belfry.EraseJob, id, s)
}

// Bounds of an erasure.
const (
	erasePage = 500 // rows looked at in a step
	eraseList = 500 // memberships and opt-outs in an edit
)

// Stages of an erasure that are not a part of the store's.
const (
	eraseProfile = "profile"
	eraseMembers = "members"
	eraseOptOuts = "opt_outs"
)

// stages are the steps of an erasure. What was being planned while she was
// erased is looked for once more at the end.
func (m *Manager) stages() []string {
	stages := append([]string{eraseProfile, eraseMembers, eraseOptOuts}, m.parts.All...)
	for _, again := range []string{"deliveries", "inbox"} {
		if slices.Contains(m.parts.All, again) {
			stages = append(stages, again)
		}
	}
	return stages
}

// EraseStep does the next step of a job of kind belfry.EraseJob. Each may be
// done again: what is gone is not found any more.
func (m *Manager) EraseStep(ctx context.Context, j *belfry.Job) (belfry.JobStep, error) {
	step := belfry.JobStep{Cursor: j.Cursor, Done: j.Done, Total: j.Total, Result: j.Result, State: belfry.JobRunning}
	var s belfry.Subject
	if err := json.Unmarshal(j.Params, &s); err != nil {
		return step, belfry.Errorf(belfry.Internal, "the parameters of the job cannot be read: %w", err)
	}
	at, after, _ := strings.Cut(j.Cursor, "|")
	n, _ := strconv.Atoi(at) // empty at first
	stages := m.stages()
	step.Total = int64(len(stages))
	if n >= len(stages) {
		return m.eraseEnd(ctx, j, &s, step)
	}
	begun := m.now()
	next := func(found int, after string) belfry.JobStep {
		out := step
		out.Result = tally(j.Result, stages[n], found)
		if out.Cursor = fmt.Sprintf("%d|%s", n, after); after == "" {
			out.Cursor = strconv.Itoa(n + 1)
			out.Done = int64(n + 1)
		}
		out.Wait = m.now().Sub(begun) // others have half of the time
		return out
	}
	by := By{Tenant: j.Tenant, Who: j.Who}
	switch stage := stages[n]; {
	case stage == eraseProfile:
		people, err := m.store.Persons(ctx, j.Tenant, []string{s.ID})
		if err != nil {
			return step, err
		}
		if people[s.ID] != nil {
			if _, err := m.store.Apply(ctx, belfry.Changes{Tenant: j.Tenant, EraseUsers: []string{s.ID}}); err != nil {
				return step, err
			}
		}
		return next(len(people), ""), nil
	case stage == eraseMembers:
		list, err := m.store.Joined(ctx, j.Tenant, s.ID, eraseList)
		if err == nil && len(list) > 0 {
			_, err = m.store.Apply(ctx, belfry.Changes{Tenant: j.Tenant, DropMembers: list})
		}
		return next(len(list), again(len(list) == eraseList)), err
	case stage == eraseOptOuts:
		var all []belfry.OptOut
		more := false
		for _, who := range append([]string{s.ID}, s.Addresses...) {
			list, err := m.store.OptedOut(ctx, j.Tenant, who, eraseList)
			if err != nil {
				return step, err
			}
			more = more || len(list) == eraseList
			all = append(all, list...)
		}
		var err error
		if len(all) > 0 {
			_, err = m.store.Apply(ctx, belfry.Changes{Tenant: j.Tenant, DropOptOuts: all})
		}
		return next(len(all), again(more)), err
	default:
		list, place, err := m.store.Holdings(ctx, j.Tenant, stage, &s, after, erasePage)
		if err != nil {
			return step, err
		}
		if m.parts.Edits[stage] {
			return next(len(list), place), m.eraseEdits(ctx, by, stage, &s, list)
		}
		if len(list) == 0 {
			return next(0, place), nil
		}
		var cancelled []string
		var done belfry.JobStep
		ok, err := m.store.EraseHoldings(ctx, j, stage, &s, list, func(ids []string) belfry.JobStep {
			cancelled, done = ids, next(len(list), place)
			return done
		})
		if err == nil && !ok {
			err = m.lost
		}
		if err == nil && len(cancelled) > 0 {
			m.senders.Cancelled(j.Tenant, cancelled)
		}
		done.Recorded = true
		return done, err
	}
}

// again is a place to go on from, for lists whose beginning is gone each time.
func again(more bool) string {
	if more {
		return "~"
	}
	return ""
}

// tally adds to what a job has found.
func tally(result []byte, part string, n int) []byte {
	counts := map[string]int{}
	_ = json.Unmarshal(result, &counts) // empty at first
	counts[part] += n
	text, _ := json.Marshal(counts) // numbers always marshal
	return text
}

// eraseEnd forgets whom the job was for.
func (m *Manager) eraseEnd(ctx context.Context, j *belfry.Job, s *belfry.Subject, step belfry.JobStep) (belfry.JobStep, error) {
	step.Cursor, step.State, step.Recorded = "", belfry.JobDone, true
	params, err := json.Marshal(belfry.Subject{ID: s.Tag})
	if err != nil {
		return step, err
	}
	ok, err := m.store.EraseJob(ctx, j, s, params, step)
	if err == nil && !ok {
		err = m.lost
	}
	return step, err
}

// eraseEdits takes a person out of what changes by edits.
func (m *Manager) eraseEdits(ctx context.Context, by By, part string, s *belfry.Subject, list []belfry.Holding) error {
	if len(list) == 0 {
		return nil
	}
	ch := belfry.Changes{Tenant: by.Tenant}
	for i := range list {
		row := list[i].Row
		switch part {
		case "groups":
			ch.DropGroupMembers = append(ch.DropGroupMembers, belfry.GroupMember{Group: row[0], Principal: s.ID})
		case "grants":
			ch.Grants = append(ch.Grants, belfry.GrantSet{Object: row[0], Origin: row[1], Principal: s.ID})
		case "subscriptions":
			if err := m.eraseFromSubscription(ctx, by, s, row[0]); err != nil {
				return err
			}
		case "documents":
			if err := m.eraseFromDocument(ctx, by, s, row[0], row[1]); err != nil {
				return err
			}
		default:
			return belfry.Errorf(belfry.Internal, "nobody knows how to take a person out of %s", part)
		}
	}
	if ch.DropGroupMembers == nil && ch.Grants == nil {
		return nil
	}
	_, err := m.store.Apply(ctx, ch)
	return err
}

// eraseFromSubscription takes a person out of the rules, exclusions and words of
// a subscription. Her own end, as those of an object that is gone do.
func (m *Manager) eraseFromSubscription(ctx context.Context, by By, s *belfry.Subject, id string) error {
	_, err := retry(nil, func() (struct{}, error) {
		sub, ok, err := m.store.Subscription(ctx, by.Tenant, id)
		if err != nil || !ok {
			return struct{}{}, err
		}
		version := sub.Version
		if sub.Owner == s.ID {
			sub.Owner = ""
			if sub.Origin == belfry.FromPerson && sub.State != belfry.SubscriptionEnded {
				sub.State, sub.Because = belfry.SubscriptionEnded, "its owner was erased"
			}
		}
		drop := func(list []string) []string { return slices.DeleteFunc(slices.Clone(list), s.Is) }
		rules := sub.Recipients[:0:0]
		for _, r := range sub.Recipients {
			if r.Explicit != nil {
				e := *r.Explicit
				e.Users, e.Emails, e.Groups = drop(e.Users), drop(e.Emails), drop(e.Groups)
				if len(e.Users)+len(e.Emails)+len(e.Groups) == 0 {
					continue
				}
				r.Explicit = &e
			}
			rules = append(rules, r)
		}
		sub.Recipients = rules
		sub.Exclude.Users, sub.Exclude.Emails = drop(sub.Exclude.Users), drop(sub.Exclude.Emails)
		// What is left of her is in texts and filters, where something else
		// stands for her, that nobody is.
		body, err := json.Marshal(&sub)
		if err != nil {
			return struct{}{}, err
		}
		var clean belfry.Subscription
		if err := json.Unmarshal(s.JSON(body), &clean); err != nil {
			return struct{}{}, err
		}
		ch := m.change(by, "subscription.erase_person", id)
		ch.Subscriptions = []belfry.Subscription{clean}
		ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindSubscription, Key: id, Version: version}}
		_, err = m.store.Apply(ctx, ch)
		return struct{}{}, err
	})
	return err
}

// eraseFromDocument takes a person out of a piece of configuration: what it
// names as its owner, and words.
func (m *Manager) eraseFromDocument(ctx context.Context, by By, s *belfry.Subject, kind, id string) error {
	_, err := retry(nil, func() (struct{}, error) {
		doc, ok, err := m.store.Document(ctx, by.Tenant, kind, id)
		if err != nil || !ok {
			return struct{}{}, err
		}
		ch := m.change(by, kind+".erase_person", id)
		ch.Documents = []belfry.Document{{Kind: kind, ID: id, Body: s.JSON(doc.Body)}}
		ch.IfMatch = []belfry.Expectation{{Kind: kind, Key: id, Version: doc.Version}}
		_, err = m.store.Apply(ctx, ch)
		return struct{}{}, err
	})
	return err
}

// exportPage is how many rows an export looks at at once.
const exportPage = 500

// Export gives all that is held about a person, or a bare address, one thing
// after the other, to put. Somebody nobody knows may be named where it happened
// before she was known, or after she was deleted.
func (m *Manager) Export(ctx context.Context, by By, id string, put func(part string, value any) error) error {
	s, p, err := m.subject(ctx, by.Tenant, id)
	if err != nil {
		return err
	}
	ch := m.change(by, "user.export", id)
	if _, err := m.store.Apply(ctx, ch); err != nil {
		return err
	}
	if p != nil {
		for i := range p.User.Contacts {
			p.User.Contacts[i].Keys = nil // secrets of the channel
		}
		for _, v := range []struct {
			part  string
			value any
		}{{"user", p.User}, {"settings", p.Settings}, {"preferences", p.Preferences}} {
			if err := put(v.part, v.value); err != nil {
				return err
			}
		}
	}
	joined, err := m.store.Joined(ctx, by.Tenant, s.ID, maxNamed)
	if err != nil {
		return err
	}
	for i := range joined {
		if err := put("membership", joined[i]); err != nil {
			return err
		}
	}
	for _, who := range append([]string{s.ID}, s.Addresses...) {
		outs, err := m.store.OptedOut(ctx, by.Tenant, who, maxNamed)
		if err != nil {
			return err
		}
		for i := range outs {
			if err := put("opt_out", outs[i]); err != nil {
				return err
			}
		}
	}
	// What is found is what would be erased: something must stand for her.
	s.Tag, s.Salt = belfry.ErasedPrefix, "export"
	for _, part := range m.parts.All {
		if err := m.exportPart(ctx, by.Tenant, s, part, put); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) exportPart(ctx context.Context, tenant string, s *belfry.Subject, part string, put func(part string, value any) error) error {
	for after := ""; ; {
		begun := m.now()
		list, next, err := m.store.Holdings(ctx, tenant, part, s, after, exportPage)
		if err != nil {
			return err
		}
		for i := range list {
			if err := put(part, list[i].Value); err != nil {
				return err
			}
			if part != "deliveries" && part != "mails" {
				continue
			}
			attempts, err := m.store.Attempts(ctx, tenant, list[i].Row[0])
			if err != nil {
				return err
			}
			for k := range attempts {
				if err := put("attempt", viewAttempt(&attempts[k])); err != nil {
					return err
				}
			}
		}
		if next == "" {
			return nil
		}
		after = next
		select { // what happens now has half of the time
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(m.now().Sub(begun)):
		}
	}
}

// exportedAttempt is an attempt as an export shows it.
type exportedAttempt struct {
	Delivery string    `json:"delivery"`
	N        int       `json:"n"`
	At       time.Time `json:"at"`
	Outcome  string    `json:"outcome"`
	Status   int       `json:"status,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

func viewAttempt(a *belfry.Attempt) exportedAttempt {
	return exportedAttempt{a.DeliveryID, a.N, a.At, a.Outcome.Kind.String(), a.Outcome.Status, a.Outcome.Detail}
}
