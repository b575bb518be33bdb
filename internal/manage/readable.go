package manage

import (
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/words"
)

// In says the rule in another language.
func (s *Stored) In(p *words.Printer) {
	if s.known != nil {
		s.Readable = readable(&s.Subscription, s.known, p)
	}
}

// readable says a subscription in words: When core.course_* happens in CPR
// (course/41) or below and shortname is "CPR", tell Ada, group Staff and
// whoever is editingteacher there by inbox and email; call endpoint ep_….
func readable(s *belfry.Subscription, known *facts, p *words.Printer) string {
	r := reading{p, known}
	what, when, span := p.Say("rule.anything"), "rule.when", ""
	if len(s.Types) > 0 {
		what = r.or(s.Types)
	}
	if c := s.Condition; c != nil {
		if spec, _ := condition.Parse(c); spec.Absence() {
			when, span = "rule.when_not", p.Span(condition.Words(spec.Span))
			if len(s.Types) == 0 {
				when = "rule.when_nothing"
			}
		}
	}
	where := r.where(s)
	if len(s.ObjectTypes) > 0 {
		where += p.Say("rule.object_types", "Types", r.or(s.ObjectTypes))
	}
	var b strings.Builder
	b.WriteString(p.Say(when, "What", what, "Where", where, "Span", span))
	if filter := s.WholeFilter(); filter != "" {
		text, err := expr.Readable(filter, p, known.labels(p.Language()))
		if err != nil {
			text = p.Say("rule.filter_unread")
		}
		b.WriteString(p.Say("rule.if", "Filter", text))
	}
	b.WriteString(r.often(s.Condition))
	deeds := append(r.deeds(s), r.terms(s)...)
	if !s.ExcludesActor() {
		deeds = append(deeds, p.Say("rule.actor"))
	}
	if n := len(s.Exclude.Users) + len(s.Exclude.Emails); n > 0 {
		deeds = append(deeds, p.Say("rule.but", "Who", r.few(append(r.namesOf(s.Exclude.Users), s.Exclude.Emails...))))
	}
	b.WriteString(p.Say("rule.colon"))
	b.WriteString(strings.Join(deeds, p.Say("rule.semicolon")))
	return b.String()
}

// reading is what the parts of a sentence are made with.
type reading struct {
	*words.Printer
	known *facts
}

func (r reading) where(s *belfry.Subscription) string {
	place, root := "", s.ScopeObject() == belfry.RootObject
	switch o := r.known.object; {
	case root:
		place = r.Say("rule.site")
	case o != nil && o.Title != "":
		place = o.Title + " (" + s.Scope.Object + ")"
	default:
		place = s.Scope.Object
	}
	switch s.Scope.Applies {
	case belfry.AppliesSelf:
		return r.Say("rule.at", "Place", place)
	case belfry.AppliesChildren:
		return r.Say("rule.below", "Place", place)
	}
	if root {
		return r.Say("rule.anywhere")
	}
	return r.Say("rule.within", "Place", place)
}

// deeds are what is done, one part each.
func (r reading) deeds(s *belfry.Subscription) []string {
	people := r.recipients(s)
	notify := s.Notify
	if len(notify) == 0 {
		notify = []belfry.Notify{{}}
	}
	var out []string
	for _, n := range notify {
		switch {
		case n.Endpoint != "":
			out = append(out, r.Say("rule.call", "Endpoint", n.Endpoint))
		case n.Script != "" && n.Per == belfry.PerRecipient:
			out = append(out, r.Say("rule.script_each", "Script", n.Script, "Who", people))
		case n.Script != "":
			out = append(out, r.Say("rule.script", "Script", n.Script))
		case len(n.Channels) > 0:
			out = append(out, r.Say("rule.tell_by", "Who", people, "Channels", r.and(n.Channels)))
		default:
			out = append(out, r.Say("rule.tell", "Who", people))
		}
	}
	return out
}

