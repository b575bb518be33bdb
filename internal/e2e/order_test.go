package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// would is what explaining an event that is not sent answers.
func (c *edge) would(verb string, edit m) belfry.Answer {
	c.t.Helper()
	body := m{"source": "/edges", "type": c.typ + verb, "object": c.at}
	maps.Copy(body, edit)
	var a belfry.Answer
	c.call(http.MethodPost, "/v1/explain", body, &a)
	return a
}

// lines are what an answer says of its people: who, by which way, the outcome
// and every reason in words, without the ids of what was sent, whose order is
// that of what is told apart.
func lines(a belfry.Answer) (list []string) {
	for _, p := range a.People {
		var because []string
		for _, r := range p.Because {
			because = append(because, fmt.Sprintf("%s[%s/%d %s]", r.Code, r.Subscription, r.Rule, r.Text))
		}
		slices.Sort(because)
		list = append(list, fmt.Sprintf("%s%s%s %s %s: %s", p.Principal, p.Address, p.Endpoint, p.Channel, p.Outcome, strings.Join(because, " ")))
	}
	slices.Sort(list)
	return list
}

// asExplained sends an event after it was explained: what becomes of everybody
// is what was said, for the same reasons.
func (c *edge) asExplained(verb string, edit m) string {
	c.t.Helper()
	said := lines(c.would(verb, edit))
	id := c.happens(verb, edit)
	if diff := cmp.Diff(said, lines(c.trace(id, ""))); diff != "" {
		c.t.Errorf("explained, and what was decided (-explained +traced):\n%s", diff)
	}
	return id
}

// arrived is what a person has of an event: inbox and email, each with what
// decided it, email with the frequency by which it waits if it does; and what
// she has not, with why.
func (c *edge) arrived(event string) map[string]string {
	c.t.Helper()
	c.quiet()
	got := map[string]string{}
	for _, e := range c.inbox(c.who) {
		if e.Event == event {
			var why belfry.Why
			c.call(http.MethodGet, "/v1/deliveries/"+e.ID+"/why", nil, &why)
			got["inbox"] = decided(why.Decided)
		}
	}
	if letters := len(c.letters()); letters > 1 {
		c.t.Errorf("%d letters came", letters)
	} else if letters == 1 {
		got["email"] = "nothing that is known"
	}
	for _, d := range all[delivery](c.house, "/v1/deliveries?event="+event+"&recipient="+url.QueryEscape(c.who)+"&") {
		if _, came := got[d.Channel]; came && d.State == "delivered" {
			var why belfry.Why
			c.call(http.MethodGet, "/v1/deliveries/"+d.ID+"/why", nil, &why)
			got[d.Channel] = decided(why.Decided)
		}
	}
	for _, l := range c.trace(event, c.who).People {
		if list := c.digestsOf(c.who, "open"); len(list) == 1 && l.Outcome == belfry.Told {
			got["email"] = decided(l.Because) + " " + list[0].Frequency.Every
		} else if l.Outcome == belfry.NotTold {
			got["not "+l.Channel] = l.Because[len(l.Because)-1].Code
		}
	}
	return got
}

// decided are the reasons after those that name somebody.
func decided(because []belfry.ReasonView) string {
	list := slices.DeleteFunc(slices.Clone(because), func(r belfry.ReasonView) bool {
		return strings.HasPrefix(r.Code, "named_") || r.Code == belfry.InDigest
	})
	return codes(list)
}

// saying gives the case's type, subscription, member and preferences what
// the settings of a row put together: each thing is stored once, whole.
type saying struct {
	*edge
	typ, sub, member, pref, tenant m
	then                           func() // after all of it is stored
}

