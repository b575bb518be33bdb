package manage

import (
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// readable says a subscription in words: When core.course_* happens in CPR
// (course/41) or below and shortname is "CPR", tell Ada, group Staff and
// whoever is editingteacher there by inbox and email; call endpoint ep_….
func readable(s *belfry.Subscription, known *facts) string {
	var b strings.Builder
	b.WriteString("When ")
	if len(s.Types) == 0 {
		b.WriteString("anything")
	} else {
		b.WriteString(list(s.Types, "or"))
	}
	b.WriteString(" happens ")
	b.WriteString(where(s, known))
	if len(s.ObjectTypes) > 0 {
		b.WriteString(" to objects of type " + list(s.ObjectTypes, "or"))
	}
	if s.Filter != "" {
		words, err := expr.Readable(s.Filter, "en")
		if err != nil {
			words = "its filter cannot be read"
		}
		b.WriteString(", and " + words)
	}
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
	local := len(r.Origins) > 0 && !slices.Contains(r.Origins, belfry.OriginMerged)
	if local {
		on += ", not above"
	}
	return "whoever is " + list(r.Roles, "or") + " " + on
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