func (r reading) recipients(s *belfry.Subscription) string {
	var out []string
	for _, rule := range s.Recipients {
		switch {
		case rule.Explicit != nil:
			who := r.namesOf(rule.Explicit.Users)
			for _, g := range rule.Explicit.Groups {
				switch group := r.known.groups[g]; {
				case g == belfry.GroupAuthenticated || g == belfry.GroupAnyone:
					who = append(who, r.Say("rule.everybody"))
				case group.Name != "":
					who = append(who, r.Say("rule.group", "Group", group.Name))
				default:
					who = append(who, r.Say("rule.group", "Group", g))
				}
			}
			out = append(out, r.few(append(who, rule.Explicit.Emails...)))
		case rule.Role != nil:
			out = append(out, r.holders(rule.Role))
		case rule.Workflow != nil:
			out = append(out, r.workers(rule.Workflow))
		case rule.Computed != nil:
			out = append(out, r.Say("rule.computed", "Expression", short(rule.Computed.Expression)))
		case rule.Related != nil && (rule.Related.Path == "" || rule.Related.Path == "related"):
			out = append(out, r.Say("rule.related"))
		case rule.Related != nil:
			out = append(out, r.Say("rule.related_path", "Path", rule.Related.Path))
		}
	}
	return r.and(append(out, r.Say("rule.joined")))
}

func (r reading) holders(rule *belfry.RoleRule) string {
	on := r.Say("rule.there")
	switch rule.On {
	case belfry.OnContainer:
		on = r.Say("rule.on_container")
	case belfry.OnDestination:
		on = r.Say("rule.on_destination")
	}
	has := func(origin string) bool { return slices.Contains(rule.Origins, origin) }
	types := r.or(rule.AncestorTypes)
	var places []string
	switch {
	case has(belfry.OriginMerged) || len(rule.Origins) == 0:
		places = append(places, on)
	case has(belfry.OriginLocal):
		places = append(places, r.Say("rule.not_above", "Place", on))
	}
	switch {
	case has(belfry.OriginAncestorMerged):
		places = append(places, r.Say("rule.closest_merged", "Types", types))
	case has(belfry.OriginAncestorLocal):
		places = append(places, r.Say("rule.closest_local", "Types", types))
	}
	return r.Say("rule.holders", "Roles", r.or(rule.Roles), "Places", r.or(places))
}

// workers are the people of a workflow rule: whoever last did submit or publish
// to it, those in reviewers of every step of its parent.
func (r reading) workers(rule *belfry.WorkflowRule) string {
	every := rule.Lookup == belfry.LookupAll
	id := "rule.step_last"
	if every {
		id = "rule.step_every"
	}
	steps := ""
	switch {
	case len(rule.Transitions) > 1 && rule.Transitions[0] == "-":
		steps = r.Say(id+"_but", "Steps", r.and(rule.Transitions[1:]))
	case len(rule.Transitions) > 0 && rule.Transitions[0] != "-" && !slices.Contains(rule.Transitions, "*"):
		steps = r.Say(id+"_of", "Steps", r.or(rule.Transitions))
	default:
		steps = r.Say(id)
	}
	var of []string
	for _, o := range rule.Origins {
		switch o {
		case belfry.OriginContainer:
			of = append(of, r.Say("rule.of_parent"))
		case belfry.OriginAncestor:
			of = append(of, r.Say("rule.of_closest", "Types", r.or(rule.AncestorTypes)))
		default:
			of = append(of, r.Say("rule.of_it"))
		}
	}
	if len(of) == 0 {
		of = []string{r.Say("rule.of_it")}
	}
	who := slices.Clone(rule.Variables)
	if len(who) == 0 {
		who = []string{belfry.VariableActor}
	}
	for i := range who {
		if who[i] == belfry.VariableActor {
			who[i] = r.Say("rule.variable_actor")
		}
	}
	text := r.Say("rule.workers", "Who", r.and(who), "Steps", steps, "Of", r.and(of))
	if rule.History == belfry.HistoryGlobal {
		text += r.Say("rule.all_places")
	}
	return text
}

// short cuts a text that is shown within a sentence.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 120 {
		return string(r[:119]) + "…"
	}
	return text
}

// namesOf are people by their names, where they have one.
func (r reading) namesOf(users []string) []string {
	out := make([]string, 0, len(users))
	for _, u := range users {
		if p := r.known.persons[u]; p != nil && p.User.Name != "" {
			out = append(out, p.User.Name)
		} else {
			out = append(out, u)
		}
	}
	return out
}

// few lists the first ones only.
func (r reading) few(who []string) string {
	if len(who) > 10 {
		rest := len(who) - 8
		who = append(slices.Clone(who[:8]), r.Say("rule.more", "Count", strconv.Itoa(rest)))
	}
	return r.and(who)
}

// and joins words: a, b and c.
func (r reading) and(list []string) string { return r.join(list, "filter.and") }

func (r reading) or(list []string) string { return r.join(list, "filter.or") }

func (r reading) join(list []string, last string) string {
	switch len(list) {
	case 0:
		return r.Say("rule.nobody")
	case 1:
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + " " + r.Say(last) + " " + list[len(list)-1]
}
