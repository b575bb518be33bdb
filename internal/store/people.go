package store

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// readPerson makes a person of what is stored of her.
func readPerson(profile, settings, preferences []byte) (*belfry.Person, error) {
	p := new(belfry.Person)
	if !plainUser(profile, &p.User) {
		p.User = belfry.User{}
		if err := json.Unmarshal(profile, &p.User); err != nil {
			return nil, err
		}
	}
	if !blank(settings) {
		if err := json.Unmarshal(settings, &p.Settings); err != nil {
			return nil, err
		}
	}
	if !blank(preferences) {
		if err := json.Unmarshal(preferences, &p.Preferences); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// blank is JSON that says nothing.
func blank(b []byte) bool {
	switch string(b) {
	case "", "{}", "[]", "null":
		return true
	}
	return false
}

// plainUser reads what most profiles are, an object of plain texts and contacts
// as encoding/json writes them; false for all others. An event to a million
// people reads a million profiles, which encoding/json does at a third of the
// cost of telling them.
func plainUser(b []byte, u *belfry.User) bool {
	r := plainReader{b: b, text: string(b)}
	return r.object(func(name string) bool {
		switch name {
		case "id":
			return r.string(&u.ID)
		case "name":
			return r.string(&u.Name)
		case "email":
			return r.string(&u.Email)
		case "locale":
			return r.string(&u.Locale)
		case "time_zone":
			return r.string(&u.TimeZone)
		case "state":
			return r.string(&u.State)
		case "origin":
			return r.string(&u.Origin)
		case "contacts":
			return r.contacts(&u.Contacts)
		}
		return false
	}) && r.at == len(b)
}

// plainReader reads JSON that encoding/json wrote, as far as it is plain: no
// spaces, no escapes, ASCII. All its methods are false where it is not.
type plainReader struct {
	b    []byte
	text string // the same; what is read is part of it
	at   int
}

func (r *plainReader) char(c byte) bool {
	if r.at < len(r.b) && r.b[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *plainReader) string(into *string) bool {
	if !r.char('"') {
		return false
	}
	for i := r.at; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			*into = r.text[r.at:i]
			r.at = i + 1
			return true
		case c == '\\' || c < ' ' || c >= utf8.RuneSelf:
			return false
		}
	}
	return false
}

// object reads an object that is not empty, calling field for each name.
func (r *plainReader) object(field func(name string) bool) bool {
	if !r.char('{') {
		return false
	}
	for {
		var name string
		if !r.string(&name) || !r.char(':') || !field(name) {
			return false
		}
		if r.char('}') {
			return true
		}
		if !r.char(',') {
			return false
		}
	}
}

// contacts reads those that say whether they are verified: what others mean is
// belfry.Contact's to say.
func (r *plainReader) contacts(into *[]belfry.Contact) bool {
	if *into != nil || !r.char('[') {
		return false
	}
	for {
		var c belfry.Contact
		said := false
		ok := r.object(func(name string) bool {
			switch name {
			case "kind":
				return r.string(&c.Kind)
			case "address":
				return r.string(&c.Address)
			case "label":
				return r.string(&c.Label)
			case "origin":
				return r.string(&c.Origin)
			case "verified":
				said = true
				return r.bool(&c.Verified)
			}
			return false
		})
		if !ok || !said {
			return false
		}
		*into = append(*into, c)
		if r.char(']') {
			return true
		}
		if !r.char(',') {
			return false
		}
	}
}

func (r *plainReader) bool(into *bool) bool {
	for _, word := range [...]string{"true", "false"} {
		if strings.HasPrefix(r.text[r.at:], word) {
			*into = word == "true"
			r.at += len(word)
			return true
		}
	}
	return false
}