func (s *saying) store() {
	if len(s.typ) > 0 {
		s.typ["title"] = "Set"
		s.call(http.MethodPut, "/v1/event-types/"+s.edge.typ+"set", s.typ, nil)
	}
	body := m{"recipients": []m{}, "notify": []m{}, "joining": m{"who": "members", "greet": false}}
	maps.Copy(body, s.sub)
	id := s.edge.sub(nil, body)
	member := m{"principal": s.who}
	maps.Copy(member, s.member)
	s.call(http.MethodPost, "/v1/subscriptions/"+id+"/members", member, nil)
	if len(s.pref) > 0 {
		s.call(http.MethodPut, "/v1/users/"+s.who+"/preferences", []m{s.pref}, nil)
	}
	if len(s.tenant) > 0 {
		s.call(http.MethodPut, "/v1/settings", s.tenant, nil)
	}
	if s.then != nil {
		s.then()
	}
}

// Who decides channel and frequency, the first that speaks: each level in turn
// overrides all below it and none above it. What is read is what arrived, and
// what the trace and the explanation say decided it.
//
// feature: PEER-8, CPS-23, S3-22, NEW-1, PEER-14
func TestOrderOfWhoDecides(t *testing.T) {
	e := newEdges(t)
	inbox, email := []string{"inbox"}, []string{"email"}
	type level struct {
		name string
		set  func(s *saying, channels []string, every string)
		by   string
	}
	levels := []level{ // the first that speaks decides
		{"the member's setting", func(s *saying, channels []string, every string) {
			s.member = m{"channels": channels, "frequency": every}
		}, belfry.ByMember},
		{"the person's preference", func(s *saying, channels []string, every string) {
			s.pref = m{"channels": channels, "frequency": every}
		}, belfry.ByPreference},
		{"the subscription", func(s *saying, channels []string, every string) {
			s.sub = m{"notify": []m{{"channels": channels}}, "frequency": every}
		}, belfry.BySubscription},
		{"the type's default", func(s *saying, channels []string, every string) {
			s.typ = m{"channels": m{"default": channels}, "frequency": every}
		}, belfry.ByType},
		{"the tenant's default", func(s *saying, channels []string, every string) {
			s.tenant = m{"channels": channels, "frequency": every}
		}, belfry.ByTenant},
	}
	arrives := func(c *edge, want map[string]string) {
		c.t.Helper()
		if diff := cmp.Diff(want, c.arrived(c.asExplained("set", nil))); diff != "" {
			c.t.Errorf("what arrived, and what decided it (-want +got):\n%s", diff)
		}
	}
	for i, high := range levels {
		for _, low := range levels[i+1:] {
			for _, way := range []struct {
				high, low []string
				want      map[string]string
			}{
				{inbox, email, map[string]string{"inbox": high.by}},
				{email, inbox, map[string]string{"email": high.by + " weekly"}},
			} {
				e.row(t, fmt.Sprintf("%s (%s) before %s", high.name, way.high[0], low.name), func(c *edge) {
					s := &saying{edge: c}
					low.set(s, way.low, "never")
					high.set(s, way.high, "weekly")
					s.store()
					arrives(c, way.want)
					// The frequency that holds is said with what it comes from.
					for _, set := range c.effective() {
						if set.Setting == "frequency" && high.by == belfry.ByPreference && (set.Value != "weekly" || set.Because.Code != high.by) {
							c.t.Errorf("the effective frequency: %+v", set)
						}
					}
					c.call(http.MethodPut, "/v1/settings", m{}, nil)
				})
			}
		}
	}
	for _, r := range []struct {
		name string
		set  func(s *saying)
		want map[string]string
	}{
		{"nobody speaks: inbox and mail, at once", func(*saying) {}, map[string]string{"inbox": belfry.ByTenant, "email": belfry.ByTenant}},
		{"the administrator's force stands beside what the member chose", func(s *saying) {
			s.typ, s.member = m{"channels": m{"forced": email}}, m{"channels": inbox}
		}, map[string]string{"email": belfry.ByForced, "inbox": belfry.ByMember}},
		{"force before the global stop, which the rest obeys", func(s *saying) {
			s.typ, s.member = m{"channels": m{"forced": email}}, m{"channels": inbox}
			s.call(http.MethodPut, "/v1/users/"+s.who+"/settings", m{"stop": true}, nil)
		}, map[string]string{"email": belfry.ByForced, "not inbox": belfry.GlobalStop}},
		{"force before never", func(s *saying) {
			s.typ, s.member = m{"channels": m{"forced": email}}, m{"frequency": "never"}
		}, map[string]string{"email": belfry.ByForced, "not inbox": belfry.FrequencyIsNever}},
		{"the administrator's forbid before what the member chose", func(s *saying) {
			s.typ, s.member = m{"channels": m{"forbidden": email}}, m{"channels": []string{"inbox", "email"}}
		}, map[string]string{"inbox": belfry.ByMember, "not email": belfry.ChannelForbidden}},
		{"forbid before mandatory", func(s *saying) {
			s.typ, s.member = m{"channels": m{"forbidden": email}, "mandatory": true}, m{"channels": []string{"inbox", "email"}}
		}, map[string]string{"inbox": belfry.ByMember, "not email": belfry.ChannelForbidden}},
		{"mandatory before the global stop", func(s *saying) {
			s.typ, s.member = m{"mandatory": true}, m{"channels": email}
			s.call(http.MethodPut, "/v1/users/"+s.who+"/settings", m{"stop": true}, nil)
		}, map[string]string{"email": belfry.ByMember + " " + belfry.ByMandatory}},
		{"mandatory before a mute; by which way is hers to say", func(s *saying) {
			s.typ, s.pref = m{"mandatory": true}, m{"channels": inbox, "mute_until": time.Now().Add(time.Hour).Format(time.RFC3339)}
		}, map[string]string{"inbox": belfry.ByPreference + " " + belfry.ByMandatory}},
		{"mandatory before the frequency of member and preference", func(s *saying) {
			s.typ, s.member, s.pref = m{"mandatory": true}, m{"channels": email, "frequency": "weekly"}, m{"frequency": "never"}
		}, map[string]string{"email": belfry.ByMember}},
		{"mandatory not before the subscription's frequency", func(s *saying) {
			s.typ, s.sub = m{"mandatory": true}, m{"notify": []m{{"channels": email}}, "frequency": "daily"}
		}, map[string]string{"email": belfry.BySubscription + " daily"}},
		{"mandatory before a deleted user: never", func(s *saying) {
			s.typ = m{"mandatory": true}
			s.then = func() { s.call(http.MethodDelete, "/v1/users/"+s.who, nil, nil) }
		}, map[string]string{"not ": belfry.UserIsDeleted}},
		{"the global stop before the member's setting", func(s *saying) {
			s.member = m{"channels": email, "frequency": "immediate"}
			s.call(http.MethodPut, "/v1/users/"+s.who+"/settings", m{"stop": true}, nil)
		}, map[string]string{"not ": belfry.GlobalStop}},
		{"the level before the member's channels", func(s *saying) {
			s.member, s.pref = m{"channels": email}, m{"level": "none"}
		}, map[string]string{"not ": belfry.LevelIsNone}},
		{"a mute before the level", func(s *saying) {
			s.pref = m{"level": "none", "mute_until": time.Now().Add(time.Hour).Format(time.RFC3339)}
		}, map[string]string{"not ": belfry.Muted}},
		{"the member's frequency alone leaves her channels to the preference", func(s *saying) {
			s.member, s.pref = m{"frequency": "daily"}, m{"channels": email, "frequency": "weekly"}
		}, map[string]string{"email": belfry.ByPreference + " daily"}},
		{"the member's channels alone leave her frequency to the subscription", func(s *saying) {
			s.member, s.sub = m{"channels": email}, m{"frequency": "monthly"}
		}, map[string]string{"email": belfry.ByMember + " monthly"}},
	} {
		e.row(t, r.name, func(c *edge) {
			s := &saying{edge: c}
			r.set(s)
			s.store()
			arrives(c, r.want)
		})
	}
}

