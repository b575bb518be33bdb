package manage

import (
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/words"
)

// readable says a subscription in words: When core.course_* happens in CPR
// (course/41) or below and shortname is "CPR", tell Ada, group Staff and
// whoever is editingteacher there by inbox and email; call endpoint ep_….
func readable(s *belfry.Subscription, known *facts) string {
	var b strings.Builder
	b.WriteString("When ")
	if c := s.Condition; c != nil && c.Absence != "" {
		b.WriteString(never(s))
	} else if len(s.Types) == 0 {
		b.WriteString("anything")
	} else {
		b.WriteString(list(s.Types, "or"))
	}
	b.WriteString(" happens ")
	b.WriteString(where(s, known))
	if len(s.ObjectTypes) > 0 {
		b.WriteString(" to objects of type " + list(s.ObjectTypes, "or"))
	}
	if filter := s.WholeFilter(); filter != "" {
		text, err := expr.Readable(filter, words.For(), known.labels)
		if err != nil {
			text = "its filter cannot be read"
		}
		b.WriteString(", and " + text)
	}
	b.WriteString(often(s.Condition))
	b.WriteString(": ")
	b.WriteString(strings.Join(deeds(s, known), "; "))
	if !s.ExcludesActor() {
		b.WriteString("; also whoever did it")
	}
	if n := len(s.Exclude.Users) + len(s.Exclude.Emails); n > 0 {
		b.WriteString("; but not " + few(append(namesOf(known, s.Exclude.Users), s.Exclude.Emails...)))
	}
	return b.String()
}

func where(s *belfry.Subscription, known *facts) string {
	place, root := "", s.ScopeObject() == belfry.RootObject
	switch {
	case root:
		place = "the whole site"
	case known.object != nil && known.object.Title != "":
		place = known.object.Title + " (" + s.Scope.Object + ")"
	default:
		place = s.Scope.Object
	}
	switch s.Scope.Applies {
	case belfry.AppliesSelf:
		return "at " + place + " itself"
	case belfry.AppliesChildren:
		return "directly below " + place
	}
	if root {
		return "anywhere"
	}
	return "in " + place + " or below"
}

// deeds are what is done, one part each.
func deeds(s *belfry.Subscription, known *facts) []string {
	people := recipients(s, known)
	notify := s.Notify
	if len(notify) == 0 {
		notify = []belfry.Notify{{}}
	}
	var out []string
	for _, n := range notify {
		switch {
		case n.Endpoint != "":
			out = append(out, "call endpoint "+n.Endpoint)
		case n.Script != "" && n.Per == belfry.PerRecipient:
			out = append(out, "run script "+n.Script+" for each of "+people)
		case n.Script != "":
			out = append(out, "run script "+n.Script)
		case len(n.Channels) > 0:
			out = append(out, "tell "+people+" by "+list(n.Channels, "and"))
		default:
			out = append(out, "tell "+people+" as they prefer")
		}
	}
	return out
}

func recipients(s *belfry.Subscription, known *facts) string {
	var out []string
	for _, r := range s.Recipients {
		switch {
		case r.Explicit != nil:
			who := namesOf(known, r.Explicit.Users)
			for _, g := range r.Explicit.Groups {
				switch group := known.groups[g]; {
				case g == belfry.GroupAuthenticated || g == belfry.GroupAnyone:
					who = append(who, "everybody")
				case group.Name != "":
					who = append(who, "group "+group.Name)
				default:
					who = append(who, "group "+g)
				}
			}
			out = append(out, few(append(who, r.Explicit.Emails...)))
		case r.Role != nil:
			out = append(out, holders(r.Role))
		case r.Workflow != nil:
			out = append(out, workers(r.Workflow))
		case r.Computed != nil:
			out = append(out, "those that "+short(r.Computed.Expression)+" gives")
		case r.Related != nil && (r.Related.Path == "" || r.Related.Path == "related"):
			out = append(out, "those it is about")
		case r.Related != nil:
			out = append(out, "those named by "+r.Related.Path)
		}
	}
	return list(append(out, "those who joined"), "and")
}

func holders(r *belfry.RoleRule) string {
	on := map[string]string{belfry.OnContainer: "on its container", belfry.OnDestination: "at the destination"}[r.On]
	if on == "" {
		on = "there"
	}
	has := func(origin string) bool { return slices.Contains(r.Origins, origin) }
	closest := "on the closest " + list(r.AncestorTypes, "or") + " above it"
	var places []string
	switch {
	case has(belfry.OriginMerged) || len(r.Origins) == 0:
		places = append(places, on)
	case has(belfry.OriginLocal):
		places = append(places, on+", not above")
	}
	switch {
	case has(belfry.OriginAncestorMerged):
		places = append(places, closest+" or above that")
	case has(belfry.OriginAncestorLocal):
		places = append(places, closest+", not above that")
	}
	return "whoever is " + list(r.Roles, "or") + " " + list(places, "or")
}

// workers are the people of a workflow rule: whoever last did submit or publish
// to it, those in reviewers of every step of its parent.
func workers(r *belfry.WorkflowRule) string {
	steps := "step"
	switch {
	case len(r.Transitions) > 0 && r.Transitions[0] == "-":
		if len(r.Transitions) > 1 {
			steps += " but " + list(r.Transitions[1:], "and")
		}
	case len(r.Transitions) > 0 && !slices.Contains(r.Transitions, "*"):
		steps = list(r.Transitions, "or")
	}
	if r.Lookup == belfry.LookupAll {
		steps = "every " + steps
	} else {
		steps = "the last " + steps
	}
	places := map[string]string{belfry.OriginContext: "it", belfry.OriginContainer: "its parent", belfry.OriginAncestor: "the closest " + list(r.AncestorTypes, "or") + " above it"}
	var of []string
	for _, o := range r.Origins {
		of = append(of, places[o])
	}
	if len(of) == 0 {
		of = []string{"it"}
	}
	who := r.Variables
	if len(who) == 0 {
		who = []string{belfry.VariableActor}
	}
	text := "the " + list(who, "and") + " of " + steps + " of " + list(of, "and")
	if r.History == belfry.HistoryGlobal {
		text += ", in any of its places"
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
func namesOf(known *facts, users []string) []string {
	out := make([]string, 0, len(users))
	for _, u := range users {
		if p := known.persons[u]; p != nil && p.User.Name != "" {
			out = append(out, p.User.Name)
		} else {
			out = append(out, u)
		}
	}
	return out
}

// few lists the first ones only.
func few(who []string) string {
	if len(who) > 10 {
		rest := len(who) - 8
		who = append(slices.Clone(who[:8]), strconv.Itoa(rest)+" more")
	}
	return list(who, "and")
}

// list joins words: a, b and c.
func list(words []string, last string) string {
	switch len(words) {
	case 0:
		return "nobody"
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}
