package resolve

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Holds reports whether a reason that named a user still does, as far as she can
// lose it: by leaving a group or a subscription, or by losing a role where she
// had it. No is not the last word: another one may name her instead, which
// Only knows.
func Holds(dir Directory, user string, why *belfry.Reason, now time.Time) (bool, error) {
	switch why.Code {
	case belfry.NamedGroup:
		return within(dir, why.Group, user)
	case belfry.NamedMember:
		if why.Group == "" {
			return joined(dir, why, user)
		}
		groups, err := dir.JoinedGroups(why.Subscription)
		if err != nil || !slices.ContainsFunc(groups, func(m belfry.Member) bool { return m.Principal == why.Group }) {
			return false, err
		}
		return within(dir, why.Group, user)
	case belfry.NamedRole:
		return holdsRole(dir, why, user, now)
	}
	return true, nil
}

// Left is why somebody is not told any more who has left the subscriptions by
// which alone she was named; nil where she has not, or anything else named her:
// what else may name her now is looked at when it is told. Whoever opted out left
// by that.
func Left(dir Among, user string, because []belfry.Reason, now time.Time) (*belfry.Reason, error) {
	var gone *belfry.Reason
	for i := range because {
		why := &because[i]
		if !why.Names() {
			continue
		}
		if !why.NamesJoined() {
			return nil, nil
		}
		holds, err := Holds(dir, user, why, now)
		if err != nil || holds {
			return nil, err
		}
		gone = why
	}
	if gone == nil {
		return nil, nil
	}
	outs, err := dir.OptOutsAmong(gone.Subscription, []string{user})
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(outs, func(o belfry.OptOut) bool { return o.Who == user }) { // others may be among them
		return &belfry.Reason{Code: belfry.OptedOut, Subscription: gone.Subscription}, nil
	}
	return &belfry.Reason{Code: belfry.NoLongerNamed, Subscription: gone.Subscription, Object: gone.Object}, nil
}

// Rejoined is why somebody is not told of what was planned at a time for her
// having joined, who has left since and joined again: that brings back nothing of
// what was before. result is how she is named now. Both times are those of what
// was written, the plan's in whole milliseconds.
func Rejoined(user string, because []belfry.Reason, result *PageResult, planned time.Time) *belfry.Reason {
	for i := range because {
		if because[i].Names() && !because[i].NamesJoined() {
			return nil
		}
	}
	var again *belfry.Reason
	for i := range result.Recipients {
		for k := range result.Recipients[i].Via {
			m := result.Recipients[i].Via[k].Member
			if m == nil || m.Principal != user || !m.Since.After(planned.Add(time.Millisecond)) {
				return nil
			}
			again = &belfry.Reason{Code: belfry.NoLongerNamed, Subscription: m.Subscription, Object: m.Object, Detail: "joined again on " + m.Since.UTC().Format(time.RFC3339)}
		}
	}
	return again
}

// within reports whether a user is in a group, or in one that is.
func within(dir Directory, group, user string) (bool, error) {
	seen, level := map[string]bool{group: true}, []string{group}
	for depth := 0; len(level) > 0 && depth <= MaxDepth; depth++ {
		if slices.ContainsFunc(level, IsPseudo) {
			return true, nil
		}
		found, err := dir.Groups(level)
		if err != nil {
			return false, err
		}
		var next []string
		for _, g := range found {
			if _, is := slices.BinarySearch(g.Users, user); is {
				return true, nil
			}
			for _, id := range g.Groups {
				if !seen[id] {
					seen[id] = true
					next = append(next, id)
				}
			}
		}
		level = next
	}
	return false, nil
}

func joined(dir Directory, why *belfry.Reason, user string) (bool, error) {
	_, last := utf8.DecodeLastRuneInString(user)
	after := user[:len(user)-last] // shorter, so before it
	for {
		list, err := dir.Members(why.Subscription, after, onlyChunk)
		if err != nil || len(list) == 0 {
			return false, err
		}
		for i := range list {
			switch {
			case list[i].Principal == user && list[i].Object == why.Object:
				return true, nil
			case list[i].Principal > user:
				return false, nil
			}
		}
		after = list[len(list)-1].Principal
	}
}

func holdsRole(dir Directory, why *belfry.Reason, user string, now time.Time) (bool, error) {
	grants, err := dir.Grants([]string{why.Object})
	if err != nil {
		return false, err
	}
	who, list := user, grants[why.Object].Users
	if why.Group != "" {
		who, list = why.Group, grants[why.Object].Groups
	}
	if !slices.ContainsFunc(list, func(g belfry.Grant) bool { return g.Principal == who && g.Role == why.Role && g.InactiveAt(now) == "" }) {
		return false, nil
	}
	if why.Group == "" {
		return true, nil
	}
	return within(dir, why.Group, user)
}