// Of what waits for somebody who has stopped all messages meanwhile, what is
// mandatory is told, and nothing else.
//
// feature: PEER-8, NEW-11
func TestMandatoryAmongWhatWaits(t *testing.T) {
	e := newEdges(t)
	e.row(t, "a digest", func(c *edge) {
		c.call(http.MethodPut, "/v1/event-types/"+c.typ+"must", m{"title": "Must", "mandatory": true}, nil)
		c.sub("daily", nil)
		must, may := c.happens("must", nil), c.happens("may", nil)
		c.call(http.MethodPut, "/v1/users/"+c.who+"/settings", m{"stop": true}, nil)
		c.hasten(c.open().ID)
		l := c.comes(1)
		if !strings.Contains(l.text, "Must") || strings.Contains(l.text, "may: Thing") {
			c.t.Errorf("%s", l.text)
		}
		if got := c.fate(must) + ", " + c.fate(may); got != "told, named_user by_subscription in_digest global_stop" {
			c.t.Error(got)
		}
	})
}

// effective are the settings that hold for the case's person.
func (c *edge) effective() []belfry.EffectiveSetting {
	c.t.Helper()
	var page struct{ Items []belfry.EffectiveSetting }
	c.call(http.MethodGet, "/v1/users/"+c.who+"/effective?object="+c.at+"&type="+c.typ+"set", nil, &page)
	return page.Items
}

