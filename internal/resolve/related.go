package resolve

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

type relatedRule struct {
	match, rule int
	related     *belfry.RelatedRule
}

// wish is a rule's wish to name whoever a text stands for.
type wish struct {
	name   string
	source source
}

// wishRelated wishes for those the event is about.
func (r *run) wishRelated(rule relatedRule) {
	s := source{match: rule.match, reason: belfry.Reason{Code: belfry.NamedRelated, Subscription: r.matches[rule.match].Subscription.ID, Rule: rule.rule}}
	if p := rule.related.Path; p != "" && p != "related" {
		s.reason.Detail = p
	}
	for _, v := range relatedValues(r.e, rule.related.Path) {
		r.wishes = append(r.wishes, wish{v, s})
	}
}

// grantWishes makes names of wishes. A text is a principal if one has that id,
// else an address if it contains @, else nobody, which is recorded.
func (r *run) grantWishes(emails map[string][]int32) ([]request, error) {
	if len(r.wishes) == 0 {
		return nil, nil
	}
	said := map[source]bool{} // once for each rule: an event may hold thousands
	r.wishes = slices.DeleteFunc(r.wishes, func(w wish) bool {
		if belfry.CanBeName(w.name) {
			return false
		}
		if said[w.source] {
			return true
		}
		said[w.source] = true
		because := w.source.reason
		because.Code, because.Detail = belfry.RuleFault, "the event names "+shown(w.name)+", which is no id and no address"
		r.faults = append(r.faults, because)
		return true
	})
	var all []string
	seen := map[string]bool{}
	for i := range r.wishes {
		if v := r.wishes[i].name; !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	persons, err := r.dir.Persons(all)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, v := range all {
		if persons[v] == nil && !IsPseudo(v) {
			others = append(others, v)
		}
	}
	var groups map[string]Group
	if len(others) > 0 {
		if groups, err = r.dir.Groups(others); err != nil {
			return nil, err
		}
	}
	var requests []request
	shared := map[source]int32{} // wishes of one kind share their source
	add := func(s source) int32 {
		n, ok := shared[s]
		if !ok {
			n = r.add(s)
			shared[s] = n
		}
		return n
	}
	for i := range r.wishes {
		v, s := r.wishes[i].name, r.wishes[i].source
		_, isGroup := groups[v]
		switch {
		case persons[v] != nil:
			r.pairs = append(r.pairs, pair{v, add(s)})
		case isGroup || IsPseudo(v):
			s.reason.Group = v
			requests = append(requests, request{v, s})
		case strings.Contains(v, "@"):
			a := belfry.NormaliseEmail(v)
			emails[a] = append(emails[a], add(s))
		default:
			r.pairs = append(r.pairs, pair{v, add(s)}) // nobody known: dropped as such
		}
	}
	return requests, nil
}

// shown is a text that may be of any kind and length, as reasons show it.
func shown(text string) string {
	const most = 40
	if len(text) > most {
		return strconv.Quote(text[:most]) + "…"
	}
	return strconv.Quote(text)
}

// relatedValues are the strings at a rule's path, each once. Lists on the way
// are walked element by element; numbers count as the text they are written
// as; anything else names nobody.
func relatedValues(e *belfry.Event, path string) []string {
	if path == "" || path == "related" {
		return uniq(e.Related)
	}
	dec := json.NewDecoder(bytes.NewReader(e.Data))
	dec.UseNumber()
	var data any
	if len(e.Data) == 0 || dec.Decode(&data) != nil {
		return nil
	}
	// Both "author" and "data.author" are written; the first reading wins.
	found := walk(data, strings.Split(path, "."), nil)
	if rest, ok := strings.CutPrefix(path, "data."); ok && found == nil {
		found = walk(data, strings.Split(rest, "."), nil)
	}
	return uniq(found)
}

func walk(v any, path []string, into []string) []string {
	switch v := v.(type) {
	case []any:
		for _, el := range v {
			into = walk(el, path, into)
		}
	case map[string]any:
		if len(path) > 0 {
			if below, ok := v[path[0]]; ok {
				into = walk(below, path[1:], into)
			}
		}
	case string:
		if len(path) == 0 {
			into = append(into, v)
		}
	case json.Number:
		if len(path) == 0 {
			into = append(into, v.String())
		}
	}
	return into
}

func uniq(values []string) []string {
	seen := make(map[string]bool, len(values))
	var out []string
	for _, v := range values {
		v = strings.TrimSpace(v)
		if v != "" && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