// Of a person's preferences the closest object decides, then the most specific
// type, for each setting by itself; the effective setting shows where it comes
// from.
//
// feature: PEER-8, MDL-20
func TestOrderOfPreferences(t *testing.T) {
	e := newEdges(t)
	for _, r := range []struct {
		name  string
		prefs func(c *edge) []m
		want  map[string]string
		from  func(c *edge) belfry.EffectiveSetting // of the deciding setting
	}{
		{"the object before the place it is in", func(c *edge) []m {
			return []m{{"object": "place", "channels": []string{"email"}}, {"object": c.at, "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Object: c.at}
		}},
		{"the place before everywhere", func(*edge) []m {
			return []m{{"channels": []string{"email"}}, {"object": "place", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(*edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Object: "place"}
		}},
		{"another place's is not hers here", func(c *edge) []m {
			c.call(http.MethodPut, "/v1/objects/elsewhere", m{"type": "place"}, nil)
			return []m{{"object": "elsewhere", "channels": []string{"email"}}, {"channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(*edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox"}
		}},
		{"the closer object before the more specific type", func(c *edge) []m {
			return []m{{"type": c.typ + "set", "channels": []string{"email"}}, {"object": "place", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(*edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Object: "place"}
		}},
		{"the type before its category", func(c *edge) []m {
			return []m{{"category": c.who, "channels": []string{"email"}}, {"type": c.typ + "set", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Type: c.typ + "set"}
		}},
		{"the category before a prefix", func(c *edge) []m {
			return []m{{"type": c.typ + "se*", "channels": []string{"email"}}, {"category": c.who, "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Category: c.who}
		}},
		{"the longer prefix before the shorter", func(c *edge) []m {
			return []m{{"type": c.typ + "*", "channels": []string{"email"}}, {"type": c.typ + "se*", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Type: c.typ + "se*"}
		}},
		{"a prefix before all types", func(c *edge) []m {
			return []m{{"channels": []string{"email"}}, {"type": c.typ + "*", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Type: c.typ + "*"}
		}},
		{"each setting by itself: the closer level leaves the channels to the farther", func(c *edge) []m {
			return []m{{"object": "place", "channels": []string{"inbox"}, "level": "none"}, {"object": c.at, "level": "all"}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "level", Value: "all", Object: c.at}
		}},
		{"the closer level that says none", func(c *edge) []m {
			return []m{{"level": "all"}, {"object": c.at, "level": "none"}}
		}, map[string]string{"not ": belfry.LevelIsNone}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "level", Value: "none", Object: c.at}
		}},
		{"only what is about her, and this is not", func(c *edge) []m {
			return []m{{"object": c.at, "level": "related"}}
		}, map[string]string{"not ": belfry.NotAboutThem}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "level", Value: "related", Object: c.at}
		}},
		{"a mute of the place, whatever the object's level", func(c *edge) []m {
			return []m{{"object": "place", "mute_until": "9999-01-01T00:00:00Z"}, {"object": c.at, "level": "all"}}
		}, map[string]string{"not ": belfry.Muted}, func(*edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "mute_until", Value: "9999-01-01T00:00:00Z", Object: "place"}
		}},
		{"a mute that is over is silent", func(c *edge) []m {
			return []m{{"object": c.at, "mute_until": "2001-01-01T00:00:00Z", "channels": []string{"inbox"}}}
		}, map[string]string{"inbox": belfry.ByPreference}, func(c *edge) belfry.EffectiveSetting {
			return belfry.EffectiveSetting{Setting: "channel", Value: "inbox", Object: c.at}
		}},
	} {
		e.row(t, r.name, func(c *edge) {
			c.call(http.MethodPut, "/v1/event-types/"+c.typ+"set", m{"title": "Set", "category": c.who}, nil)
			c.sub(nil, m{"notify": []m{}})
			c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", r.prefs(c), nil)
			if diff := cmp.Diff(r.want, c.arrived(c.asExplained("set", nil))); diff != "" {
				c.t.Errorf("what arrived, and what decided it (-want +got):\n%s", diff)
			}
			from := r.from(c)
			if !slices.ContainsFunc(c.effective(), func(s belfry.EffectiveSetting) bool {
				return s.Setting == from.Setting && s.Value == from.Value && s.Object == from.Object && s.Type == from.Type && s.Category == from.Category
			}) {
				c.t.Errorf("effective: %+v, want %+v among them", c.effective(), from)
			}
		})
	}
}

// The order in which recipients are found and left out: of two reasons to leave
// somebody out the earlier is the one that is named, and everybody who is left
// is told once, for all reasons.
//
// feature: CPS-7, CPS-8, CPS-24, NEW-1, NEW-4, NEW-10
func TestOrderOfResolution(t *testing.T) {
	e := newEdges(t)
	group := func(c *edge) []m {
		c.call(http.MethodPut, "/v1/groups/g"+c.who, m{"members": []string{c.who}}, nil)
		return []m{{"explicit": m{"groups": []string{"g" + c.who}}}}
	}
	leave := func(c *edge, sub string) {
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/leave", m{"user": c.who}, nil)
	}
	open := m{"who": "members", "greet": false}
	state := func(c *edge, state string) { c.call(http.MethodPatch, "/v1/users/"+c.who, m{"state": state}, nil) }
	unseen := func(c *edge) {
		c.call(http.MethodPut, "/v1/event-types/"+c.typ+"set", m{"title": "Set", "see_roles": []string{"reader"}}, nil)
	}
	for _, r := range []struct {
		name  string
		set   func(c *edge)
		event func(c *edge) m
		want  string
	}{
		{"a group is expanded before somebody's opt-out is looked at", func(c *edge) { leave(c, c.sub(nil, m{"recipients": group(c), "joining": open})) }, nil,
			"named_group opted_out"},
		{"the opt-out before the exclusion", func(c *edge) {
			leave(c, c.sub(nil, m{"recipients": group(c), "joining": open, "exclude": m{"users": []string{c.who}}}))
		}, nil, "named_group opted_out"},
		{"a group is expanded before the exclusion", func(c *edge) { c.sub(nil, m{"recipients": group(c), "exclude": m{"users": []string{c.who}}}) }, nil,
			"named_group blacklisted"},
		{"the exclusion before the actor", func(c *edge) { c.sub(nil, m{"exclude": m{"users": []string{c.who}}}) },
			func(c *edge) m { return m{"actor": c.who} }, "named_user blacklisted"},
		{"the actor before her state", func(c *edge) { c.sub(nil, nil); state(c, "suspended") },
			func(c *edge) m { return m{"actor": c.who} }, "named_user is_actor"},
		{"her state before what she may see", func(c *edge) { c.sub(nil, nil); state(c, "suspended"); unseen(c) }, nil, "named_user user_suspended"},
		{"a hidden object before the type's roles", func(c *edge) {
			c.sub(nil, nil)
			unseen(c)
			c.call(http.MethodPatch, "/v1/objects/"+c.at, m{"hidden": true}, nil)
		}, nil, "named_user object_hidden"},
		{"what she may see before what she wants", func(c *edge) {
			c.sub(nil, nil)
			unseen(c)
			c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{{"level": "none"}}, nil)
		}, nil, "named_user may_not_see"},
		{"a silent event after all of these", func(c *edge) { c.sub(nil, nil) }, func(*edge) m { return m{"flags": []string{"silent"}} }, "named_user event_silent"},
		{"left out by one subscription, named by another", func(c *edge) {
			c.sub(nil, m{"exclude": m{"users": []string{c.who}}})
			c.sub(nil, m{"recipients": group(c)})
		}, nil, "told"},
		{"left out by each for another reason: both are kept", func(c *edge) {
			c.sub(nil, m{"exclude": m{"users": []string{c.who}}})
			c.sub(nil, m{"recipients": group(c)})
		}, func(c *edge) m { return m{"actor": c.who} }, "named_user named_group blacklisted is_actor"},
	} {
		e.row(t, r.name, func(c *edge) {
			r.set(c)
			edit := m{}
			if r.event != nil {
				edit = r.event(c)
			}
			if got := c.fate(c.asExplained("set", edit)); got != r.want {
				c.t.Errorf("%s, want %s", got, r.want)
			}
			if r.want == "told" {
				c.comes(1)
			} else {
				c.none(0)
			}
		})
	}

	e.row(t, "one person named in every way is told once, with each reason", func(c *edge) {
		rules := append(group(c), m{"explicit": m{"users": []string{c.who}, "emails": []string{c.who + "@Example.org"}}}, m{"role": m{"roles": []string{"reader"}}},
			m{"computed": m{"expression": "event.data.to"}}, m{"related": m{}}, m{"workflow": m{}})
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{{"principal": c.who, "role": "reader"}}, nil)
		c.call(http.MethodPost, "/v1/objects/"+c.at+"/history", []m{{"transition": "publish", "actor": c.who, "time": "2026-01-01T00:00:00Z"}}, nil)
		c.sub(nil, m{"recipients": rules})
		a := c.trace(c.asExplained("set", m{"data": m{"to": c.who}, "related": []string{c.who}}), c.who)
		if len(a.People) != 1 || codes(a.People[0].Because) != "named_group named_user named_address named_role named_computed named_related named_workflow by_subscription" {
			c.t.Errorf("%v", lines(a))
		}
		c.comes(1)
	})
	e.row(t, "two people with one address: the second is not written to again, and that is said", func(c *edge) {
		c.call(http.MethodPut, "/v1/users/"+c.who+"z", m{"name": "Twin", "email": strings.ToUpper(c.who) + "@example.org"}, nil)
		c.sub(nil, m{"recipients": []m{{"explicit": m{"users": []string{c.who, c.who + "z"}}}}})
		id := c.asExplained("set", nil)
		if got := fates(c.trace(id, "")); got[c.who] != "told" || got[c.who+"z"] != "named_user same_address" {
			c.t.Errorf("%v", got)
		}
		c.comes(1)
	})
	e.row(t, "somebody of whom nothing but the address is known, twice: once", func(c *edge) {
		address := "guest-" + c.who + "@example.org"
		c.sub(nil, m{"recipients": []m{{"explicit": m{"emails": []string{address}}}, {"explicit": m{"emails": []string{strings.ToUpper(address)}}}}})
		id := c.asExplained("set", nil)
		c.quiet()
		if got := fates(c.trace(id, "")); got[address] != "told" || len(c.mail.to(address)) != 1 {
			c.t.Errorf("%v, %d letters", got, len(c.mail.to(address)))
		}
	})
	e.row(t, "an address that somebody has is hers: what she wants holds for it", func(c *edge) {
		c.sub(nil, m{"recipients": []m{{"explicit": m{"emails": []string{c.who + "@example.org"}}}}})
		c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{{"level": "none"}}, nil)
		if got := c.fate(c.asExplained("set", nil)); got != "named_address level_none" {
			c.t.Error(got)
		}
		c.none(0)
	})
}

// Of several subscriptions that name one person one leads: its words and its
// link are the message's; and nobody waits for another's sake.
//
// feature: CPS-18, NEW-8, S3-15
func TestOrderOfWhichSubscriptionLeads(t *testing.T) {
	e := newEdges(t)
	says := func(words string, more m) m {
		s := m{"notify": []m{{"channels": []string{"email"}, "subject": words, "body": "b"}}}
		maps.Copy(s, more)
		return s
	}
	for _, r := range []struct {
		name          string
		follows, lead func(c *edge) // made in this order
	}{
		{"what is mandatory before what she joined",
			func(c *edge) {
				id := c.sub(nil, says("follows", m{"recipients": []m{}, "joining": m{"who": "members", "greet": false}}))
				c.call(http.MethodPost, "/v1/subscriptions/"+id+"/join", m{"user": c.who}, nil)
			},
			func(c *edge) { c.sub(nil, says("leads", m{"mandatory": true})) }},
		{"what she joined before the closer scope",
			func(c *edge) { c.sub(nil, says("follows", m{"scope": m{"object": c.at}})) },
			func(c *edge) {
				id := c.sub(nil, says("leads", m{"recipients": []m{}, "joining": m{"who": "members", "greet": false}}))
				c.call(http.MethodPost, "/v1/subscriptions/"+id+"/join", m{"user": c.who}, nil)
			}},
		{"the closer scope before the more specific type",
			func(c *edge) {
				c.sub(nil, says("follows", m{"scope": m{"object": "place"}, "types": []string{c.typ + "set"}}))
			},
			func(c *edge) { c.sub(nil, says("leads", m{"scope": m{"object": c.at}})) }},
		{"the more specific type before the older",
			func(c *edge) { c.sub(nil, says("follows", nil)) },
			func(c *edge) { c.sub(nil, says("leads", m{"types": []string{c.typ + "set"}})) }},
	} {
		e.row(t, r.name, func(c *edge) {
			r.follows(c)
			r.lead(c)
			c.asExplained("set", nil)
			if l := c.comes(1); l.subject != "leads" {
				c.t.Errorf("%q leads", l.subject)
			}
		})
	}
	e.row(t, "of equals the older", func(c *edge) {
		c.sub(nil, says("leads", nil))
		c.sub(nil, says("follows", nil))
		c.happens("set", nil)
		if l := c.comes(1); l.subject != "leads" {
			c.t.Errorf("%q leads", l.subject)
		}
	})
	e.row(t, "the earliest is when it goes: one that waits keeps nobody waiting", func(c *edge) {
		c.sub("weekly", says("leads", m{"types": []string{c.typ + "set"}}))
		c.sub(nil, says("follows", nil))
		c.asExplained("set", nil)
		if l := c.comes(1); l.subject != "leads" {
			c.t.Errorf("%q leads", l.subject)
		}
		if list := c.digestsOf(c.who, "open"); len(list) != 0 {
			c.t.Errorf("%+v wait besides", list)
		}
	})
	e.row(t, "one that is kept apart has its own message", func(c *edge) {
		c.sub(nil, says("together", nil))
		c.sub(nil, says("together too", nil))
		c.sub(nil, says("apart", m{"merge": false}))
		c.asExplained("set", nil)
		c.comes(2)
		subjects := []string{c.letters()[0].subject, c.letters()[1].subject}
		if slices.Sort(subjects); !slices.Equal(subjects, []string{"apart", "together"}) {
			c.t.Errorf("%q", subjects)
		}
	})
}
